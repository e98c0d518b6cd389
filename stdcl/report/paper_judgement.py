"""The questions of a table of the paper and their answers: what its sweeps' files ask, as one family of tests."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from stdcl.config.arms import AXES, BASELINE, references_of
from stdcl.config.compare import CompareConfig
from stdcl.report.labels import pair_name, settings_text, short_names
from stdcl.report.lines import Line, SweepCell
from stdcl.report.load import SweepState
from stdcl.report.table import without_reference
from stdcl.results.comparable import same_sequences
from stdcl.results.scores import Answers
from stdcl.statistics.margins import Margin, default_margin
from stdcl.statistics.questions import Question, Scale, trend
from stdcl.statistics.sequential import SequentialRule, Spending, Stage
from stdcl.statistics.verdict import Looks, Verdict, judged, looks_of

_OF_THE_COLUMN = {key for axis, key in AXES.items() if axis != "encoder"}


@dataclass(frozen=True)
class Competitor:
    """A line in one column.

    Attributes:
        name: of its row.
        line: its trials and settings; of fused streams, those of the first.
        planned: its seeds, as they were planned.
        answers: per finished seed.
    """

    name: str
    line: Line
    planned: tuple[int, ...]
    answers: Mapping[int, Answers]


@dataclass(frozen=True)
class PaperAnswer:
    """A question and its answer.

    Attributes:
        name: what is asked.
        column: of the table, as it was given.
        competitor: index within the column of the line that is compared with another; None for a trend.
        verdict: None where no seed is finished, with scores, in all of its lines.
        row: name of the competitor's row; empty for a trend.
    """

    name: str
    column: Hashable
    competitor: int | None
    verdict: Verdict | None
    row: str = ""


@dataclass(frozen=True)
class PaperJudgement:
    """All questions of a table.

    Attributes:
        answers: one per question.
        margin: the equivalence margin; None where nothing is asked.
        against: what lines are compared with, in words.
        looks: numbers of seeds after which the table may be judged; empty where the files name none.
        remarks: what does not fit.
    """

    answers: tuple[PaperAnswer, ...]
    margin: Margin | None
    against: str
    looks: tuple[int, ...]
    remarks: tuple[str, ...]

    @property
    def trends(self) -> tuple[PaperAnswer, ...]:
        """The questions about several lines at once."""
        return tuple(each for each in self.answers if each.competitor is None)


def judge_table(columns: Mapping[Hashable, Sequence[Competitor]], sweeps: Sequence[SweepState]) -> PaperJudgement:
    """Answer what the files of a table's sweeps ask.

    Args:
        columns: key of each column of accuracies -> its lines.
        sweeps: their files name the questions, the margin and the looks.
    """
    files = [sweep.sweep.config for sweep in sweeps if sweep.sweep is not None]
    asked = {json.dumps([_compare(f.compare), f.looks, f.spending if f.looks else None]) for f in files}
    if len(asked) > 1:
        said = (
            "no verdicts: the sweeps' files differ in compare, looks or spending; one family needs one rule "
            "(report them one by one)"
        )
        return PaperJudgement((), None, "", (), (said,))
    compare = files[0].compare if files else None
    key = next(iter(keys[0] for f in files if (keys := f.compared_keys())), "")
    pairs = {column: _pairs(found, sweeps) for column, found in columns.items()}
    planned = [
        (column, each) for column, found in columns.items() for each in _questions(found, compare, key, pairs[column])
    ]
    remarks = [remark for sweep in sweeps for remark in without_reference(sweep)]
    if not planned:
        return PaperJudgement((), None, "", (), (*remarks, *(_unasked(compare, key) if columns else ())))
    margin = _margin(sweeps, {each.line.place.dataset for found in columns.values() for each in found}, remarks)
    rule = None
    if files and files[0].looks:
        rule = SequentialRule(tuple(files[0].looks), Spending(files[0].spending or Spending.OBRIEN_FLEMING))
    family: dict[str, Looks] = {}
    for number, (column, (question, _)) in enumerate(planned):
        arms = [columns[column][int(index)] for index in question.coefficients]
        if (found := _looks(question, columns[column], arms, rule, remarks)) is not None:
            family[str(number)] = found
    verdicts = judged(family, margin.size, len(planned) - len(family)) if family else {}
    return PaperJudgement(
        answers=tuple(
            PaperAnswer(
                question.name,
                column,
                arm,
                verdicts.get(str(number)),
                "" if arm is None else columns[column][arm].name,
            )
            for number, (column, (question, arm)) in enumerate(planned)
        ),
        margin=margin,
        against=_against(compare, key, [pair.reference for each in pairs.values() for pair in each]),
        looks=rule.looks if rule is not None else (),
        remarks=tuple(dict.fromkeys(remarks)),
    )


def _compare(compare: CompareConfig | None) -> dict[str, object] | None:
    return None if compare is None or compare.kind == "to baseline" else compare.model_dump()


def _unasked(compare: CompareConfig | None, key: str) -> tuple[str, ...]:
    """What to say where the files ask something, and no column has what is asked about."""
    if compare is None or compare.kind not in ("to value", "trend"):
        return ()
    asked = f"{compare.kind}: {compare.value}" if compare.kind == "to value" else compare.kind
    return (
        f"no verdicts: the file asks '{asked}' of {short_names([key])[key]}, and no column of this table has lines "
        "that differ in it alone; `stdcl table` answers what a sweep asks across columns",
    )


def _against(compare: CompareConfig | None, key: str, references: Sequence[str]) -> str:
    name = short_names([key])[key] if key else ""
    if compare is None or compare.kind == "to baseline":
        named = ", ".join(filter(None, dict.fromkeys(references)))
        said = [f"{named}, the reference that the file names"] if named else []
        said += ["the baseline of the same column that differs in the method alone"] if "" in references else []
        return f"against {', else '.join(said)}"
    if compare.kind == "to value":
        return f"against {name} {compare.value} of the same column, all else equal"
    return f"trends over {name}, values placed by {compare.scale}"


class _Pair(NamedTuple):
    """A line and what it is compared with, by index; and the name of the question."""

    compared: int
    base: int
    name: str
    reference: str
    """The arm that a file names; empty for cross-entropy alone that differs in the method alone."""


def _pairs(found: Sequence[Competitor], sweeps: Sequence[SweepState]) -> list[_Pair]:
    """What each sweep compares of a column, in the order of its lines; what several ask is asked once.

    Stated arms are compared with their file's reference. Every other line, and one whose reference is not in the
    column, is compared with cross-entropy alone that differs from it in the method alone, whichever sweep has that.
    """
    pairs: dict[tuple[int, int], _Pair] = {}
    settled: set[int] = set()
    free: set[int] = set()
    for sweep in sweeps:
        cells = [
            (cell, i) for i, each in enumerate(found) for cell in each.line.cells if cell.directory == sweep.directory
        ]
        if not sweep.arms:
            free |= {index for _, index in cells}
            continue
        references = references_of([(cell.arm, cell.parameters) for cell, _ in cells], sweep.reference)
        for (cell, index), other in zip(cells, references.of, strict=True):
            if cell.arm == sweep.reference:
                settled.add(index)
            elif other is not None:
                settled.add(index)
                _ask(pairs, found, index, cells[other][1], _name(cell, cells[other][0]), sweep.reference)
    bases = {each.line.apart_from_treatment: i for i, each in enumerate(found) if each.line.place.arm == BASELINE}
    for index, each in enumerate(found):
        base = bases.get(each.line.apart_from_treatment)
        if each.line.place.arm != BASELINE and base is not None and (index in free or index not in settled):
            _ask(pairs, found, index, base, each.name, "")
    return sorted(pairs.values(), key=lambda pair: (pair.compared, pair.reference != ""))


def _name(cell: SweepCell, reference: SweepCell) -> str:
    """The question of a cell and its reference; what the column says is left out."""
    keys = list(dict.fromkeys([*cell.parameters, *reference.parameters]))
    its, others = (
        settings_text({key: value for key, value in each.parameters.items() if key not in _OF_THE_COLUMN}, keys)
        for each in (cell, reference)
    )
    return pair_name(cell.arm, its, reference.arm, others)


def _ask(
    pairs: dict[tuple[int, int], _Pair],
    found: Sequence[Competitor],
    compared: int,
    base: int,
    name: str,
    reference: str,
) -> None:
    one, other = found[compared], found[base]
    if other.line.place.arm == BASELINE and one.line.apart_from_treatment == other.line.apart_from_treatment:
        name, reference = one.name, ""
    if compared != base:
        pairs.setdefault((min(compared, base), max(compared, base)), _Pair(compared, base, name, reference))


def _questions(
    found: Sequence[Competitor], compare: CompareConfig | None, key: str, pairs: Sequence[_Pair]
) -> list[tuple[Question, int | None]]:
    """The questions of a column; coefficients are by ``str`` of a line's index."""
    kind = compare.kind if compare is not None else "to baseline"
    if kind == "nothing":
        return []
    if compare is None or kind == "to baseline":
        return [(Question(each.name, {str(each.base): -1.0, str(each.compared): 1.0}), each.compared) for each in pairs]
    groups: dict[str, dict[float, int]] = {}
    for index, each in enumerate(found):
        if key in each.line.settings:
            rest = {name: value for name, value in each.line.settings.items() if name != key}
            groups.setdefault(json.dumps(rest, sort_keys=True), {})[each.line.settings[key]] = index
    out: list[tuple[Question, int | None]] = []
    for group in groups.values():
        reference = group.get(compare.value) if kind == "to value" else None  # type: ignore[arg-type]
        if reference is not None:
            out += [
                (Question(f"{found[i].name} - {found[reference].name}", {str(reference): -1.0, str(i): 1.0}), i)
                for i in group.values()
                if i != reference
            ]
        elif kind == "trend" and len(group) > 2:
            asked = trend({value: str(index) for value, index in group.items()}, Scale(compare.scale))
            first = found[next(iter(group.values()))].line.place
            name = f"{first.encoder} {first.arm}, {short_names([key])[key]}: {asked.name}"
            out.append((Question(name, asked.coefficients), None))
    return out


def _looks(
    question: Question,
    found: Sequence[Competitor],
    arms: Sequence[Competitor],
    rule: SequentialRule | None,
    remarks: list[str],
) -> Looks | None:
    answers = [each for arm in arms for each in arm.answers.values()]
    if not all(arm.answers for arm in arms):
        return None
    if not same_sequences(answers):
        place = arms[0].line.place
        remarks.append(
            f"no verdict on '{question.name}', {place.dataset} {place.protocol} {place.stream}: runs of different "
            "sequences"
        )
        return None
    runs = {
        index: {seed: each.right for seed, each in found[int(index)].answers.items()} for index in question.coefficients
    }
    if not set.intersection(*(set(arm.answers) for arm in arms)):
        place, seeds = arms[0].line.place, [", ".join(map(str, sorted(arm.answers))) for arm in arms]
        remarks.append(
            f"no verdict on '{question.name}', {place.dataset} {place.protocol} {place.stream}: no seed is finished in "
            f"all of its lines (seeds {' and '.join(seeds)})"
        )
        return None
    planned = tuple(seed for seed in arms[0].planned if all(seed in arm.planned for arm in arms))
    usable = rule if rule is not None and rule.looks[-1] == len(planned) else None
    taken = looks_of(runs, question, planned, answers[0].subjects, rule=usable)
    if taken is None or usable is rule:
        return taken
    # Looks that do not end with these seeds were named for another study.
    return replace(taken, stage=Stage.EXPLORATORY)


def _margin(sweeps: Sequence[SweepState], datasets: Iterable[str], remarks: list[str]) -> Margin:
    named = {sweep.sweep.config.margin for sweep in sweeps if sweep.sweep is not None} - {None}
    if len(named) == 1:
        return Margin(float(next(iter(named)) or 0) / 100.0, "named by the sweep's file")
    if named:
        remarks.append(f"the sweeps name different margins: {', '.join(map(str, sorted(filter(None, named))))}")
        return Margin(min(filter(None, named)) / 100.0, "the smallest that the sweeps' files name")
    return min((default_margin(dataset) for dataset in datasets), key=lambda margin: margin.size)
