"""A sweep's table as terminal text, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stdcl.atomic import write_text
from stdcl.report.load import TrialState
from stdcl.report.summary import PairedDifference, Summary
from stdcl.report.tables import BASELINE, Cell, SweepTable

_NOTHING = "–"
_SHARED = ("encoder", "stream", "dataset", "protocol", "evaluated_on")

_TRIAL_FACTS = (
    "attempt", "dataset", "protocol", "evaluated_on", "stream", "encoder", "strategy", "synthetic", "num_test",
    "last_accuracy", "best_accuracy", "best_epoch", "epochs", "total_seconds", "seconds_per_epoch", "throughput",
    "peak_memory_mb", "workers", "fingerprint", "code_version", "data_hash", "started", "finished", "wandb_id",
    "command", "error",
)  # fmt: skip


@dataclass(frozen=True)
class Display:
    """A table as strings: the common part of all formats.

    Attributes:
        title: the sweep's name.
        lines: what stands above the table.
        columns: headers; ``left`` says which are aligned to the left.
        rows: strings, one a column.
        notes: what stands below.
    """

    title: str
    lines: tuple[str, ...]
    columns: tuple[str, ...]
    left: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


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
        notes=(*table.notes, *(f"! {remark}" for remark in table.remarks)),
    )


def to_text(table: SweepTable) -> str:
    """The table for a terminal."""
    return text_of(display(table))


def text_of(shown: Display) -> str:
    """A table for a terminal."""
    widths = [max(map(len, column)) for column in zip(shown.columns, *shown.rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(cells, widths, shown.left, strict=True)
        ]
        return "  ".join(padded).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    head = [shown.title, *shown.lines, "", line(shown.columns), rule]
    width = min(120, max(80, len(rule)))
    notes = [textwrap.fill(note, width, subsequent_indent="    ", break_long_words=False) for note in shown.notes]
    return "\n".join([*head, *map(line, shown.rows), rule, *notes]) + "\n"


def to_markdown(table: SweepTable) -> str:
    """The table as Markdown."""
    return markdown_of(display(table))


def markdown_of(shown: Display) -> str:
    """A table as Markdown."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    head = [f"# {shown.title}", "", *(f"{each}  " for each in shown.lines), ""]
    rule = "| " + " | ".join(":---" if left else "---:" for left in shown.left) + " |"
    notes = [f"- {_escape_asterisk(note)}" for note in shown.notes]
    return "\n".join([*head, line(shown.columns), rule, *map(line, shown.rows), "", *notes]) + "\n"


def to_latex(table: SweepTable) -> str:
    """The table as a LaTeX ``table`` that needs no package."""
    return latex_of(display(table))


def latex_of(shown: Display) -> str:
    """A table as a LaTeX ``table`` that needs no package."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(_caption(shown))}}}",
        rf"\begin{{tabular}}{{{''.join('l' if left else 'r' for left in shown.left)}}}",
        r"\hline",
        " & ".join(map(_latex, shown.columns)) + r" \\",
        r"\hline",
        *(" & ".join(map(_latex, row)) + r" \\" for row in shown.rows),
        r"\hline",
        r"\end{tabular}",
        *(f"% {note}" for note in shown.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_csv(table: SweepTable) -> str:
    """The table's numbers, unrounded: accuracies in percent, differences in points, empty where there is none."""
    if table.search == "optuna":
        return trials_csv(table, table.top)
    rows = [_csv_row(cell, table.parameters) for cell in table.cells]
    return _to_csv(rows, list(rows[0]) if rows else ["arm", *table.parameters])


def trials_csv(table: SweepTable, trials: Sequence[TrialState] | None = None) -> str:
    """One line a trial with all that its numbers can be traced by; accuracies as fractions."""
    rows = []
    for trial in table.trials if trials is None else trials:
        parameters = {name: _plain(trial.parameters.get(name)) for name in table.parameters}
        facts = {name: _plain(trial.row.get(name)) for name in _TRIAL_FACTS}
        own = {"key": trial.key, "arm": trial.arm, "seed": trial.seed, "state": trial.state}
        rows.append({**own, **parameters, **facts, "epochs": trial.epochs_done})
    header = ["key", "arm", "seed", "state", *table.parameters, *_TRIAL_FACTS]
    return _to_csv(rows, header)


def write(table: SweepTable, directory: Path) -> list[Path]:
    """Write every format, each file atomically; returns the files.

    ``accuracy.png`` is only written when a trial has a result; one from before is left as it is.
    """
    texts = {
        "table.txt": to_text(table),
        "table.md": to_markdown(table),
        "table.csv": to_csv(table),
        "table.tex": to_latex(table),
        "trials.csv": trials_csv(table),
    }
    for name, text in texts.items():
        write_text(directory / name, text)
    written = [directory / name for name in texts]
    if any(trial.state == "finished" for trial in table.trials):
        from stdcl.report.figures import draw

        written.append(draw(table, directory / "accuracy.png"))
    return written


def short_names(parameters: Sequence[str]) -> dict[str, str]:
    """Dotted key -> what a header calls it: its last part (for ``encoder.name`` the first), if that is clear."""
    short = {key: key.split(".")[0] if key.endswith(".name") else key.split(".")[-1] for key in parameters}
    taken = list(short.values())
    return {key: name if taken.count(name) == 1 else key for key, name in short.items()}


def value_text(value: Any) -> str:
    """A parameter's value, as short as it is exact."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: _NOTHING}[value]
    if isinstance(value, float):
        text = f"{value:.6g}"
        return text if any(each in text for each in ".en") else f"{text}.0"
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


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
    rows = []
    for cell in table.cells:
        baseline = cell.arm == BASELINE
        row = ["none (baseline)" if baseline else str(cell.identity.get("strategy", _NOTHING))] if with_strategy else []
        for key in table.parameters:
            if baseline and key == "contrast.strategy":
                row.append("none (baseline)")
            else:
                row.append(value_text(cell.parameters.get(key)))
        row.append(f"{len(cell.finished)}/{len(cell.trials)}")
        row.append(_accuracy(cell.last, cell.emptiness))
        row.append(_mean(cell.best))
        row.append(str(cell.num_test or _NOTHING))
        if with_difference:
            row += [_difference(cell.difference), _signs(cell.difference)]
        if with_paper:
            row.append(_paper(cell))
        rows.append(row)
    return [*columns, *numbers], [*left, *[False] * len(numbers)], rows


def _search(table: SweepTable) -> tuple[list[str], list[bool], list[list[str]]]:
    names = short_names(table.parameters)
    columns = ["rank", *names.values(), "accuracy", "epochs", "sequences", "configuration"]
    left = [False] * (len(columns) - 1) + [True]
    rows = []
    for rank, trial in enumerate(table.top, 1):
        values = [value_text(trial.parameters.get(key)) for key in table.parameters]
        facts = [str(trial.row.get(name, _NOTHING)) for name in ("epochs", "num_test")]
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
        return _NOTHING
    spread = "" if summary.std is None else f" ± {100 * summary.std:.2f}"
    return f"{100 * summary.mean:.2f}{spread}"


def _difference(difference: PairedDifference | None) -> str:
    if difference is None:
        return _NOTHING
    text = _signed(difference.mean)
    if difference.low is not None and difference.high is not None:
        text += f" [{_signed(difference.low)}, {_signed(difference.high)}]"
    return text


def _signed(fraction: float) -> str:
    points = round(100 * fraction, 2) + 0.0  # no negative zero
    return f"{points:+.2f}"


def _signs(difference: PairedDifference | None) -> str:
    return f"{difference.better}/{difference.equal}/{difference.worse}" if difference else _NOTHING


def _paper(cell: Cell) -> str:
    if cell.paper is None:
        return _NOTHING
    return f"{cell.paper.accuracy:g}" + ("*" if cell.paper.temperature_unstated else "")


def _shared_facts(table: SweepTable) -> dict[str, str]:
    """What all trials have in common, of what says which experiment this is."""
    out = {}
    for name in _SHARED:
        known = {str(trial.row[name]) for trial in table.trials if name in trial.row}
        known |= {str(cell.identity[name]) for cell in table.cells if name in cell.identity}
        if len(known) == 1:
            out[name] = known.pop()
    return out


def _csv_row(cell: Cell, parameters: Sequence[str]) -> dict[str, Any]:
    states = ("finished", "failed", "pruned", "unfinished", "not started")
    row: dict[str, Any] = {"arm": cell.arm}
    row |= {name: _plain(cell.parameters.get(name)) for name in parameters}
    row |= {name: cell.identity.get(name) for name in (*_SHARED, "strategy")}
    row["seeds_planned"] = len(cell.trials)
    for state in states:
        row[f"seeds_{state.replace(' ', '_')}"] = sum(trial.state == state for trial in cell.trials)
    for name, summary in (("accuracy", cell.last), ("best_epoch_accuracy", cell.best)):
        for part in ("mean", "std", "low", "high"):
            row[f"{name}_{part}"] = _percent(summary, part)
    row["accuracy_binomial_error"] = _percent(cell.last, "binomial_error")
    row["num_test"] = cell.num_test
    for part in ("mean", "std", "low", "high"):
        row[f"difference_{part}"] = _percent(cell.difference, part)
    for part in ("n", "better", "equal", "worse"):
        row[f"difference_{part}"] = getattr(cell.difference, part, None)
    row["paper"] = cell.paper.accuracy if cell.paper else None
    row["paper_source"] = cell.paper.source if cell.paper else None
    row["paper_temperature_unstated"] = cell.paper.temperature_unstated if cell.paper else None
    row["note"] = None if cell.last else cell.emptiness
    return row


def _percent(of: Summary | PairedDifference | None, part: str) -> float | None:
    value = getattr(of, part, None)
    return None if value is None else 100 * float(value)


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def _to_csv(rows: Sequence[Mapping[str, Any]], header: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "[": "{[}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "±": r"$\pm$", "–": "--",
}  # fmt: skip


def _caption(shown: Display) -> str:
    return ": ".join([shown.title, " ".join(each if each[-1] in ".?!" else f"{each}." for each in shown.lines)])


def _latex(text: str) -> str:
    return "".join(_LATEX.get(each, each) for each in text)


def _escape_asterisk(text: str) -> str:
    return "\\" + text if text.startswith("*") else text
