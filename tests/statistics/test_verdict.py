"""The four words, and nothing else, by the rules."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from stdcl.errors import UserError
from stdcl.statistics.difference import Difference, compare
from stdcl.statistics.margins import DEFAULT_MARGINS, OTHER_DATA, default_margin
from stdcl.statistics.questions import to_baseline
from stdcl.statistics.sequential import SequentialRule, Spending, Stage, nominal_levels, sequential_p
from stdcl.statistics.significance import holm
from stdcl.statistics.verdict import Word, answer, sequential_verdicts, verdicts

SUBJECTS = np.repeat(np.arange(10), 200)


def study(gain: float, seeds: int = 3, seed: int = 0, subjects: np.ndarray | None = SUBJECTS) -> Difference:
    """2,000 sequences, a tenth of which are decided anew by each run."""
    rng = np.random.default_rng(seed)
    fixed = rng.random(2000) < 0.8
    open_ = rng.random(2000) < 0.1
    baseline, arm = (
        np.where(open_, rng.random((seeds, 2000)) < 0.5 + shift, fixed).astype(int) for shift in (0.0, 10 * gain)
    )
    return compare(baseline, arm, subjects)


def test_better_and_worse() -> None:
    found = verdicts({"up": study(0.04), "down": study(-0.04)}, margin=0.01)
    assert (found["up"].word, found["down"].word) == (Word.BETTER, Word.WORSE)
    assert found["up"].sentence.startswith("better: +")
    assert found["up"].sentence.endswith("(other people; trained again)")


def test_no_difference_larger_than_the_margin() -> None:
    found = verdicts({"q": study(0.0)}, margin=0.03)["q"]
    assert found.word is Word.NO_DIFFERENCE
    assert found.margin_resolvable
    assert "no difference larger than 3 points" in found.sentence


def test_undecided_says_what_could_have_been_shown() -> None:
    found = verdicts({"q": study(0.0)}, margin=0.001)["q"]
    assert found.word is Word.UNDECIDED
    assert not found.margin_resolvable
    assert "the margin of 0.1 points cannot be resolved" in found.sentence
    assert f"a true difference of {100 * found.smallest_difference:.2g} points would have been shown" in found.sentence
    assert found.seeds_needed is not None
    assert ("no number of seeds" in found.sentence) == math.isinf(found.seeds_needed)


def test_a_difference_within_the_margin_is_said() -> None:
    found = verdicts({"q": study(0.04)}, margin=0.2)["q"]
    assert found.word is Word.BETTER
    assert ", and less than the margin of 20 points, p " in found.sentence


def test_an_estimate_within_the_margin_is_no_difference_within_it() -> None:
    """The interval reaches past the margin: the second test does not reject."""
    difference = study(0.04)
    margin = (difference.estimate + difference.interval.high) / 2
    found = verdicts({"q": difference}, margin)["q"]
    assert found.word is Word.BETTER
    assert found.p_equivalence > found.alpha
    assert f"; not shown to be less than the margin of {100 * margin:.2g} points" in found.sentence


def test_holm_over_the_table() -> None:
    family = {f"q{k}": study(0.012, seed=k) for k in range(5)}
    found = verdicts(family, margin=0.01)
    adjusted = holm([each.p for each in family.values()])
    for (name, verdict), p in zip(found.items(), adjusted, strict=True):
        assert verdict.p == pytest.approx(p)
        assert (verdict.word in (Word.BETTER, Word.WORSE)) == (p <= 0.05), name
        assert verdict.questions == 5
    alone = [name for name, each in family.items() if verdicts({name: each}, 0.01)[name].word is Word.BETTER]
    assert len(alone) > sum(v.word is Word.BETTER for v in found.values()), "alone, more of them are called better"
    assert found["q0"].smallest_difference > verdicts({"q0": family["q0"]}, 0.01)["q0"].smallest_difference


def test_an_interval_without_0_that_is_undecided_says_why() -> None:
    rare = replace(study(0.012), p=0.03)
    rare = replace(rare, interval=replace(rare.interval, low=0.001, high=0.02))
    alone = verdicts({"q": rare}, margin=0.01)["q"]
    assert (alone.word, alone.not_enough) == (Word.BETTER, "")
    found = verdicts({"q": rare, "a": study(0.0), "b": study(0.0, seed=1)}, margin=0.001)
    assert found["q"].word is Word.UNDECIDED
    assert found["q"].not_enough == "not enough for 3 questions"
    assert "+2.00], not enough for 3 questions: p 0.090 where 0.05 is needed; a true" in found["q"].sentence
    assert not found["a"].not_enough, "its interval holds 0"
    assert not verdicts({"q": rare}, margin=0.01, stage=Stage.INCOMPLETE)["q"].not_enough, "that says it already"
    one = replace(rare, mcnemar=study(0.08, seeds=1).mcnemar, p=0.06)
    assert verdicts({"q": one}, margin=0.001)["q"].not_enough == "not enough for the exact test"


def test_one_seed() -> None:
    found = verdicts({"q": study(0.08, seeds=1)}, margin=0.01)["q"]
    assert found.word is Word.BETTER
    assert found.seeds_needed is None
    assert "these trained models" in found.sentence
    assert found.sentence.endswith("one seed says nothing of training again")


def test_without_subjects_the_sentence_says_these_sequences() -> None:
    assert "(these sequences" in verdicts({"q": study(0.0, subjects=None)}, margin=0.01)["q"].sentence


def test_equal_answers_are_pointed_out() -> None:
    answers = np.ones((3, 464))
    assert "are these runs the same?" in verdicts({"q": compare(answers, answers)}, margin=0.01)["q"].sentence


def test_an_incomplete_table_has_no_other_word_than_undecided() -> None:
    found = verdicts({"q": study(0.08)}, margin=0.01, stage=Stage.INCOMPLETE)["q"]
    assert found.word is Word.UNDECIDED
    assert found.sentence.startswith("incomplete, undecided")
    found = verdicts({"q": study(0.08)}, margin=0.01, stage=Stage.EXPLORATORY)["q"]
    assert found.sentence.startswith("exploratory, better")


def test_looks() -> None:
    rule = SequentialRule((3, 5), Spending.OBRIEN_FLEMING)
    first = nominal_levels(rule.times, 0.05, rule.spending)[0]
    look = study(0.05)
    early = {"q": [replace(look, p=first * 0.99)]}
    late = {"q": [replace(look, p=0.04)]}
    assert sequential_verdicts(early, 0.01, rule)["q"].word is Word.BETTER
    found = sequential_verdicts(late, 0.01, rule)["q"]
    assert found.word is not Word.BETTER, "0.04 at the first of two looks is no evidence yet"
    assert found.stage is Stage.LOOK
    both = {"q": [replace(look, p=0.04), replace(study(0.05, seeds=5), p=0.04)]}
    found = sequential_verdicts(both, 0.01, rule)["q"]
    assert (found.word, found.stage) == (Word.BETTER, Stage.FINAL)
    with pytest.raises(UserError, match=r"differences of \[5\] seeds"):
        sequential_verdicts({"q": [study(0.05, seeds=5)]}, 0.01, rule)
    with pytest.raises(UserError, match="same looks"):
        sequential_verdicts({**early, "r": both["q"]}, 0.01, rule)


def test_equivalence_at_looks_is_corrected_too() -> None:
    rule = SequentialRule((3, 5), Spending.POCOCK)
    look = study(0.0)
    single = verdicts({"q": look}, 0.03)["q"]
    looked = sequential_verdicts({"q": [look]}, 0.03, rule)["q"]
    assert looked.p_equivalence > single.p_equivalence


def runs_of(gains: dict[str, float], seeds: tuple[int, ...]) -> dict[str, dict[int, np.ndarray]]:
    """Per arm and seed: 2,000 sequences, a tenth of which are decided anew by each run."""
    fixed = np.random.default_rng(0).random(2000) < 0.8
    open_ = np.random.default_rng(1).random(2000) < 0.1

    def run(arm: int, gain: float, seed: int) -> np.ndarray:
        rng = np.random.default_rng([arm, seed])
        return np.where(open_, rng.random(2000) < 0.5 + 10 * gain, fixed).astype(int)

    return {arm: {s: run(k, gain, s) for s in seeds} for k, (arm, gain) in enumerate(gains.items())}


def test_a_table_is_answered_in_one_call() -> None:
    planned = (7, 3, 5)
    runs = runs_of({"none": 0.0, "a": 0.045, "b": 0.0, "c": 0.0}, planned)
    runs["c"] = {}
    questions = to_baseline(list(runs), "none")
    found = answer(runs, questions, 0.03, planned, SUBJECTS)
    a, b = found["a - none"], found["b - none"]
    assert a is not None
    assert b is not None
    assert found["c - none"] is None
    assert (a.word, b.word) == (Word.BETTER, Word.NO_DIFFERENCE)
    assert a.questions == 3, "a question without runs was asked all the same"
    direct = compare(*(np.stack([runs[arm][s] for s in planned]) for arm in ("none", "a")), SUBJECTS)
    assert a.difference.interval.error == pytest.approx(direct.interval.error)
    assert a.p == pytest.approx(3 * direct.p)
    kept = np.arange(2000) % 2 == 0
    half = answer(runs, questions, 0.03, planned, SUBJECTS, kept=kept)["a - none"]
    assert half is not None
    assert half.difference.sequences == 1000


def test_a_table_before_and_beyond_its_plan() -> None:
    runs = runs_of({"none": 0.0, "a": 0.045}, (1, 2, 3))
    questions = to_baseline(list(runs), "none")

    def stage(planned: tuple[int, ...], rule: SequentialRule | None = None) -> tuple[Stage, Word]:
        found = answer(runs, questions, 0.01, planned, SUBJECTS, rule=rule)["a - none"]
        assert found is not None
        return found.stage, found.word

    assert stage((1, 2, 3)) == (Stage.FINAL, Word.BETTER)
    assert stage((1, 2, 3, 4)) == (Stage.INCOMPLETE, Word.UNDECIDED)
    assert stage((1, 2)) == (Stage.EXPLORATORY, Word.BETTER)
    assert stage((1, 2, 3, 4), SequentialRule((3, 4), Spending.POCOCK)) == (Stage.LOOK, Word.BETTER)
    with pytest.raises(UserError, match="the last look is after all of them"):
        stage((1, 2, 3, 4), SequentialRule((3, 5)))


def test_looks_of_a_table_are_in_the_order_of_the_plan() -> None:
    planned, rule = (9, 1, 5, 2), SequentialRule((2, 4), Spending.POCOCK)
    runs = runs_of({"none": 0.0, "a": 0.02}, planned)
    found = answer(runs, to_baseline(list(runs), "none"), 0.01, planned, SUBJECTS, rule=rule)["a - none"]
    assert found is not None
    first, last = (
        compare(*(np.stack([runs[arm][s] for s in planned[:look]]) for arm in ("none", "a")), SUBJECTS).p
        for look in (2, 4)
    )
    assert found.p == pytest.approx(sequential_p([first, last], rule))


def test_a_table_refuses() -> None:
    runs = runs_of({"none": 0.0, "a": 0.0}, (1, 2))
    with pytest.raises(UserError, match="no runs of arm 'b'"):
        answer(runs, to_baseline(["none", "b"], "none"), 0.01, (1, 2))
    with pytest.raises(UserError, match="occurs twice"):
        answer(runs, to_baseline(list(runs), "none") * 2, 0.01, (1, 2))


def test_bad_levels_are_refused() -> None:
    for kwargs in ({"alpha": 0.0}, {"alpha": 0.9}, {"power": 1.0}):
        with pytest.raises(UserError, match="0 < alpha < power < 1"):
            verdicts({"q": study(0.0)}, 0.01, **kwargs)
    with pytest.raises(UserError, match="margin"):
        verdicts({"q": study(0.0)}, 0.0)


def test_default_margins_have_reasons() -> None:
    assert default_margin("nw-ucla") is DEFAULT_MARGINS["nw-ucla"]
    assert default_margin("my-data") is OTHER_DATA
    for margin in (*DEFAULT_MARGINS.values(), OTHER_DATA):
        assert 0 < margin.size < 0.05
        assert margin.reason.startswith(f"{100 * margin.size:g} point")
