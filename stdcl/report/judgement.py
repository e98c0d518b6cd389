"""The questions of a sweep's table and their answers: one family of tests, by the rules of ``stdcl/statistics``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stdcl.config.arms import BASELINE
from stdcl.config.model import is_baseline
from stdcl.config.sweep import SweepConfig
from stdcl.report.answers import SweepAnswers
from stdcl.report.labels import pair_name, settings_text, short_names
from stdcl.report.load import TrialState
from stdcl.results.comparable import sequences_key
from stdcl.statistics.difference import Difference
from stdcl.statistics.margins import Margin, default_margin
from stdcl.statistics.power import ALPHA
from stdcl.statistics.proportion import Accuracy, accuracy
from stdcl.statistics.questions import Question, Scale, trend
from stdcl.statistics.sequential import SequentialRule, Spending
from stdcl.statistics.verdict import Verdict, answer


@dataclass(frozen=True)
class Arm:
    """A line of a sweep's comparison: one configuration, over its seeds.

    Attributes:
        name: of the arm.
        parameters: dotted key -> value, of what the sweep varies beside its arms.
        trials: one per seed.
        reference: index of the line that it is compared with; None for a reference or without one.
        stated: whether the sweep's file states its arms, so that the name says which line this is.
    """

    name: str
    parameters: Mapping[str, Any]
    trials: tuple[TrialState, ...]
    reference: int | None
    stated: bool = False


@dataclass(frozen=True)
class Asked:
    """A question and its answer.

    Attributes:
        question: its coefficients are by ``str`` of an arm's index.
        arm: index of the arm that is compared with another; None for a trend.
        other: index of that other.
        verdict: None where no seed is finished, with scores, in all of the question's arms.
        without_copies: the difference over the sequences that are no copies of training sequences; None where there
            are no copies, or no verdict.
    """

    question: Question
    arm: int | None
    other: int | None
    verdict: Verdict | None
    without_copies: Difference | None


@dataclass(frozen=True)
class Judgement:
    """A table's family of questions.

    Attributes:
        asked: its questions.
        margin: the equivalence margin, and why.
        named: whether the sweep's file names the margin.
        alpha: error of the family.
        looks: numbers of seeds at which the file may be judged; empty where it names none.
    """

    asked: tuple[Asked, ...]
    margin: Margin
    named: bool
    alpha: float
    looks: tuple[int, ...]

    def of(self, arm: int) -> Asked | None:
        """The question about an arm."""
        return next((each for each in self.asked if each.arm == arm), None)

    @property
    def trends(self) -> tuple[Asked, ...]:
        """The questions about several arms at once."""
        return tuple(each for each in self.asked if each.arm is None)


def judge(
    arms: Sequence[Arm],
    answers: SweepAnswers,
    config: SweepConfig | None,
    planned: Sequence[int],
    parameters: Sequence[str],
    dataset: str,
) -> Judgement | None:
    """Answer the questions of a sweep.

    Args:
        arms: the lines of its table.
        answers: of its trials.
        config: its file; None where it cannot be read, which asks what is asked by default.
        planned: seeds as they were before the first result.
        parameters: the varied keys.
        dataset: for the default margin.

    Returns:
        None where nothing is asked.
    """
    asked = questions_of(arms, config, parameters)
    if not asked:
        return None
    named = config is not None and config.margin is not None
    margin = default_margin(dataset)
    if config is not None and config.margin is not None:
        margin = Margin(config.margin / 100.0, "named by the sweep's file")
    rule = None
    if config is not None and config.looks:
        rule = SequentialRule(tuple(config.looks), Spending(config.spending or Spending.OBRIEN_FLEMING))
    # Arms on other sequences (a grid over datasets) are families of their own, which share the error.
    groups: dict[int, list[int]] = {}
    for number, (question, _, _) in enumerate(asked):
        groups.setdefault(_sequences(question, arms, answers), []).append(number)
    found: dict[int, Asked] = {}
    for numbers in groups.values():
        alpha = ALPHA if len(groups) == 1 else ALPHA * len(numbers) / len(asked)
        for number, each in _answered([asked[n] for n in numbers], arms, answers, margin, planned, rule, alpha).items():
            found[numbers[number]] = each
    return Judgement(
        asked=tuple(found[number] for number in range(len(asked))),
        margin=margin,
        named=named,
        alpha=ALPHA,
        looks=tuple(config.looks or ()) if config is not None else (),
    )


def accuracy_of(
    trials: Sequence[TrialState], answers: SweepAnswers
) -> tuple[Accuracy | None, tuple[Accuracy, int] | None]:
    """An arm's accuracy over its finished seeds, and over the sequences that are no copies, with their number.

    None where a finished trial has no scores, or they are of different sequences; and where there are no copies.
    """
    common = answers.common(trials)
    if common is None:
        return None, None
    values = np.stack([answers.by_trial[trial.key].right for trial in trials])
    whole = accuracy(values, common.subjects)
    if common.copies is None or not common.copies.any() or common.copies.all():
        return whole, None
    kept = ~common.copies
    who = None if common.subjects is None else common.subjects[kept]
    return whole, (accuracy(values[:, kept], who), int(kept.sum()))


_Planned = tuple[Question, int | None, int | None]


def questions_of(arms: Sequence[Arm], config: SweepConfig | None, parameters: Sequence[str]) -> list[_Planned]:
    """What a sweep asks of its arms: each question, and the arms that it compares, as ``Asked`` has them."""
    compare = config.compare if config is not None else None
    kind = compare.kind if compare is not None else "to baseline"
    if kind == "nothing":
        return []
    if kind == "to baseline" or config is None or compare is None:
        pairs = [(index, arm.reference) for index, arm in enumerate(arms) if arm.reference is not None]
        return [_pair(arms, parameters, *pair) for pair in pairs]
    key = config.compared_keys()[0]
    groups: dict[str, dict[Any, int]] = {}
    for index, arm in enumerate(arms):
        if key in arm.parameters:
            rest = repr(sorted((name, value) for name, value in arm.parameters.items() if name != key))
            rest += f" of {arm.name}" if arm.stated else ""
            groups.setdefault(rest, {})[arm.parameters[key]] = index
    out: list[_Planned] = []
    for group in groups.values():
        if kind == "to value":
            reference = group.get(compare.value)
            others = [index for index in group.values() if reference is not None and index != reference]
            out += [_pair(arms, parameters, index, reference) for index in others if reference is not None]
        elif len(group) > 2:
            asked = trend({value: str(index) for value, index in group.items()}, Scale(compare.scale))
            first = arms[next(iter(group.values()))]
            rest_of = {name: v for name, v in first.parameters.items() if name != key}
            parts = [first.name if first.stated else "", settings_text(rest_of, parameters)]
            where = "".join(f", {part}" for part in parts if part)
            name = f"{short_names(parameters)[key]}: {asked.name}{where}"
            out.append((Question(name, asked.coefficients), None, None))
    return out


def _pair(arms: Sequence[Arm], parameters: Sequence[str], arm: int, other: int) -> _Planned:
    one, two = arms[arm], arms[other]
    if one.stated and two.stated:
        its, others = (settings_text(each.parameters, parameters) for each in (one, two))
        name = pair_name(one.name, its, two.name, others)
    else:
        name = f"{_name(one, parameters)} - {_name(two, parameters)}"
    return Question(name, {str(other): -1.0, str(arm): 1.0}), arm, other


def _name(arm: Arm, parameters: Sequence[str]) -> str:
    text = settings_text(arm.parameters, parameters)
    if arm.stated:
        return f"{arm.name}, {text}" if text else arm.name
    if arm.name != BASELINE:
        return text or "contrast"
    return f"{BASELINE}, {text}" if text and not is_baseline(arm.parameters) else text or BASELINE


def _finished(arm: Arm, answers: SweepAnswers) -> list[TrialState]:
    return [trial for trial in arm.trials if trial.key in answers.by_trial]


def _sequences(question: Question, arms: Sequence[Arm], answers: SweepAnswers) -> int:
    """A number for the sequences of a question's arms: equal for equal sequences."""
    for arm in question.coefficients:
        for trial in _finished(arms[int(arm)], answers):
            return sequences_key(answers.by_trial[trial.key])
    return 0


def _answered(
    asked: Sequence[_Planned],
    arms: Sequence[Arm],
    answers: SweepAnswers,
    margin: Margin,
    planned: Sequence[int],
    rule: SequentialRule | None,
    alpha: float,
) -> dict[int, Asked]:
    involved = sorted({int(arm) for question, _, _ in asked for arm in question.coefficients})
    trials = [trial for index in involved for trial in _finished(arms[index], answers)]
    common = answers.common(trials)
    if common is None:
        return {number: Asked(*each, None, None) for number, each in enumerate(asked)}
    runs = {
        str(index): {trial.seed: answers.by_trial[trial.key].right for trial in _finished(arms[index], answers)}
        for index in involved
    }
    questions = [question for question, _, _ in asked]
    usable = rule if rule is not None and rule.looks[-1] == len(planned) else None
    found = answer(runs, questions, margin.size, planned, common.subjects, rule=usable, alpha=alpha)
    others: Mapping[str, Verdict | None] = {}
    if common.copies is not None and common.copies.any() and not common.copies.all():
        kept = ~common.copies
        others = answer(runs, questions, margin.size, planned, common.subjects, kept=kept, rule=usable, alpha=alpha)
    out = {}
    for number, each in enumerate(asked):
        verdict, other = found[each[0].name], others.get(each[0].name)
        out[number] = Asked(*each, verdict, None if other is None else other.difference)
    return out
