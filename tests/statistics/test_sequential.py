"""Group-sequential bounds against published tables and SciPy's multivariate normal."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stdcl.errors import UserError
from stdcl.statistics.sequential import SequentialRule, Spending, Stage, nominal_levels, sequential_p, spent, stage_of

FIVE = (0.2, 0.4, 0.6, 0.8, 1.0)


def bounds(levels: tuple[float, ...]) -> list[float]:
    return [float(stats.norm.isf(level / 2)) for level in levels]


def test_published_bounds() -> None:
    """Five equal looks at two-sided 5 %: Lan and DeMets's spending functions as tabulated in textbooks."""
    found = bounds(nominal_levels(FIVE, 0.05, Spending.OBRIEN_FLEMING))
    assert found == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-3)
    found = bounds(nominal_levels(FIVE, 0.05, Spending.POCOCK))
    assert found == pytest.approx([2.4380, 2.4268, 2.4102, 2.3966, 2.3859], abs=2e-3)


@pytest.mark.parametrize("spending", list(Spending))
def test_looks_together_spend_alpha(spending: Spending) -> None:
    times = np.array([0.3, 0.5, 1.0])
    b = np.array(bounds(nominal_levels(tuple(times), 0.05, spending)))
    correlation = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    inside = stats.multivariate_normal(cov=correlation, seed=0).cdf(b, lower_limit=-b)
    assert 1 - inside == pytest.approx(0.05, abs=1e-4)
    assert spent(0.05, 1.0, spending) == pytest.approx(0.05)


def test_a_single_look_is_an_ordinary_test() -> None:
    assert nominal_levels((1.0,), 0.05, Spending.POCOCK) == pytest.approx((0.05,))
    assert sequential_p([0.0312], SequentialRule((4,))) == pytest.approx(0.0312, rel=1e-4)


@pytest.mark.parametrize("spending", list(Spending))
def test_sequential_p_is_alpha_on_the_bounds(spending: Spending) -> None:
    rule = SequentialRule((3, 5, 10), spending)
    levels = nominal_levels(rule.times, 0.05, spending)
    for k in range(3):
        p = [1.0] * k + [levels[k]]
        assert sequential_p(p, rule) == pytest.approx(0.05, rel=1e-3)
        assert sequential_p([*p[:k], levels[k] * 1.05], rule) > 0.05
    assert sequential_p([levels[0], 1.0, 1.0], rule) == pytest.approx(0.05, rel=1e-3), "a claim once made stays"
    assert sequential_p([1.0], rule) == 1.0
    assert np.isnan(sequential_p([float("nan")], rule))
    with pytest.raises(UserError, match="4 p values for the 3 looks"):
        sequential_p([0.5] * 4, rule)


def test_more_correlation_than_seeds_alone_spends_less() -> None:
    """Looks share their test sequences: they are more alike than seeds alone make them, which errs to the safe side."""
    rng = np.random.default_rng(0)
    looks, count = (3, 5, 10), 200_000
    levels = nominal_levels(SequentialRule(looks).times, 0.05, Spending.OBRIEN_FLEMING)
    seeds = rng.normal(size=(count, 10))
    for of_sequences in (0.0, 0.2, 1.0):
        shared = np.sqrt(of_sequences) * rng.normal(size=count)
        crossed = np.zeros(count, dtype=bool)
        for look, level in zip(looks, levels, strict=True):
            z = (seeds[:, :look].mean(axis=1) + shared) / np.sqrt(1 / look + of_sequences)
            crossed |= 2 * stats.norm.sf(np.abs(z)) <= level
        assert crossed.mean() <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / count), of_sequences


def test_rules_are_checked() -> None:
    assert SequentialRule((3, 5), "pocock").spending is Spending.POCOCK  # type: ignore[arg-type]
    with pytest.raises(UserError, match="did you mean 'pocock'"):
        SequentialRule((3, 5), "pocok")  # type: ignore[arg-type]
    for looks in ((), (5, 3), (3, 3), (1, 3)):
        with pytest.raises(UserError, match="ascending numbers of seeds"):
            SequentialRule(looks)
    assert SequentialRule((3, 5)).look_of(5) == 1
    assert SequentialRule((3, 5)).look_of(4) is None


def test_stage_of_a_table() -> None:
    planned, rule = [11, 12, 13, 14, 15], SequentialRule((3, 5))
    assert stage_of(planned, [15, 14, 13, 12, 11]) is Stage.FINAL
    assert stage_of(planned, [11, 12, 13]) is Stage.INCOMPLETE, "a look that no rule names"
    assert stage_of(planned, [11, 12, 13], rule) is Stage.LOOK
    assert stage_of(planned, [11, 12, 14], rule) is Stage.INCOMPLETE, "not the first three"
    assert stage_of(planned, [11, 12, 13, 14], rule) is Stage.INCOMPLETE
    assert stage_of(planned, [*planned, 16], rule) is Stage.EXPLORATORY
