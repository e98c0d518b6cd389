"""Accuracies of one arm, also at 0 and 100 %."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stdcl.errors import UserError
from stdcl.statistics.difference import Population
from stdcl.statistics.proportion import accuracy, binomial_interval


@pytest.mark.parametrize("method", ["wilson", "exact"])
@pytest.mark.parametrize(("right", "total"), [(0, 30), (7, 30), (30, 30), (450, 464)])
def test_intervals_equal_scipy(method: str, right: int, total: int) -> None:
    reference = stats.binomtest(right, total).proportion_ci(0.9, method=method)
    assert binomial_interval(right, total, 0.9, method) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_everything_right_is_not_certain() -> None:
    low, high = binomial_interval(464, 464)
    assert high == 1.0
    assert 1 - low == pytest.approx(1.96**2 / (464 + 1.96**2), rel=1e-3)
    for answers in (np.ones((1, 464)), np.ones((3, 464))):
        found = accuracy(answers)
        assert (found.mean, found.interval.high) == (1.0, 1.0)
        assert found.interval.low == pytest.approx(0.025 ** (1 / 464)), "Clopper and Pearson"
    assert accuracy(np.zeros((2, 30)), np.arange(30) // 10).interval.high > 0.1
    assert accuracy(np.ones((3, 464))).over_seeds is None


def test_one_seed_without_subjects_is_nearly_clopper_and_pearson() -> None:
    answers = np.zeros(200)
    answers[:150] = 1
    found = accuracy(answers)
    reference = stats.binomtest(150, 200).proportion_ci(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((reference.low, reference.high), abs=1e-3)
    assert found.deviation is None
    assert found.interval.population is Population.OTHER_SEQUENCES


def test_alike_sequences_of_one_person_widen_the_interval() -> None:
    answers = np.repeat([1, 1, 0, 1, 0, 1, 1, 1], 25)[None].repeat(3, axis=0)
    alone = accuracy(answers).interval
    people = accuracy(answers, np.repeat(np.arange(8), 25)).interval
    assert people.high - people.low > 3 * (alone.high - alone.low)
    assert people.population is Population.OTHER_PEOPLE
    # Eight people, six of them right: as wide as it is for eight sequences, or wider (few degrees of freedom).
    assert people.low <= stats.binomtest(6, 8).proportion_ci(0.95).low


def test_seeds_alone_is_the_t_interval() -> None:
    answers = (np.random.default_rng(0).random((4, 100)) < 0.8).astype(int)
    found = accuracy(answers)
    reference = stats.ttest_1samp(answers.mean(axis=1), 0).confidence_interval(0.95)
    assert found.over_seeds is not None
    assert (found.over_seeds.low, found.over_seeds.high) == pytest.approx((reference.low, reference.high))
    assert found.deviation == pytest.approx(answers.mean(axis=1).std(ddof=1))


def test_coverage_at_high_accuracy() -> None:
    """Accuracy 97 % on 464 sequences of equal people, where a t interval is too short on one side."""
    rng = np.random.default_rng(1)
    subjects = np.repeat(np.arange(16), 29)
    count = 600
    missed = 0
    for _ in range(count):
        hard = rng.random(464) < 0.05
        found = accuracy((rng.random((3, 464)) < np.where(hard, 0.4, 1.0)).astype(int), subjects).interval
        missed += not found.low <= 0.97 <= found.high
    assert missed / count <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / count)


def test_refusals() -> None:
    with pytest.raises(UserError, match="allowed: wilson, exact"):
        binomial_interval(1, 2, method="wald")
    with pytest.raises(UserError, match="3 of 2"):
        binomial_interval(3, 2)
    with pytest.raises(UserError, match="NaN"):
        accuracy(np.array([[np.nan, 1.0]]))
