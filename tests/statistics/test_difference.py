"""Differences of arms: agreement with SciPy where it has the case, populations, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stdcl.errors import UserError
from stdcl.statistics.difference import Population, compare, contrast

RNG = np.random.default_rng(0)
SUBJECTS = np.repeat(np.arange(8), 25)
BASELINE = (RNG.random((4, 200)) < 0.7).astype(int)
ARM = (RNG.random((4, 200)) < 0.78).astype(int)


def test_estimate_and_seeds_alone_are_the_paired_t_test() -> None:
    found = compare(BASELINE, ARM, SUBJECTS)
    per_seed = ARM.mean(axis=1) - BASELINE.mean(axis=1)
    reference = stats.ttest_rel(ARM.mean(axis=1), BASELINE.mean(axis=1))
    low, high = reference.confidence_interval(0.95)
    assert found.estimate == pytest.approx(per_seed.mean())
    assert found.per_seed == pytest.approx(tuple(per_seed))
    assert found.over_seeds is not None
    assert (found.over_seeds.low, found.over_seeds.high) == pytest.approx((low, high))
    assert found.signs == (int((per_seed > 0).sum()), int((per_seed == 0).sum()), int((per_seed < 0).sum()))


def test_one_seed_is_the_t_test_over_people_beside_mcnemar() -> None:
    found = compare(BASELINE[:1], ARM[:1], SUBJECTS)
    per_person = (ARM[0] - BASELINE[0]).reshape(8, 25).mean(axis=1)
    reference = stats.ttest_1samp(per_person, 0)
    gained, lost = int((ARM[0] > BASELINE[0]).sum()), int((ARM[0] < BASELINE[0]).sum())
    exact = stats.binomtest(gained, gained + lost).pvalue
    assert found.mcnemar is not None
    assert found.mcnemar.p == pytest.approx(exact)
    # The floor of two sequences makes the t test a little more careful.
    error = np.sqrt(per_person.var(ddof=1) / 8 + 2 / 200**2)
    assert found.interval.error == pytest.approx(error)
    assert found.interval.freedom == 7
    assert found.p == pytest.approx(max(exact, 2 * stats.t.sf(abs(per_person.mean()) / error, 7)))
    assert found.p >= reference.pvalue
    assert (found.over_seeds, found.same_people, found.components) == (None, None, None)


def test_populations_are_named() -> None:
    people = compare(BASELINE, ARM, SUBJECTS)
    assert people.interval.covers == "other people; trained again"
    assert people.over_sequences.covers == "other people; these trained models"
    assert people.same_people is not None
    assert people.same_people.covers == "other sequences, each counted as independent; trained again"
    assert people.over_seeds is not None
    assert people.over_seeds.covers == "these sequences; trained again"
    nobody = compare(BASELINE, ARM)
    assert nobody.interval.population is Population.THESE_SEQUENCES
    assert nobody.over_sequences.population is Population.OTHER_SEQUENCES
    assert nobody.subjects is None
    assert nobody.same_people is None
    one = compare(BASELINE[:1], ARM[:1], SUBJECTS)
    assert not one.interval.trained_again


def test_without_subjects_equals_a_subject_per_sequence() -> None:
    one = compare(BASELINE, ARM)
    other = compare(BASELINE, ARM, np.arange(200))
    assert one.interval.low == pytest.approx(other.interval.low)
    assert one.interval.error == pytest.approx(other.interval.error)


def test_order_of_sequences_and_names_of_subjects_do_not_matter() -> None:
    order = np.random.default_rng(1).permutation(200)
    names = np.array([f"P{each:03d}" for each in SUBJECTS])
    one = compare(BASELINE, ARM, SUBJECTS)
    other = compare(BASELINE[:, order], ARM[:, order], names[order])
    assert one.interval.error == pytest.approx(other.interval.error)
    assert one.p == pytest.approx(other.p)


def test_swapped_arms_change_the_sign_alone() -> None:
    for seeds in (1, 4):
        one, other = (compare(a[:seeds], b[:seeds], SUBJECTS) for a, b in ((BASELINE, ARM), (ARM, BASELINE)))
        assert other.estimate == pytest.approx(-one.estimate)
        assert other.p == pytest.approx(one.p)
        assert other.interval.low == pytest.approx(-one.interval.high)


def test_a_contrast_of_three_arms() -> None:
    third = 1 - ARM
    found = contrast({"a": BASELINE, "b": ARM, "c": third}, {"a": -0.5, "b": -0.5, "c": 1.0}, SUBJECTS)
    assert found.estimate == pytest.approx(third.mean() - (BASELINE.mean() + ARM.mean()) / 2)
    assert found.mcnemar is None


def test_equal_answers() -> None:
    found = compare(BASELINE, BASELINE, SUBJECTS)
    assert found.identical
    assert found.estimate == 0.0
    assert found.p == 1.0
    assert found.over_seeds is None
    assert found.interval.high > 1 / 200, "to see no difference is not to know that there is none"


def test_everything_right_against_everything_wrong() -> None:
    found = compare(np.zeros((3, 50)), np.ones((3, 50)))
    assert found.estimate == 1.0
    assert found.interval.high == 1.0
    assert found.p < 1e-6


def test_interval_covers_more_than_each_chance_alone_where_both_act() -> None:
    rng = np.random.default_rng(3)
    harder = rng.random(200) < 0.5
    arm = np.array([np.where(harder, rng.random(200) < share, rng.random(200) < 0.7) for share in (0.9, 0.5, 0.8, 0.3)])
    found = compare(BASELINE, arm.astype(int))
    assert found.over_seeds is not None
    assert found.interval.error > found.over_seeds.error
    assert found.interval.error > found.over_sequences.error


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: compare(BASELINE, ARM[:2]), "common seeds"),
        (lambda: compare(BASELINE, ARM[:, :50]), "common seeds"),
        (lambda: compare(BASELINE, np.where(ARM == 0, np.nan, 1.0)), "NaN"),
        (lambda: compare(BASELINE, ARM, SUBJECTS[:10]), "one subject per sequence"),
        (lambda: compare(BASELINE, ARM, level=95), "confidence level 95"),
        (lambda: compare(BASELINE[:, :1], ARM[:, :1]), "one test sequence"),
        (lambda: contrast({"a": ARM}, {"a": 1.0}), "sum to 1"),
        (lambda: contrast({"a": ARM}, {"a": 1.0, "b": -1.0}), "no answers of arm 'b'"),
    ],
)
def test_refusals(call, said: str) -> None:
    with pytest.raises(UserError, match=said):
        call()


@pytest.mark.parametrize("seeds", range(1, 11))
@pytest.mark.parametrize("subjects", [None, np.repeat(np.arange(5), 12)], ids=["alone", "people"])
def test_any_number_of_seeds_and_any_answers(seeds: int, subjects: np.ndarray | None) -> None:
    rng = np.random.default_rng(seeds)
    some = (rng.random((seeds, 60)) < 0.5).astype(int)
    right, wrong = np.ones((seeds, 60)), np.zeros((seeds, 60))
    one = right.copy()
    one[0, 0] = 0
    for baseline, arm in ((some, right), (right, right), (wrong, right), (right, one), (some, some[::-1])):
        found = compare(baseline, arm, subjects)
        assert -1 <= found.interval.low <= found.estimate <= found.interval.high <= 1
        assert found.interval.low < found.interval.high
        assert 0 <= found.p <= 1
        assert found.interval.freedom >= 1
