"""Power, smallest differences and needed seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from stdcl.errors import UserError
from stdcl.statistics.components import Components
from stdcl.statistics.crossed import Cells, over_both, over_clusters, spread
from stdcl.statistics.difference import compare
from stdcl.statistics.power import MANY_SEEDS, Study, plan, power_of, smallest_difference, study_of

PARTS = Components(seed=1e-5, subject=4e-4, seed_subject=0.0, sequence=0.02, rest=0.1)
STUDY = Study(PARTS, 464, (46, 46, 46, 46, 46, 46, 47, 47, 47, 47))


@pytest.mark.parametrize("size", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("n", [3, 10, 60])
def test_power_equals_statsmodels(size: float, n: int) -> None:
    reference = TTestPower().power(size, n, 0.05)
    reference = 1.0 if np.isnan(reference) else reference  # statsmodels's own limit: SciPy's noncentral t far out
    assert power_of(size / 7, 1 / math.sqrt(n) / 7, n - 1) == pytest.approx(reference, abs=2e-6)


def test_smallest_difference_has_the_power() -> None:
    for freedom in (1.0, 4.5, 9.0, 50_000.0):
        found = smallest_difference(0.01, freedom, 0.05, 0.8)
        assert power_of(found, 0.01, freedom) == pytest.approx(0.8, abs=1e-4)
    assert smallest_difference(0.01, 1e6) == pytest.approx(0.01 * (1.959964 + 0.841621), rel=1e-4)
    with pytest.raises(UserError, match="0 < alpha < power < 1"):
        smallest_difference(0.0, 5)


def test_error_of_a_study_is_the_sum_of_its_parts() -> None:
    shares = sum((c / 464) ** 2 for c in STUDY.clusters or ())
    assert STUDY.error(4) ** 2 == pytest.approx(1e-5 / 4 + 4e-4 * shares + (0.02 + 0.1 / 4) / 464)
    assert STUDY.error(1) ** 2 == pytest.approx(4e-4 * shares + 0.12 / 464), "one seed: these trained models"
    with pytest.raises(UserError, match="at least 1"):
        STUDY.error(0)


def test_more_seeds_show_less_until_sequences_limit() -> None:
    sizes = [STUDY.smallest_difference(s) for s in (2, 3, 5, 10, 100, MANY_SEEDS)]
    assert sizes == sorted(sizes, reverse=True)
    limit = STUDY.smallest_difference(MANY_SEEDS)
    assert math.isinf(STUDY.seeds_needed(limit * 0.99))
    needed = STUDY.seeds_needed(limit * 1.1)
    assert needed < MANY_SEEDS
    assert STUDY.power(limit * 1.1, int(needed)) >= 0.8 > STUDY.power(limit * 1.1, int(needed) - 1)
    assert STUDY.seeds_needed(0.5) == 2, "at least two: one seed says nothing of training again"
    with pytest.raises(UserError, match="above 0"):
        STUDY.seeds_needed(0.0)


def test_plan() -> None:
    found = plan(STUDY, 3, questions=4)
    assert found.smallest == pytest.approx(STUDY.smallest_difference(3, 0.05 / 4))
    assert dict(found.by_seeds)[3] == found.smallest
    assert found.limit < found.smallest
    assert found.one_sequence == 1 / 464
    assert found.trained_again
    assert not plan(STUDY, 1).trained_again
    with pytest.raises(UserError, match="at least 1"):
        plan(STUDY, 0)


def test_a_finished_study_is_one_to_repeat() -> None:
    rng = np.random.default_rng(0)
    answers = (rng.random((2, 3, 464)) < 0.8).astype(int)
    subjects = np.repeat(np.arange(10), STUDY.clusters)
    found = study_of(compare(answers[0], answers[1], subjects))
    assert found is not None
    assert found.clusters == STUDY.clusters
    assert study_of(compare(answers[0, :1], answers[1, :1], subjects)) is None


def test_predicted_error_is_what_studies_have() -> None:
    rng = np.random.default_rng(1)
    count, seeds, clusters = 4000, 3, np.repeat(np.arange(10), STUDY.clusters)
    d = (
        math.sqrt(PARTS.seed) * rng.normal(size=(count, seeds))
        + (math.sqrt(PARTS.subject) * rng.normal(size=(count, 10)))[:, clusters].mean(axis=1, keepdims=True)
        + math.sqrt(PARTS.sequence / 464) * rng.normal(size=(count, 1))
        + math.sqrt(PARTS.rest / 464) * rng.normal(size=(count, seeds))
    ).mean(axis=1)
    assert float(d.var()) == pytest.approx(STUDY.error(seeds) ** 2, rel=4 * math.sqrt(2 / count))


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_predicted_power_is_that_of_the_test(seeds: int) -> None:
    """Gaussian effects, so that nothing but the prediction itself is tested."""
    rng = np.random.default_rng(2)
    count, gain = 2000, 0.03
    counts = np.array(STUDY.clusters, dtype=float)
    parts = PARTS if seeds > 1 else Components(0.0, PARTS.subject, PARTS.seed_subject, PARTS.sequence, PARTS.rest)
    means = (
        gain
        + math.sqrt(parts.seed) * rng.normal(size=(count, seeds, 1))
        + np.sqrt(parts.subject + parts.sequence / counts) * rng.normal(size=(count, 1, 10))
        + np.sqrt(parts.rest / counts) * rng.normal(size=(count, seeds, 10))
    )
    of_values = (parts.sequence + parts.rest / seeds) / (parts.sequence + parts.rest)
    found = spread(Cells(means * counts, counts, 1.0, np.full(count, of_values)))
    variance, freedom = over_both(found) if seeds > 1 else over_clusters(found)
    shown = float((2 * stats.t.sf(np.abs(found.mean) / np.sqrt(variance), freedom) <= 0.05).mean())
    predicted = STUDY.power(gain, seeds)
    # Estimates of variances are not quite independent chi-squares: 0.02 beside the error of the simulation.
    assert shown == pytest.approx(predicted, abs=4 * math.sqrt(predicted * (1 - predicted) / count) + 0.02)
