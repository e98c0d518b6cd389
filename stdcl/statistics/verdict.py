"""The words of a table. They come from the rules of this module, and from nowhere else.

Per question, in this order:

1. **better** or **worse**: the test of "no difference" rejects after Holm's correction over the table's questions.
2. **no difference larger than the margin**: two one-sided tests reject "at least the margin", corrected likewise.
3. **undecided**: neither. Then the smallest difference that the study could have shown is given, and how many seeds a
   fresh study would need to show a difference of the size of the margin.

False claims of the first kind are made in at most alpha of all tables, and so are false claims of the second kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import stats

from stdcl.errors import UserError
from stdcl.statistics.answers import common_seeds
from stdcl.statistics.difference import Difference, contrast
from stdcl.statistics.power import ALPHA, POWER, smallest_difference, study_of
from stdcl.statistics.questions import Question
from stdcl.statistics.sequential import SequentialRule, Stage, sequential_p, stage_of
from stdcl.statistics.significance import equivalence_p, holm

NOT_ENOUGH = (
    "not enough for N questions: an interval is of its question alone, and leaves out 0 by chance once in 20; a "
    "verdict has to hold for all questions of the table together"
)


class Word(StrEnum):
    """What may be said of a question."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference larger than the margin"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Verdict:
    """The answer to one question of a family.

    Attributes:
        word: one of the four.
        difference: what it was judged by.
        p: p of "no difference" after correction over looks and questions.
        p_equivalence: p of "at least the margin" after the same corrections.
        margin: equivalence margin, a fraction.
        smallest_margin: smallest margin that this study could confirm, had it seen no difference at all.
        smallest_difference: smallest true difference that this study would have shown with chance ``power``.
        seeds_needed: seeds of a fresh study that shows a difference of the size of the margin with chance ``power``;
            inf where the test sequences limit; None where one seed cannot tell.
        questions: size of the family.
        alpha, power: error level of the family, and the chance above.
        stage: whether the seeds are those planned.
    """

    word: Word
    difference: Difference
    p: float
    p_equivalence: float
    margin: float
    smallest_margin: float
    smallest_difference: float
    seeds_needed: float | None
    questions: int
    alpha: float
    power: float
    stage: Stage

    @property
    def margin_resolvable(self) -> bool:
        """Whether these data could have confirmed the margin at all."""
        return self.margin >= self.smallest_margin

    @property
    def not_enough(self) -> str:
        """Why a question is undecided although its own interval leaves 0 out, for example "not enough for 8 questions".

        An interval is of its question alone. A word also has to hold for all questions and looks of the table, and for
        the exact test where there is one seed. Empty for every other verdict, and for an incomplete one.
        """
        interval = self.difference.interval
        if self.word is not Word.UNDECIDED or self.stage is Stage.INCOMPLETE or interval.low <= 0.0 <= interval.high:
            return ""
        if self.difference.p > self.alpha and self.difference.mcnemar is not None:
            return "not enough for the exact test"
        if self.questions > 1:
            return f"not enough for {self.questions} questions"
        return f"not enough at this {'look' if self.stage is Stage.LOOK else 'level'}"

    @property
    def sentence(self) -> str:
        """The verdict with its interval, population and reasons."""
        d = self.difference
        interval = f"{_points(d.estimate)} points [{_points(d.interval.low)}, {_points(d.interval.high)}]"
        margin = _size(self.margin)
        if self.word in (Word.BETTER, Word.WORSE):
            said = f"{self.word}: {interval}, p {_p(self.p)}"
            if self.p_equivalence <= self.alpha:
                said += f", and less than the margin of {margin}, p {_p(self.p_equivalence)}"
            elif abs(d.estimate) < self.margin:
                said += f"; not shown to be less than the margin of {margin}"
        elif self.word is Word.NO_DIFFERENCE:
            said = f"no difference larger than {margin}: {interval}, p {_p(self.p_equivalence)}"
        else:
            reason = f", {self.not_enough}: p {_p(self.p)} where {self.alpha:.2g} is needed" if self.not_enough else ""
            said = (
                f"undecided: {interval}{reason}; a true difference of {_size(self.smallest_difference)} would have "
                f"been shown with a chance of {100 * self.power:.0f} %"
            )
            if self.seeds_needed is not None and math.isinf(self.seeds_needed):
                said += f"; no number of seeds shows {margin} on these test sequences"
            elif self.seeds_needed is not None:
                said += f"; a fresh study needs {self.seeds_needed:.0f} seeds to show {margin}"
            if not self.margin_resolvable:
                said += (
                    f"; the margin of {margin} cannot be resolved: these data confirm no margin below "
                    f"{_size(self.smallest_margin)}"
                )
        said += f" ({d.interval.covers})"
        if d.identical:
            said += "; no answer differs: are these runs the same?"
        if d.seeds == 1:
            said += "; one seed says nothing of training again"
        if self.stage in (Stage.EXPLORATORY, Stage.INCOMPLETE):
            said = f"{self.stage}, {said}"
        return said


@dataclass(frozen=True)
class Looks:
    """What is known of a question.

    Attributes:
        differences: at each look so far; the last is over all finished seeds.
        stage: whether the seeds are those planned.
        rule: the looks that the sweep file names; None where there is one look at the end.
    """

    differences: tuple[Difference, ...]
    stage: Stage
    rule: SequentialRule | None = None


def verdicts(
    family: Mapping[str, Difference],
    margin: float,
    *,
    alpha: float = ALPHA,
    power: float = POWER,
    stage: Stage | Mapping[str, Stage] = Stage.FINAL,
) -> dict[str, Verdict]:
    """Judge all questions of one table together.

    Args:
        family: per question its difference.
        margin: equivalence margin, a fraction, named before the sweep ran.
        alpha: error level of the family.
        power: chance for the smallest difference and the seeds needed.
        stage: see ``sequential.stage_of``; of all questions, or of each. An incomplete question gets no other word than
            "undecided".

    Raises:
        UserError: the margin is not above 0, or alpha or power is not between 0 and 1.
    """
    stages = dict.fromkeys(family, stage) if isinstance(stage, Stage) else stage
    return judged({name: Looks((each,), stages[name]) for name, each in family.items()}, margin, 0, alpha, power)


def sequential_verdicts(
    family: Mapping[str, Sequence[Difference]],
    margin: float,
    rule: SequentialRule,
    *,
    alpha: float = ALPHA,
    power: float = POWER,
) -> dict[str, Verdict]:
    """Judge all questions of one table after the last look taken.

    Args:
        family: per question the difference at each look so far, of the first ``rule.looks[k]`` seeds.
        margin, alpha, power: as in ``verdicts``.
        rule: the looks of the sweep file.

    Raises:
        UserError: numbers of seeds are not those of the looks; see also ``verdicts``.
    """
    for name, looks in family.items():
        seeds = [each.seeds for each in looks]
        if not seeds or tuple(seeds) != rule.looks[: len(seeds)]:
            raise UserError(f"{name}: differences of {seeds} seeds; the looks are {list(rule.looks)}, in this order")
    if len({len(looks) for looks in family.values()}) > 1:
        raise UserError("looks: all questions of a table are judged at the same looks")
    last = max((len(looks) for looks in family.values()), default=0) == len(rule.looks)
    stage = Stage.FINAL if last else Stage.LOOK
    return judged({n: Looks(tuple(each), stage, rule) for n, each in family.items()}, margin, 0, alpha, power)


def answer(
    runs: Mapping[str, Mapping[int, np.ndarray]],
    questions: Sequence[Question],
    margin: float,
    planned: Sequence[int],
    subjects: np.ndarray | None = None,
    *,
    kept: np.ndarray | None = None,
    rule: SequentialRule | None = None,
    alpha: float = ALPHA,
    power: float = POWER,
) -> dict[str, Verdict | None]:
    """Answer the questions of a table from its runs: pairing, family, looks and words in one call.

    Args:
        runs: per arm and seed the (N,) answers, 1 right and 0 wrong, of the same sequences in the same order.
        questions: see ``questions.py``.
        margin: equivalence margin, a fraction.
        planned: seeds of the sweep file, in its order.
        subjects: (N,) subject per sequence; None where the data have none.
        kept: (N,) bool, sequences to count; see ``answers.without``.
        rule: looks of the sweep file. A question is judged at every look that its finished seeds reach.
        alpha, power: as in ``verdicts``.

    Returns:
        per question its verdict; None where no seed is finished in all of its arms. Such questions count in the family.

    Raises:
        UserError: an arm without any run, answers that do not fit, or two questions of one name.
    """
    names = [question.name for question in questions]
    if len(set(names)) < len(names):
        raise UserError(f"questions: a name occurs twice: {', '.join(names)}")
    found = {question.name: looks_of(runs, question, planned, subjects, kept=kept, rule=rule) for question in questions}
    known = {name: each for name, each in found.items() if each is not None}
    verdict = judged(known, margin, len(found) - len(known), alpha, power)
    return {name: verdict.get(name) for name in found}


def looks_of(
    runs: Mapping[str, Mapping[int, np.ndarray]],
    question: Question,
    planned: Sequence[int],
    subjects: np.ndarray | None = None,
    *,
    kept: np.ndarray | None = None,
    rule: SequentialRule | None = None,
) -> Looks | None:
    """Pair the runs of one question by seed, and compare its arms at every look that the finished seeds reach.

    Args:
        runs, planned, subjects, kept, rule: as in ``answer``.
        question: its coefficients name arms of ``runs``.

    Returns:
        None where no seed is finished in all of its arms.

    Raises:
        UserError: an arm without any run, answers that do not fit, or looks that do not end with the planned seeds.
    """
    if rule is not None and rule.looks[-1] != len(planned):
        raise UserError(
            f"looks: {list(rule.looks)} for {len(planned)} planned seeds; the last look is after all of them"
        )
    unknown = [arm for arm in question.coefficients if arm not in runs]
    if unknown:
        raise UserError(f"{question.name}: no runs of arm '{unknown[0]}'; there are {', '.join(runs)}")
    mine = {arm: runs[arm] for arm in question.coefficients}
    if not set.intersection(*(set(each) for each in mine.values())):
        return None
    chosen = slice(None) if kept is None else kept
    who = None if subjects is None else np.asarray(subjects)[chosen]
    seeds, answers = common_seeds(mine)
    stage = stage_of(planned, seeds, rule)
    # In the order of the plan, which is that of the looks; seeds that it does not name come last.
    order = sorted(range(len(seeds)), key=lambda i: planned.index(seeds[i]) if seeds[i] in planned else len(planned))
    counts = [len(seeds)]
    if rule is not None and stage in (Stage.LOOK, Stage.FINAL):
        counts = [look for look in rule.looks if look <= len(seeds)]
    differences = tuple(
        contrast({arm: each[order[:count]][:, chosen] for arm, each in answers.items()}, question.coefficients, who)
        for count in counts
    )
    return Looks(differences, stage, rule)


def judged(
    family: Mapping[str, Looks],
    margin: float,
    unanswered: int = 0,
    alpha: float = ALPHA,
    power: float = POWER,
) -> dict[str, Verdict]:
    """Judge all questions of one table together, whichever sequences each is about.

    Args:
        family: per question what ``looks_of`` found.
        margin, alpha, power: as in ``verdicts``.
        unanswered: questions of the family that have no difference yet.
    """
    if not 0.0 < alpha < power < 1.0:
        raise UserError(f"verdict: alpha {alpha:g}, power {power:g}; expected 0 < alpha < power < 1")
    differing: list[float] = []
    equivalent: list[float] = []
    for taken in family.values():
        looks = taken.differences
        by_rule = taken.rule if taken.stage in (Stage.LOOK, Stage.FINAL) else None
        none = [each.p for each in looks]
        large = [equivalence_p(each.estimate, each.interval.error, each.interval.freedom, margin) for each in looks]
        differing.append(none[-1] if by_rule is None else sequential_p(none, by_rule))
        # One-sided tests at level alpha are held against two-sided bounds of level 2 alpha.
        doubled = [min(1.0, 2.0 * v) for v in large]
        equivalent.append(large[-1] if by_rule is None else sequential_p(doubled, by_rule) / 2.0)
    missing = [math.nan] * unanswered
    count = len(family) + unanswered
    adjusted = zip(family.items(), holm([*differing, *missing]), holm([*equivalent, *missing]), strict=False)
    out = {}
    for (name, taken), p, q in adjusted:
        last, stage = taken.differences[-1], taken.stage
        word = Word.UNDECIDED
        if stage is not Stage.INCOMPLETE:
            if p <= alpha:
                word = Word.BETTER if last.estimate > 0 else Word.WORSE
            elif q <= alpha:
                word = Word.NO_DIFFERENCE
        study = study_of(last)
        error, freedom = last.interval.error, last.interval.freedom
        out[name] = Verdict(
            word=word,
            difference=last,
            p=p,
            p_equivalence=q,
            margin=margin,
            smallest_margin=float(stats.t.ppf(1.0 - alpha / count, freedom)) * error,
            smallest_difference=smallest_difference(error, freedom, alpha / count, power),
            seeds_needed=None if study is None else study.seeds_needed(margin, alpha / count, power),
            questions=count,
            alpha=alpha,
            power=power,
            stage=stage,
        )
    return out


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def _size(fraction: float) -> str:
    points = f"{100 * fraction:.2g}" if fraction < 0.995 else "100"  # never 1e+02
    return f"{points} point{'' if points == '1' else 's'}"


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"
