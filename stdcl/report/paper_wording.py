"""A table of the paper in words: strings of its cells, and the notes below it; and its numbers as CSV."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from stdcl.report.display import BREAK, Display
from stdcl.report.formats.csv import TREND, to_csv
from stdcl.report.labels import NOTHING, differences_text, letter
from stdcl.report.paper import NO_CLASS, Entry, PaperTable
from stdcl.report.paper_judgement import PaperAnswer
from stdcl.report.paper_rows import SOURCES, Row
from stdcl.report.paper_runs import ACCURACY, LEVEL, MEMORY, MINUTES, Column
from stdcl.statistics.power import ALPHA
from stdcl.statistics.sequential import Stage
from stdcl.statistics.verdict import NOT_ENOUGH, Verdict, Word

_UNITS = {ACCURACY: "%", LEVEL: "%", MEMORY: "GiB", MINUTES: "min/epoch"}
_BENCHMARKS = {"ntu60": "NTU60", "ntu120": "NTU120", "nw-ucla": "NW-UCLA"}
_PROTOCOLS = {"x-sub": "X-Sub", "x-view": "X-View", "x-set": "X-Set", "cross-view": ""}
_STREAMS = {"joint": "J", "bone": "B", "joint-motion": "JM", "bone-motion": "BM"}
_OTHER_EXPERIMENT = "another experiment than the paper's: synthetic data, other test sequences, or no published recipe"
_WORDS = {Word.NO_DIFFERENCE: f"no difference{BREAK}> margin"}


def paper_display(table: PaperTable) -> Display:
    """The strings of a table: its rows, then one per trend."""
    marks = _marks(table)
    lines = [f"{name}: {question}" for name, question in table.sweeps.items() if question]
    title = f"The paper's Table {table.name}" if table.name in SOURCES else table.name
    return Display(
        title=title,
        lines=tuple(lines),
        columns=("method", *(column_name(column) for column in table.columns)),
        left=(True, *[False] * len(table.columns)),
        rows=(
            *(
                (row.name, *(_cell(table.entry(row, column), column, marks) for column in table.columns))
                for row in table.rows
            ),
            *_trend_rows(table),
        ),
        notes=(*_notes(table, marks), *(f"! {remark}" for remark in table.remarks)),
    )


def column_name(column: Column) -> str:
    """A column's header, for example ``NTU120 X-Sub J``."""
    where = _BENCHMARKS.get(column.dataset, column.dataset)
    protocol = _PROTOCOLS.get(column.protocol, column.protocol)
    what = _STREAMS.get(column.stream, column.stream.removeprefix("level:"))
    unit = _UNITS[column.metric] if column.metric in (MEMORY, MINUTES) else ""
    return BREAK.join(filter(None, (where, protocol, f"{what} {unit}".strip())))


def _trend_rows(table: PaperTable) -> list[tuple[str, ...]]:
    """A row per trend that is asked for, its answers in the columns."""
    by_name: dict[str, dict[Hashable, PaperAnswer]] = {}
    for each in table.judgement.trends:
        by_name.setdefault(each.name, {})[each.column] = each
    return [
        (name, *(_verdict(found[column].verdict) if column in found else "" for column in table.columns))
        for name, found in by_name.items()
    ]


def _verdict(verdict: Verdict | None) -> str:
    if verdict is None:
        return "no answer"
    stage = "" if verdict.stage is Stage.FINAL else f"{BREAK}({verdict.stage})"
    word = _WORDS.get(verdict.word, str(verdict.word))
    reason = f"{BREAK}({verdict.not_enough})" if verdict.not_enough else ""
    return f"{100 * verdict.difference.estimate + 0.0:+.2f} {word}{reason}{stage}"


def _cell(entry: Entry, column: Column, marks: Mapping[str, str]) -> str:
    paper = NOTHING
    if entry.paper is not None:
        # As printed: one decimal.
        paper = f"{entry.paper:.1f}{'*' if entry.temperature_unstated else ''}"
    if entry.choices > 1:
        return f"{entry.choices} different{BREAK}configurations"
    if not entry.run and not entry.states:
        return f"[{paper}]" if entry.printed else ""
    waiting = entry.states if entry.states == NO_CLASS else f"not finished{BREAK}({entry.states})"
    parts = [_ours(entry, column) if entry.run else waiting]
    if entry.without_copies is not None:
        parts.append(f"w/o copies {entry.without_copies:.2f}")
    mark = marks.get(_key(entry), "") if entry.run else ""
    beside = f"paper {paper}" if entry.printed else "not in paper"
    parts.append(f"{beside} [{mark}]" if mark else beside)
    if entry.verdict is not None:
        parts.append(_verdict(entry.verdict))
    return BREAK.join(parts)


def _ours(entry: Entry, column: Column) -> str:
    digits = 3 if column.metric in (MEMORY, MINUTES) else 2
    spread = "" if entry.deviation is None else f" ± {entry.deviation:.{digits}f}"
    seeds = f"{len(entry.values)}" if len(entry.values) == entry.planned else f"{len(entry.values)}/{entry.planned}"
    return f"{entry.mean:.{digits}f}{spread} ({seeds})"


def _key(entry: Entry) -> str:
    return repr(entry.differences)


def _marks(table: PaperTable) -> dict[str, str]:
    """How our runs depart from the paper's setting -> its letter."""
    found = {_key(e): None for e in _filled(table) if e.differences is None or e.differences}
    return {key: letter(index) for index, key in enumerate(found)}


def _filled(table: PaperTable) -> list[Entry]:
    cells = (table.entry(row, column) for row in table.rows for column in table.columns)
    return [entry for entry in cells if entry.run]


def _notes(table: PaperTable, marks: Mapping[str, str]) -> list[str]:
    filled = _filled(table)
    every = list(table.entries.values())
    out = []
    if filled:
        out.append(
            "a number of ours: mean ± sample standard deviation over seeds (finished seeds, or finished/planned); "
            "below it the paper's"
        )
    if any(e.printed and not e.run for e in every):
        out.append(f"[number]: printed in the paper, not run here; [{NOTHING}]: the paper has an empty cell")
    if any(e.run and not e.printed for e in every):
        cell = "the paper has no such cell" if table.name in SOURCES else "this table is none of the paper's"
        out.append(f"not in paper: run here, and {cell}")
    if any(e.without_copies is not None for e in every):
        out.append("w/o copies: our mean without the test sequences that are exact copies of training sequences")
    if any(e.temperature_unstated for e in every):
        out.append("* the paper picks tau among 0.5, 0.8 and 1.0 by result, and does not say which one this number has")
    if any(column.stream in ("2S", "4S") for column in table.columns) and filled:
        out.append("2S, 4S: fused by us from the trials' scores, seed by seed, weights 1:1 and 0.6:0.6:0.4:0.4")
    if any(column.metric == MINUTES for column in table.columns) and filled:
        out.append(
            "min/epoch: training without evaluation, the median of the second to fourth epoch; GiB: the peak of a rank "
            "since its start, of GPU memory on a GPU, else of the process's resident memory"
        )
    out += table.machines
    for entry in filled:
        mark = marks.get(_key(entry))
        if mark is None:
            continue
        said = _OTHER_EXPERIMENT
        if entry.differences:
            said = "not the paper's setting; in brackets the published recipe's: " + differences_text(entry.differences)
        out.append(f"[{mark}] {said}")
    out += [
        f"{row.name}, {column_name(column).replace(BREAK, ' ')}: {entry.fused}"
        for row in table.rows
        for column in table.columns
        if (entry := table.entry(row, column)).run and entry.fused
    ]
    out += _verdicts(table)
    out += sorted({f"paper, note: {e.note}" for e in every if e.note and e.run})
    return list(dict.fromkeys(out))


def _verdicts(table: PaperTable) -> list[str]:
    judgement = table.judgement
    answered = [each for each in judgement.answers if each.verdict is not None]
    if judgement.margin is None or not answered:
        return []
    count = len(judgement.answers)
    out = [
        f"verdicts: {judgement.against}, over seeds and people; one family of {count} question{'s' * (count != 1)}, "
        f"false claims in at most {100 * ALPHA:g} % of such tables (Holm); margin "
        f"{100 * judgement.margin.size:g} point{'s' * (judgement.margin.size != 0.01)} ({judgement.margin.reason})"
    ]
    if any(each.verdict is not None and each.verdict.not_enough for each in judgement.answers):
        out.append(NOT_ENOUGH)
    if judgement.looks:
        out.append(f"looks after {', '.join(map(str, judgement.looks))} seeds, as the sweeps' files name them")
    # Of a cell that shows nothing, since several lines would be it, nothing is claimed either.
    unclear = {(row.name, column) for (row, column), entry in table.entries.items() if entry.choices > 1}
    for each in judgement.answers:
        assert isinstance(each.column, Column)
        if (each.row, each.column) in unclear:
            continue
        where = column_name(each.column).replace(BREAK, " ")
        said = each.verdict.sentence if each.verdict is not None else "no answer yet: no common seed with scores"
        out.append(f"{each.name}, {where}: {said}")
    return out


def paper_csv(table: PaperTable) -> str:
    """One line per cell, unrounded, and per trend; the first columns are those of ``reported_results.csv``."""
    header = list(_record(Row(""), Column("", "", ""), Entry()))
    cells = [(row, column, table.entry(row, column)) for row in table.rows for column in table.columns]
    rows = [_record(*cell) for cell in cells if cell[2].printed or cell[2].run or cell[2].states]
    for each in table.judgement.trends:
        assert isinstance(each.column, Column)
        asked = Row(each.name, arm=TREND)
        rows.append({**_record(asked, each.column, Entry()), "state": "", **_judged(each.verdict)})
    return to_csv(rows, header)


def _record(row: Row, column: Column, entry: Entry) -> dict[str, Any]:
    state = "run" if entry.run else "not run"
    return {
        "method": row.name,
        "encoder": row.encoder,
        "arm": row.arm,
        "dataset": column.dataset,
        "protocol": column.protocol,
        "stream": column.stream,
        "parameter": row.parameter,
        "value": row.value,
        "reported": entry.paper,
        "metric": column.metric,
        "state": f"{'reported' if entry.paper is not None else 'not reported'}, {state}",
        "ours": entry.mean,
        "ours_std": entry.deviation,
        "ours_without_copies": entry.without_copies,
        "seeds": len(entry.values),
        "seeds_planned": entry.planned,
        "per_seed": " ".join(repr(value) for value in entry.values),
        **_judged(entry.verdict),
        "differences_to_published": None
        if not entry.run
        else (_OTHER_EXPERIMENT if entry.differences is None else differences_text(entry.differences)),
        "trials": " ".join(entry.trials),
    }


def _judged(verdict: Verdict | None) -> dict[str, Any]:
    found = verdict.difference if verdict is not None else None
    return {
        "difference": None if found is None else 100 * found.estimate,
        "difference_low": None if found is None else 100 * found.interval.low,
        "difference_high": None if found is None else 100 * found.interval.high,
        "p": None if verdict is None else verdict.p,
        "verdict": None if verdict is None else str(verdict.word),
        "stage": None if verdict is None else str(verdict.stage),
    }
