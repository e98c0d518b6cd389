"""Variance components: unbiased on planted effects, and what they say of other studies."""

from __future__ import annotations

import numpy as np
import pytest

from stdcl.errors import UserError
from stdcl.statistics.components import ASSUMED, MEASURED, Components, default_components, estimate_components

COUNTS = (3, 9, 5, 1, 12)
WHO = np.repeat(np.arange(5), COUNTS)


def planted(rng: np.random.Generator, true: Components, seeds: int) -> np.ndarray:
    def normal(variance: float, *size: int) -> np.ndarray:
        return np.sqrt(variance) * rng.normal(size=size)

    return (
        normal(true.seed, seeds, 1)
        + normal(true.subject, 1, 5)[:, WHO]
        + normal(true.seed_subject, seeds, 5)[:, WHO]
        + normal(true.sequence, 1, len(WHO))
        + normal(true.rest, seeds, len(WHO))
    )


def test_estimates_are_unbiased() -> None:
    rng = np.random.default_rng(0)
    true = Components(seed=0.5, subject=1.0, seed_subject=0.7, sequence=2.0, rest=1.5)
    found = np.array([list(vars(estimate_components(planted(rng, true, 3), WHO)).values()) for _ in range(6000)])
    for mean, error, (name, value) in zip(
        found.mean(axis=0), found.std(axis=0) / np.sqrt(len(found)), vars(true).items(), strict=True
    ):
        assert mean == pytest.approx(value, abs=4 * error), name


def test_estimates_without_subjects_are_the_analysis_of_variance() -> None:
    values = np.random.default_rng(1).normal(size=(4, 15))
    found = estimate_components(values, None)
    rows, columns, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    rest = ((values - rows[:, None] - columns + mean) ** 2).sum() / (3 * 14)
    assert found.rest == pytest.approx(rest)
    assert found.sequence == pytest.approx((4 * ((columns - mean) ** 2).sum() / 14 - rest) / 4)
    assert found.seed == pytest.approx((15 * ((rows - mean) ** 2).sum() / 3 - rest) / 15)
    assert (found.subject, found.seed_subject) == (0.0, 0.0)


def test_variance_of_another_study() -> None:
    parts = Components(seed=1e-4, subject=2e-4, seed_subject=3e-4, sequence=0.05, rest=0.1)
    assert parts.limit(400, 0.1) == pytest.approx(2e-5 + 0.05 / 400)
    assert parts.per_seed(400, 0.1) == pytest.approx(1e-4 + 3e-5 + 0.1 / 400)
    assert Components(-1.0, 1.0, -2.0, 0.0, 3.0).clipped() == Components(0.0, 1.0, 0.0, 0.0, 3.0)


def test_too_little_is_refused() -> None:
    with pytest.raises(UserError, match="one seed"):
        estimate_components(np.zeros((1, 5)), None)
    with pytest.raises(UserError, match="needs two"):
        estimate_components(np.zeros((2, 3)), np.arange(3))


def test_defaults_for_planning() -> None:
    assert default_components("nw-ucla") is MEASURED["nw-ucla"]
    assert default_components("my-data") is ASSUMED
    for each in (*MEASURED.values(), ASSUMED):
        assert each.components == each.components.clipped()
        assert each.reason
