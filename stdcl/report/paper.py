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

from stdcl.errors import UserError
from stdcl.report.answers import read_sweep_answers
from stdcl.report.fusing import NO_SEED
from stdcl.report.lines import Line, lines_of, varied
from stdcl.report.load import SweepState, TrialState
from stdcl.report.machines import code_remarks, machine_notes, measured_on
from stdcl.report.paper_judgement import Competitor, PaperJudgement, judge_table
from stdcl.report.paper_rows import SOURCES, Row, rows_of
from stdcl.report.paper_runs import ACCURACY, FUSED, LEVEL, Column, Runs, runs_of
from stdcl.report.published import Reported, differences_to_published, reported_results
from stdcl.results.fusion import STREAMS
from stdcl.results.state import UNFINISHED
from stdcl.statistics.verdict import Verdict

NO_CLASS = "no such class"
"""In place of a cell's states: its trials have no class of this level."""


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
    runs = runs_of(name, lines, answers, remarks)
    rows, where = rows_of(name, printed, lines)
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


def _not_alone(sweeps: Sequence[SweepState]) -> list[str]:
    return [
        f"{sweep.name}: its file does not say alone: true, so that memory and minutes may be other trials' as well"
        for sweep in sweeps
        if sweep.sweep is not None and not sweep.sweep.config.alone
    ]


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
    runs: Mapping[Column, Sequence[Runs]],
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


def _filled(entry: Entry, runs: Runs, row: Row, column: Column) -> Entry:
    states = runs.states
    no_class = column.metric == LEVEL and not runs.values and bool(runs.line.finished)
    counted = ", ".join(f"{number} {state}" for state, number in Counter(states.values()).items())
    return replace(
        entry,
        values=tuple(runs.values[seed] for seed in sorted(runs.values)),
        without_copies=runs.without_copies,
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


def _judged(
    entries: dict[tuple[Row, Column], Entry],
    runs: Mapping[Column, Sequence[Runs]],
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
