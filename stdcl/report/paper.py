"""The paper's tables from one or several sweeps: which line belongs to which cell, fused streams, and verdicts.

A table has the paper's rows and columns, and further ones for what was run and is not in the paper. Its cells are data;
``paper_wording`` makes strings of them.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stdcl import specs
from stdcl.config.model import is_of_method
from stdcl.errors import UserError
from stdcl.report.answers import SweepAnswers, read_sweep_answers
from stdcl.report.fusing import NO_SEED, Fusion, fused_scores, fusions
from stdcl.report.labels import short_names, value_text
from stdcl.report.lines import Line, lines_of, varied
from stdcl.report.load import SweepState, TrialState
from stdcl.report.machines import code_remarks, machine_fact, machine_notes, measured_on
from stdcl.report.paper_judgement import Competitor, PaperJudgement, judge_table
from stdcl.report.published import Place, Reported, differences_to_published, reported_results
from stdcl.results.fusion import STREAMS
from stdcl.results.layout import RunFolder
from stdcl.results.scores import Answers, Scores, per_class_accuracy, read_scores
from stdcl.results.state import UNFINISHED
from stdcl.statistics.difficulty import NAMES, level_of
from stdcl.statistics.verdict import Verdict

ACCURACY = "top1_acc_percent"
LEVEL = "mean_class_acc_percent"
MEMORY = "memory_usage_G"
MINUTES = "time_min_per_epoch"
SOURCES = {
    "1": "STD-CL paper Table 1",
    "2": "STD-CL paper Table 2",
    "3": "STD-CL paper Table 3",
    **{f"4{letter}": f"STD-CL paper Table 4({letter})" for letter in "abcde"},
}
"""A sweep file's ``table`` -> the source of its numbers; any other name is a table that the paper does not have."""

NO_CLASS = "no such class"
"""In place of a cell's states: its trials have no class of this level."""
FUSED = {"2S": STREAMS[:2], "4S": STREAMS}
_ARMS = {"GAP": "gap", "STD-CL": "std-cl"}
"""What rows of Table 3 are, where the shipped numbers do not say: there they stand beside runs of their own."""
_ENCODER_OF_TABLE_3 = "CTR-GCN"
"""The title of the encoder of its rows that name none in brackets."""


@dataclass(frozen=True)
class Column:
    """A column: where a number is measured.

    Attributes:
        dataset, protocol: the benchmark.
        stream: a stream, ``2S``, ``4S``, or ``level:Hard`` and so on; empty where it does not matter.
        metric: as in the shipped numbers; they are percent, GiB or minutes.
    """

    dataset: str
    protocol: str
    stream: str
    metric: str = ACCURACY


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        name: the paper's, or what the runs are.
        encoder, arm: of its runs; empty where the paper alone has it.
        parameter, value: the ablated key and its value, as text; empty without one.
        printed: whether the paper has the row.
        named: keys whose values its name says.
    """

    name: str
    encoder: str = ""
    arm: str = ""
    parameter: str = ""
    value: str = ""
    printed: bool = False
    named: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A cell.

    Attributes:
        values: ours, one per finished seed, in the column's unit.
        without_copies: mean over seeds on the sequences that are no copies of training sequences; None where there are
            no copies, or scores are missing.
        planned: seeds that were planned; 0 where nothing was.
        states: what became of its trials, where no seed is finished.
        printed: whether the paper has this cell, with a number or without.
        paper: its number, in the column's unit.
        differences: key -> (ours, the published recipe's); None where our runs are another experiment altogether.
        temperature_unstated: whether the paper's number may belong to several temperatures.
        verdict: on its difference to what the sweeps' files compare it with.
        trials: ``sweep/trial`` of its trials.
        choices: configurations that would belong here; more than one leaves the cell empty.
        note: what the shipped numbers say of the paper's.
        fused: of fused streams, in what they differ beside their streams, in words; empty where in nothing.
    """

    values: tuple[float, ...] = ()
    without_copies: float | None = None
    planned: int = 0
    states: str = ""
    printed: bool = False
    paper: float | None = None
    differences: Mapping[str, tuple[Any, Any]] | None = field(default_factory=dict)
    temperature_unstated: bool = False
    verdict: Verdict | None = None
    trials: tuple[str, ...] = ()
    choices: int = 1
    note: str = ""
    fused: str = ""

    @property
    def run(self) -> bool:
        """Whether there is a number of ours."""
        return bool(self.values)

    @property
    def mean(self) -> float | None:
        """Over seeds."""
        return float(np.mean(self.values)) if self.values else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over seeds."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, filled from sweeps.

    Attributes:
        name: ``1`` to ``4e``, or a name of the user's own.
        sweeps: name -> question of each.
        rows, columns: in order.
        entries: (row, column) -> cell; what is missing is empty.
        judgement: what its sweeps' files ask, and the answers.
        remarks: what was left out or does not fit; they make the report incomplete.
        machines: what its trials ran on, where that differs or is what the table is about.
    """

    name: str
    sweeps: Mapping[str, str]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    entries: Mapping[tuple[Row, Column], Entry]
    judgement: PaperJudgement
    remarks: tuple[str, ...]
    machines: tuple[str, ...] = ()

    def entry(self, row: Row, column: Column) -> Entry:
        """The cell; an empty one where there is none."""
        return self.entries.get((row, column), Entry())


@dataclass(frozen=True)
class _Runs:
    """What belongs to a cell: answers per seed, or numbers alone.

    Attributes:
        line: as what it is compared.
        values, answers: by seed.
        trials: ``sweep/trial`` of its trials.
        planned: seeds.
        fusion: of fused streams, of what it was made.
    """

    line: Line
    values: Mapping[int, float]
    answers: Mapping[int, Answers]
    trials: tuple[str, ...]
    planned: tuple[int, ...]
    fusion: Fusion | None = None

    @property
    def parts(self) -> tuple[Line, ...]:
        """Its lines: one, or one per fused stream."""
        return (self.line,) if self.fusion is None else self.fusion.parts

    @property
    def choices(self) -> int:
        """Configurations that it may be."""
        return 1 if self.fusion is None else self.fusion.choices

    @property
    def states(self) -> dict[int, str]:
        """Seed -> what became of it."""
        if self.fusion is None:
            return {trial.seed: trial.state for trial in self.line.trials}
        return {
            seed: "not fused" if state == "finished" and seed not in self.values else state
            for seed, state in self.fusion.states.items()
        }


def paper_table(name: str, sweeps: Sequence[SweepState]) -> PaperTable:
    """Fill a table from sweeps.

    Args:
        name: see ``SOURCES``.
        sweeps: those whose files name this table.

    Raises:
        UserError: a sweep is a search, whose trials are not comparable.
    """
    for sweep in sweeps:
        if sweep.search != "grid":
            raise UserError(f"{sweep.name}: a search's trials are no cells of a table; `stdcl confirm` its best")
    lines, left_out = lines_of(sweeps)
    answers = read_sweep_answers([trial for line in lines for trial in line.trials])
    remarks = [*(remark for sweep in sweeps for remark in sweep.remarks), *left_out, *answers.remarks]
    remarks += _inconsistencies(lines)
    by_name = Counter(sweep.name for sweep in sweeps)
    remarks += [
        f"{number} sweeps are named {name}: {', '.join(str(s.directory) for s in sweeps if s.name == name)}"
        for name, number in by_name.items()
        if number > 1
    ]
    remarks += [
        f"{sweep.name}: its sweep.yaml cannot be read: which table it fills and by what it is judged are not known"
        for sweep in sweeps
        if sweep.sweep is None
    ]
    printed = [each for each in reported_results() if each.source == SOURCES.get(name)]
    remarks += _not_alone(sweeps) if name == "4e" else []
    runs = _runs(name, lines, answers, remarks)
    rows, where = _rows(name, printed, lines)
    columns = _columns(printed, runs)
    entries = _entries(printed, runs, rows, columns, where, remarks)
    entries, judgement = _judged(entries, runs, where, sweeps)
    remarks += judgement.remarks
    if answers.missing and any(each.verdict is None for each in judgement.answers):
        remarks.append(
            f"{len(answers.missing)} finished trials have no scores per sequence, so that verdicts are missing: "
            f"`{shlex.join(['stdcl', 'evaluate', *(str(sweep.directory) for sweep in sweeps)])}` writes them from "
            "checkpoints"
        )
    for line in lines:
        failed = [trial for trial in line.trials if trial.state == "failed"]
        remarks += [f"failed: {trial.key}: {_last_line(trial.row.get('error'))}" for trial in failed]
    waiting = sum(trial.state in (*UNFINISHED, "not started") for line in lines for trial in line.trials)
    if waiting:
        remarks.append(f"{waiting} planned trials are not finished: this table is not complete")
    return PaperTable(
        name=name,
        sweeps={sweep.name: sweep.question for sweep in sweeps},
        rows=rows,
        columns=columns,
        entries=entries,
        judgement=judgement,
        remarks=tuple(dict.fromkeys(remarks)),
        machines=_machines(name, [trial for line in lines for trial in line.finished]),
    )


def _machines(name: str, finished: Sequence[TrialState]) -> tuple[str, ...]:
    measured = measured_on(finished) if name == "4e" else ""
    return (*([f"measured on {measured}"] if measured else []), *machine_notes(finished))


def tables_of(sweeps: Sequence[SweepState]) -> dict[str, list[SweepState]]:
    """The tables that sweep files name -> their sweeps; without a name in the file, the sweep's own."""
    out: dict[str, list[SweepState]] = {}
    for sweep in sweeps:
        named = sweep.sweep.config.table if sweep.sweep is not None else None
        out.setdefault(named or sweep.name, []).append(sweep)
    return out


def papers_of(sweeps: Sequence[SweepState]) -> dict[Path, PaperTable]:
    """Folder of each sweep whose file names a table -> that table, filled from all of these sweeps that name it."""
    grids = [sweep for sweep in sweeps if sweep.search == "grid"]
    named = [sweep for sweep in grids if sweep.sweep is not None and sweep.sweep.config.table]
    return {
        sweep.directory: table
        for name, found in tables_of(named).items()
        for table in [paper_table(name, found)]
        for sweep in found
    }


def _inconsistencies(lines: Sequence[Line]) -> list[str]:
    """Lines whose finished trials are of different data or code; they are told, not mended."""
    out = []
    data: dict[tuple[str, str], set[str]] = {}
    for line in lines:
        for trial in line.finished:
            place = (line.place.dataset, line.place.protocol)
            if trial.row.get("data_hash"):
                data.setdefault(place, set()).add(str(trial.row["data_hash"])[:16])
    for (dataset, protocol), hashes in data.items():
        if len(hashes) > 1:
            out.append(f"trials of different data of {dataset} {protocol}: {', '.join(sorted(hashes))}")
    return [*out, *code_remarks([trial for line in lines for trial in line.finished])]


def _last_line(error: object) -> str:
    text = str(error or "").strip()
    return text.splitlines()[-1][:200] if text else "no error text"


def _runs(name: str, lines: Sequence[Line], answers: SweepAnswers, remarks: list[str]) -> dict[Column, list[_Runs]]:
    """What each column has of ours."""
    out: dict[Column, list[_Runs]] = {}
    for line in lines:
        place = line.place
        if name == "4e":
            for metric, values in _costs(line, remarks).items():
                column = Column(place.dataset, place.protocol, "", metric)
                out.setdefault(column, []).append(_Runs(line, values, {}, line.names, line.planned))
        elif name == "4d":
            for level, values in _levels(line, remarks).items():
                column = Column(place.dataset, place.protocol, f"level:{level}", LEVEL)
                out.setdefault(column, []).append(_Runs(line, values, {}, line.names, line.planned))
        else:
            values = {trial.seed: 100 * float(trial.row["accuracy"]) for trial in line.finished}
            own = {t.seed: answers.by_trial[t.key] for t in line.finished if t.key in answers.by_trial}
            column = Column(place.dataset, place.protocol, place.stream)
            out.setdefault(column, []).append(_Runs(line, values, own, line.names, line.planned))
    if name not in ("4d", "4e"):
        _add_fused(out, lines, answers, remarks)
    return out


def _add_fused(
    out: dict[Column, list[_Runs]], lines: Sequence[Line], answers: SweepAnswers, remarks: list[str]
) -> None:
    for fused, needed in FUSED.items():
        for fusion in fusions(lines, needed):
            place = fusion.parts[0].place
            found: dict[int, Scores] = {}
            if fusion.choices == 1:
                found, left_out = fused_scores(fusion, answers)
                remarks += [f"{fused} of {why}" for why in left_out]
            column = Column(place.dataset, place.protocol, fused)
            runs = _Runs(
                line=fusion.line,
                values={seed: 100 * scores.accuracy for seed, scores in found.items()},
                answers={seed: _answers(scores) for seed, scores in found.items()},
                trials=fusion.trials,
                planned=fusion.planned,
                fusion=fusion,
            )
            out.setdefault(column, []).append(runs)


def _answers(scores: Scores) -> Answers:
    order = np.argsort(scores.ids, kind="stable")
    subjects, copies = (None if each is None else each[order] for each in (scores.subjects, scores.copies))
    return Answers(scores.ids[order], scores.correct[order], subjects, copies, "", scores.data_hash)


def _costs(line: Line, remarks: list[str]) -> dict[str, dict[int, float]]:
    """GiB and minutes an epoch of each seed."""
    out: dict[str, dict[int, float]] = {MEMORY: {}, MINUTES: {}}
    for trial in line.finished:
        seconds = machine_fact(trial, "steady_epoch_seconds")
        if "peak_memory_mib" in trial.row:
            out[MEMORY][trial.seed] = float(trial.row["peak_memory_mib"]) / 1024
        if seconds is not None:
            out[MINUTES][trial.seed] = float(seconds) / 60
        else:
            remarks.append(f"{trial.key}: no minutes: it says none of a second to fourth epoch of its last attempt")
    return out


def _not_alone(sweeps: Sequence[SweepState]) -> list[str]:
    return [
        f"{sweep.name}: its file does not say alone: true, so that memory and minutes may be other trials' as well"
        for sweep in sweeps
        if sweep.sweep is not None and not sweep.sweep.config.alone
    ]


def _levels(line: Line, remarks: list[str]) -> dict[str, dict[int, float]]:
    """Mean class accuracy of each level and seed; grouped by the line's own accuracies, as the paper does."""
    by_seed: dict[int, np.ndarray] = {}
    for trial in line.finished:
        try:
            by_seed[trial.seed] = per_class_accuracy(read_scores(RunFolder(trial.folder).scores()))
        except UserError as error:
            remarks.append(f"left out: {error}")
    out: dict[str, dict[int, float]] = {level: {} for level in NAMES}
    if by_seed:
        groups = level_of(np.mean(list(by_seed.values()), axis=0))
        for seed, accuracies in by_seed.items():
            for index, level in enumerate(NAMES):
                if (groups == index).any():
                    out[level][seed] = 100 * float(accuracies[groups == index].mean())
    return out


def _rows(name: str, printed: Sequence[Reported], lines: Sequence[Line]) -> tuple[tuple[Row, ...], dict[int, Row]]:
    """The rows, and the row of each line by the line's ``id``."""
    rows: dict[str, Row] = {}
    for each in printed:
        encoder, arm = _identity(each)
        named = (each.parameter,) if each.parameter else ()
        row = Row(each.method, encoder, arm, each.parameter, each.value, printed=True, named=named)
        rows.setdefault(each.method, row)
    by_parameter = next((row.parameter for row in rows.values() if row.parameter), "")
    keys = _naming(lines)
    where: dict[int, Row] = {}
    for line in lines:
        value = value_text(line.settings.get(by_parameter)) if by_parameter and line.place.arm != "baseline" else ""
        fits = [
            row
            for row in rows.values()
            # Of a row that was made for another line, the name says that line's setting.
            if row.printed
            and (row.encoder, row.arm) == (line.place.encoder, line.place.arm)
            and (not row.parameter or row.value == value)
            and bool(row.parameter) == bool(by_parameter and line.place.arm != "baseline")
        ]
        if fits and name in SOURCES:
            where[id(line)] = fits[0]
        else:
            # Of a baseline, the method's own keys say nothing.
            own = [k for k in keys if k in line.settings and not (line.place.arm == "baseline" and is_of_method(k))]
            label = _label(line, own, short_names(keys))
            where[id(line)] = rows.setdefault(label, Row(label, line.place.encoder, line.place.arm, named=tuple(own)))
    return tuple(rows.values()), where


def _naming(lines: Sequence[Line]) -> list[str]:
    """The keys that name rows: in which lines of one encoder and arm differ within a column, or as a sweep asks.

    What a recipe has otherwise for another dataset is no difference between rows.
    """
    alike: dict[tuple[str, str], list[Line]] = {}
    of_a_column: dict[Place, list[Line]] = {}
    for line in lines:
        alike.setdefault((line.place.encoder, line.place.arm), []).append(line)
        of_a_column.setdefault(line.place, []).append(line)
    asked = {key for line in lines for trial in line.trials for key in (*trial.parameters, *trial.stated)}
    asked |= {key for group in of_a_column.values() for key in varied(group)}
    differing = dict.fromkeys(key for group in alike.values() for key in varied(group))
    return [key for key in differing if key in asked and not key.startswith(("data.", "encoder."))]


def _identity(printed: Reported) -> tuple[str, str]:
    """Encoder and arm of a printed row; empty where no run can be one."""
    if printed.encoder:
        return printed.encoder, printed.arm
    if printed.source == SOURCES["3"]:
        method, _, named = printed.method.partition("(")
        title = named.rstrip(")") or _ENCODER_OF_TABLE_3
        found = next((name for name, spec in specs.encoders().items() if spec.title == title), "")
        return (found, _ARMS[method]) if found and method in _ARMS else ("", "")
    # Tables 4(d) and 4(e) name encoders as they are printed.
    plain = printed.method.removesuffix(" w/ours")
    for encoder, spec in specs.encoders().items():
        if plain in (spec.paper_name, spec.title):
            return encoder, "std-cl" if plain != printed.method else "baseline"
    return "", ""


def _label(line: Line, keys: Sequence[str], names: Mapping[str, str]) -> str:
    """What a row that the paper does not have is called."""
    values = [f"{names[key]} {value_text(line.settings[key])}" for key in keys]
    encoder = specs.encoders().get(line.place.encoder)
    named = encoder.title if encoder is not None else line.place.encoder
    arm = "" if line.place.arm == "baseline" else f" w/{'STD-CL' if line.place.arm == 'std-cl' else line.place.arm}"
    return f"{named}{arm}{': ' if values else ''}{', '.join(values)}"


def _columns(printed: Sequence[Reported], runs: Mapping[Column, object]) -> tuple[Column, ...]:
    found = dict.fromkeys(Column(each.dataset, each.protocol, each.stream, each.metric) for each in printed)
    places = list(dict.fromkeys((column.dataset, column.protocol) for column in [*found, *runs]))
    order = [*STREAMS, *FUSED]
    # What was run stands first: a reader looks for it.
    mine = sorted(
        runs,
        key=lambda c: (
            places.index((c.dataset, c.protocol)),
            order.index(c.stream) if c.stream in order else 0,
            list(found).index(c) if c in found else len(found),
        ),
    )
    return tuple(dict.fromkeys([*mine, *found])) if any(column not in found for column in mine) else tuple(found)


def _entries(
    printed: Sequence[Reported],
    runs: Mapping[Column, Sequence[_Runs]],
    rows: Sequence[Row],
    columns: Sequence[Column],
    where: Mapping[int, Row],
    remarks: list[str],
) -> dict[tuple[Row, Column], Entry]:
    by_name = {row.name: row for row in rows}
    out: dict[tuple[Row, Column], Entry] = {}
    for each in printed:
        key = (by_name[each.method], Column(each.dataset, each.protocol, each.stream, each.metric))
        unstated = by_name[each.method].arm == "std-cl" and each.accuracy is not None
        out[key] = Entry(printed=True, paper=each.accuracy, note=each.note, temperature_unstated=unstated)
    for column, found in runs.items():
        for row in rows:
            mine = [each for each in found if where[id(each.parts[0])] == row]
            if not mine:
                continue
            entry = out.get((row, column), Entry())
            if (choices := sum(each.choices for each in mine)) > 1:
                unclear = [key for each in mine if each.fusion is not None for key in each.fusion.differing]
                differing = dict.fromkeys([*varied([each.line for each in mine]), *unclear])
                remarks.append(
                    f"{choices} configurations would be '{row.name}' on {column.dataset} {column.protocol} "
                    f"{column.stream}, and none is shown: they differ in {', '.join(differing)}"
                )
                names = tuple(name for each in mine for name in each.trials)
                out[row, column] = replace(entry, choices=choices, trials=names)
                continue
            out[row, column] = _filled(entry, mine[0], row, column)
    return out


def _filled(entry: Entry, runs: _Runs, row: Row, column: Column) -> Entry:
    states = runs.states
    no_class = column.metric == LEVEL and not runs.values and bool(runs.line.finished)
    counted = ", ".join(f"{number} {state}" for state, number in Counter(states.values()).items())
    return replace(
        entry,
        values=tuple(runs.values[seed] for seed in sorted(runs.values)),
        without_copies=_without_copies(runs),
        planned=len(runs.planned) or len(states),
        states=NO_CLASS if no_class else counted or NO_SEED,
        differences=_differences(runs.parts, row),
        trials=runs.trials,
        fused=runs.fusion.note if runs.fusion is not None else "",
    )


def _differences(parts: Sequence[Line], row: Row) -> dict[str, tuple[Any, Any]] | None:
    """Departures from the paper; of fused streams, a departure of some of them alone has the stream before its key."""
    by_stream: dict[str, dict[str, tuple[Any, Any]]] = {}
    for part in parts:
        found = differences_to_published(part.place, part.settings, part.num_test)
        if found is None or part.synthetic:
            return None
        # What a row is about is no departure from the paper.
        by_stream[part.place.stream] = {key: pair for key, pair in found.items() if key not in row.named}
    out: dict[str, tuple[Any, Any]] = {}
    for stream, found in by_stream.items():
        for key, pair in found.items():
            common = all(other.get(key) == pair for other in by_stream.values())
            out[key if common else f"{stream}: {key}"] = pair
    return out


def _without_copies(runs: _Runs) -> float | None:
    found = [
        float(each.right[~each.copies].mean())
        for each in runs.answers.values()
        if each.copies is not None and each.copies.any() and not each.copies.all()
    ]
    return 100 * float(np.mean(found)) if found and len(found) == len(runs.values) else None


def _judged(
    entries: dict[tuple[Row, Column], Entry],
    runs: Mapping[Column, Sequence[_Runs]],
    where: Mapping[int, Row],
    sweeps: Sequence[SweepState],
) -> tuple[dict[tuple[Row, Column], Entry], PaperJudgement]:
    """Answer what the sweeps' files ask of the columns of accuracies, and put each verdict into its cell."""
    asked = {
        column: [each for each in found if each.choices == 1]
        for column, found in runs.items()
        if column.metric == ACCURACY
    }
    columns: dict[Hashable, list[Competitor]] = {
        column: [Competitor(where[id(r.parts[0])].name, r.line, r.planned, r.answers) for r in found]
        for column, found in asked.items()
    }
    judgement = judge_table(columns, sweeps)
    out = dict(entries)
    for answer in judgement.answers:
        column = next(each for each in asked if each == answer.column)
        if answer.competitor is None:
            continue
        key = (where[id(asked[column][answer.competitor].parts[0])], column)
        if out[key].choices == 1 and out[key].verdict is None:
            out[key] = replace(out[key], verdict=answer.verdict)
    return out, judgement
