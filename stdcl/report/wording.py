"""What a table says in words: headers, the strings of its cells, and the notes below it."""

from __future__ import annotations

from collections.abc import Mapping

from stdcl.report.display import Display
from stdcl.report.labels import NOTHING, short_names, value_text
from stdcl.report.notes import counted, notes, remarks, setting_marks
from stdcl.report.summary import PairedDifference, Summary
from stdcl.report.table import BASELINE, SHARED, Cell, SweepTable


def display(table: SweepTable) -> Display:
    """The strings of a table."""
    columns, left, rows = _search(table) if table.search == "optuna" else _grid(table)
    lines = [table.question] if table.question else []
    shared = _shared_facts(table)
    if shared:
        lines.append(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shared.items()))
    return Display(
        title=table.name,
        lines=tuple(lines),
        columns=tuple(columns),
        left=tuple(left),
        rows=tuple(tuple(row) for row in rows),
        notes=(*notes(table), *(f"! {remark}" for remark in remarks(table))),
    )


def emptiness(cell: Cell) -> str:
    """What a cell without a number shows, for example ``no finished trial (1 failed, 1 unfinished)``."""
    return f"no finished trial ({counted(cell.trials)})" if cell.trials else "no trial"


def _grid(table: SweepTable) -> tuple[list[str], list[bool], list[list[str]]]:
    names = short_names(table.parameters)
    with_difference = any(cell.arm == BASELINE for cell in table.cells) and any(
        cell.arm != BASELINE for cell in table.cells
    )
    with_paper = any(cell.paper for cell in table.cells)
    with_strategy = "contrast.strategy" not in table.parameters
    on_test = all(cell.identity.get("evaluated_on", "test") == "test" for cell in table.cells)
    columns = [*(["contrast"] if with_strategy else []), *names.values()]
    left = [True] * len(columns)
    numbers = ["seeds", "accuracy", "best-on-test" if on_test else "best epoch", "sequences"]
    numbers += ["vs baseline", "+/=/-"] if with_difference else []
    numbers += ["paper"] if with_paper else []
    marks = setting_marks(table)
    rows = []
    for cell in table.cells:
        baseline = cell.arm == BASELINE
        row = ["none (baseline)" if baseline else str(cell.identity.get("strategy", NOTHING))] if with_strategy else []
        for key in table.parameters:
            if baseline and key == "contrast.strategy":
                row.append("none (baseline)")
            else:
                row.append(value_text(cell.parameters.get(key)))
        row.append(f"{len(cell.finished)}/{len(cell.trials)}")
        row.append(_accuracy(cell.last, emptiness(cell)))
        row.append(_mean(cell.best))
        row.append(str(cell.num_test or NOTHING))
        if with_difference:
            row += [_difference(cell.difference), _signs(cell.difference)]
        if with_paper:
            row.append(_paper(cell, marks))
        rows.append(row)
    return [*columns, *numbers], [*left, *[False] * len(numbers)], rows


def _search(table: SweepTable) -> tuple[list[str], list[bool], list[list[str]]]:
    names = short_names(table.parameters)
    columns = ["rank", *names.values(), "accuracy", "epochs", "sequences", "configuration"]
    left = [False] * (len(columns) - 1) + [True]
    rows = []
    for rank, trial in enumerate(table.top, 1):
        values = [value_text(trial.parameters.get(key)) for key in table.parameters]
        facts = [str(trial.row.get(name, NOTHING)) for name in ("epochs", "num_test")]
        rows.append(
            [
                str(rank),
                *values,
                f"{100 * trial.row['last_accuracy']:.2f}",
                *facts,
                str(trial.row.get("fingerprint", ""))[:8],
            ]
        )
    if not rows:
        rows = [["", *[""] * len(names), "no finished trial", "", "", ""]]
    return columns, left, rows


def _accuracy(summary: Summary | None, otherwise: str) -> str:
    if summary is None:
        return otherwise
    if summary.low is None or summary.high is None:
        return _mean(summary)
    return f"{_mean(summary)} [{100 * summary.low:.2f}, {100 * min(1.0, summary.high):.2f}]"


def _mean(summary: Summary | None) -> str:
    if summary is None:
        return NOTHING
    spread = "" if summary.std is None else f" ± {100 * summary.std:.2f}"
    return f"{100 * summary.mean:.2f}{spread}"


def _difference(difference: PairedDifference | None) -> str:
    if difference is None:
        return NOTHING
    text = _signed(difference.mean)
    if difference.low is not None and difference.high is not None:
        text += f" [{_signed(difference.low)}, {_signed(difference.high)}]"
    return text


def _signed(fraction: float) -> str:
    points = round(100 * fraction, 2) + 0.0  # no negative zero
    return f"{points:+.2f}"


def _signs(difference: PairedDifference | None) -> str:
    return f"{difference.better}/{difference.equal}/{difference.worse}" if difference else NOTHING


def _paper(cell: Cell, marks: Mapping[str, str]) -> str:
    if cell.paper is None:
        return NOTHING
    mark = marks.get(repr(cell.paper.differences))
    asterisk = "*" if cell.paper.temperature_unstated else ""
    return f"{cell.paper.accuracy:g}{asterisk}" + (f" [{mark}]" if mark else "")


def _shared_facts(table: SweepTable) -> dict[str, str]:
    """What all trials have in common, of what says which experiment this is."""
    out = {}
    for name in SHARED:
        known = {str(trial.row[name]) for trial in table.trials if name in trial.row}
        known |= {str(cell.identity[name]) for cell in table.cells if name in cell.identity}
        if len(known) == 1:
            out[name] = known.pop()
    return out
