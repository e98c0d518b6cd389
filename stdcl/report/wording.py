"""What a table says in words: headers, the strings of its cells, and the notes below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stdcl import specs
from stdcl.config.arms import BASELINE
from stdcl.config.model import METHOD_NAME, is_of_method
from stdcl.report.display import BREAK, Display
from stdcl.report.judgement import Asked
from stdcl.report.labels import NOTHING, short_names, trial_number, value_text
from stdcl.report.measured import metric_of
from stdcl.report.notes import counted, notes, remarks, setting_marks
from stdcl.report.table import SHARED, Cell, SweepTable
from stdcl.statistics.repeats import PairedDifference, Summary
from stdcl.statistics.sequential import Stage
from stdcl.statistics.verdict import Word


def display(table: SweepTable) -> Display:
    """The strings of a table: a row per cell, and one per trend."""
    columns = _search(table) if table.search == "optuna" else _grid(table)
    rows = list(zip(*(column.cells for column in columns), strict=True))
    rows += [_trend(asked, columns) for asked in _trends(table)]
    lines = [table.question] if table.question else []
    shared = _shared_facts(table)
    if shared:
        lines.append(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shared.items()))
    return Display(
        title=table.name,
        lines=tuple(lines),
        columns=tuple(column.header for column in columns),
        left=tuple(column.left for column in columns),
        rows=tuple(rows),
        notes=(*notes(table), *(f"! {remark}" for remark in remarks(table))),
        leading=sum(column.leading for column in columns),
    )


def emptiness(cell: Cell) -> str:
    """What a cell without a number shows, for example ``no finished trial (1 failed, 1 unfinished)``."""
    return f"no finished trial ({counted(cell.trials)})" if cell.trials else "no trial"


@dataclass(frozen=True)
class _Column:
    """A header and its cells; ``leading`` columns say what a row is."""

    header: str
    cells: Sequence[str]
    left: bool = False
    leading: bool = False


def _grid(table: SweepTable) -> list[_Column]:
    cells, names = table.cells, short_names(table.parameters)
    contrast = [key for key in table.parameters if is_of_method(key)]
    columns = []
    if table.arms:
        columns.append(_Column("arm", [cell.arm for cell in cells], left=True, leading=True))
    elif not contrast:
        strategies = [
            f"none{BREAK}(baseline)" if cell.plain else str(cell.identity.get("strategy", NOTHING)) for cell in cells
        ]
        columns.append(_Column("contrast", strategies, left=True, leading=True))
    for key, name in names.items():
        # Of a baseline, the first of the contrast's columns says so: the others mean nothing to it.
        first = bool(contrast) and key == contrast[0] and not table.arms
        values = [_parameter(cell, key, first) for cell in cells]
        columns.append(_Column(name, values, left=True, leading=True))
    columns.append(_Column("seeds", [f"{len(cell.finished)}/{len(cell.trials)}" for cell in cells]))
    columns.append(_Column("accuracy", [_accuracy(cell, _breakable(emptiness(cell))) for cell in cells]))
    columns += [_Column(_title(name), [_metric(cell.metrics[name], name) for cell in cells]) for name in table.metrics]
    if len({cell.num_test for cell in cells if cell.num_test}) > 1:
        columns.append(_Column("sequences", [str(cell.num_test or NOTHING) for cell in cells]))
    columns += _comparison(table)
    kept = {cell.without_copies[1] for cell in cells if cell.without_copies}
    if kept:
        header = f"without{BREAK}copies{BREAK}({' or '.join(f'{each:,}' for each in sorted(kept))})"
        columns.append(_Column(header, [_without_copies(cell) for cell in cells]))
    on_test = all(cell.identity.get("evaluated_on", "test") == "test" for cell in cells)
    header = "best-on-test" if on_test else f"best{BREAK}epoch's{BREAK}accuracy"
    columns.append(_Column(header, [_mean(cell.best) for cell in cells]))
    if any(cell.paper for cell in cells):
        marks = setting_marks(table)
        columns.append(_Column("paper", [_paper(cell, marks) for cell in cells]))
    return columns


def _breakable(text: str) -> str:
    """May be broken before a bracket and after a comma."""
    return text.replace(" (", f"{BREAK}(").replace(", ", f",{BREAK}")


def _parameter(cell: Cell, key: str, first_of_contrast: bool) -> str:
    if cell.plain and not cell.stated and key in ("contrast.strategy", METHOD_NAME):
        return f"none{BREAK}(baseline)"
    if cell.plain and first_of_contrast and key not in cell.parameters:
        return BASELINE
    return value_text(cell.parameters.get(key))


def _search(table: SweepTable) -> list[_Column]:
    top = table.top
    if not top:
        return [_Column("rank", [NOTHING], leading=True), _Column("accuracy", ["no finished trial"])]
    columns = [_Column("rank", [str(rank) for rank, _ in enumerate(top, 1)], leading=True)]
    numbers = [trial_number(trial.key) for trial in top]
    if any(numbers):
        columns.append(_Column("trial", [number or NOTHING for number in numbers], leading=True))
    for key, name in short_names(table.parameters).items():
        columns.append(_Column(name, [value_text(trial.parameters.get(key)) for trial in top]))
    columns.append(_Column("accuracy", [f"{100 * trial.row['accuracy']:.2f}" for trial in top]))
    if "seconds_per_epoch" in table.objectives:
        seconds = [trial.row.get("seconds_per_epoch") for trial in top]
        columns.append(_Column("s/epoch", [NOTHING if value is None else f"{value:.3g}" for value in seconds]))
    for name, header in (("epochs", "epochs"), ("num_test", "sequences")):
        columns.append(_Column(header, [str(trial.row.get(name, NOTHING)) for trial in top]))
    for metric in table.metrics:
        values = [metric_of(trial, metric) for trial in top]
        columns.append(_Column(_title(metric), [NOTHING if v is None else _in_units(v, metric) for v in values]))
    fingerprints = [str(trial.row.get("fingerprint", ""))[:8] for trial in top]
    columns.append(_Column("configuration", fingerprints, left=True))
    return columns


def _comparison(table: SweepTable) -> list[_Column]:
    """The difference that each cell's question is about, and what may be said of it."""
    cells, judgement = table.cells, table.judgement
    if judgement is not None and any(asked.arm is not None and asked.verdict for asked in judgement.asked):
        pairs = [asked for asked in judgement.asked if asked.arm is not None]
        others = {asked.other for asked in pairs}
        referred = all(cells[other].reference for other in others if other is not None)
        header = f"vs {table.reference}" if referred else ""
        if not header:
            single = len(others) == 1 and not table.arms
            reference = pairs[0].question.name.rpartition(" - ")[2] if single else "the reference"
            header = f"vs {reference}"
        return [
            _Column(f"{header}{BREAK}(+/=/-)", [_judged_difference(cell) for cell in cells]),
            _Column("verdict", [_verdict(cell.asked) for cell in cells]),
        ]
    out = []
    if any(cell.reference for cell in cells) and not all(cell.reference for cell in cells):
        out.append(_Column(f"vs {table.reference}{BREAK}(+/=/-)", [_difference(cell.difference) for cell in cells]))
    if _trends(table):
        nothing = [NOTHING] * len(cells)
        out += [_Column(_TREND, nothing), _Column("verdict", nothing)]
    return out


_TREND = f"trend{BREAK}(+/=/-)"


def _trends(table: SweepTable) -> tuple[Asked, ...]:
    return table.judgement.trends if table.judgement is not None else ()


def _trend(asked: Asked, columns: Sequence[_Column]) -> tuple[str, ...]:
    """The row of a trend: its name in the first column, and its answer."""
    name = asked.question.name.replace(" from ", f"{BREAK}from ").replace(": ", f":{BREAK}")
    own = {0: name}
    for number, column in enumerate(columns):
        if column.header == _TREND:
            own |= {number: _question_difference(asked), number + 1: _verdict(asked)}
    return tuple(own.get(number, NOTHING) for number in range(len(columns)))


def _judged_difference(cell: Cell) -> str:
    return NOTHING if cell.asked is None or not cell.finished else _question_difference(cell.asked)


def _question_difference(asked: Asked) -> str:
    if asked.verdict is None:
        return f"no scores of{BREAK}a common seed"
    difference = asked.verdict.difference
    above, equal, below = difference.signs
    text = f"{_signed(difference.estimate)} ({above}/{equal}/{below})"
    return f"{text}{BREAK}[{_signed(difference.interval.low)}, {_signed(difference.interval.high)}]"


_WORDS = {Word.NO_DIFFERENCE: f"no{BREAK}difference{BREAK}> margin"}
_STAGES = {
    Stage.EXPLORATORY: f"{BREAK}(exploratory)",
    Stage.INCOMPLETE: f"{BREAK}(incomplete)",
    Stage.LOOK: f"{BREAK}(look)",
}


def _verdict(asked: Asked | None) -> str:
    if asked is None or asked.verdict is None:
        return NOTHING
    verdict = asked.verdict
    reason = f"{BREAK}({verdict.not_enough.replace(' for ', f' for{BREAK}')})" if verdict.not_enough else ""
    return _WORDS.get(verdict.word, str(verdict.word)) + reason + _STAGES.get(verdict.stage, "")


def _without_copies(cell: Cell) -> str:
    if cell.without_copies is None:
        return NOTHING
    found = cell.without_copies[0]
    spread = "" if found.deviation is None else f"{BREAK}± {100 * found.deviation:.2f}"
    return f"{100 * found.mean:.2f}{spread}"


def _accuracy(cell: Cell, otherwise: str) -> str:
    if cell.last is None:
        return otherwise
    if cell.accuracy is not None:
        interval = cell.accuracy.interval
        return f"{_mean(cell.last)}{BREAK}[{100 * interval.low:.2f}, {100 * interval.high:.2f}]"
    if cell.last.low is None or cell.last.high is None:
        return _mean(cell.last)
    return f"{_mean(cell.last)}{BREAK}[{100 * cell.last.low:.2f}, {100 * min(1.0, cell.last.high):.2f}]"


def _mean(summary: Summary | None) -> str:
    if summary is None:
        return NOTHING
    spread = "" if summary.std is None else f"{BREAK}± {100 * summary.std:.2f}"
    return f"{100 * summary.mean:.2f}{spread}"


def _title(metric: str) -> str:
    return specs.metric(metric).title.replace(" ", BREAK)


def _in_units(value: float, metric: str) -> str:
    return f"{100 * value:.2f}" if specs.metric(metric).percent else f"{value:.4g}"


def _metric(summary: Summary | None, metric: str) -> str:
    if summary is None:
        return NOTHING
    spread = "" if summary.std is None else f"{BREAK}± {_in_units(summary.std, metric)}"
    return f"{_in_units(summary.mean, metric)}{spread}"


def _difference(difference: PairedDifference | None) -> str:
    if difference is None:
        return NOTHING
    text = f"{_signed(difference.mean)} ({difference.better}/{difference.equal}/{difference.worse})"
    if difference.low is not None and difference.high is not None:
        text += f"{BREAK}[{_signed(difference.low)}, {_signed(difference.high)}]"
    return text


def _signed(fraction: float) -> str:
    points = round(100 * fraction, 2) + 0.0  # no negative zero
    return f"{points:+.2f}"


def _paper(cell: Cell, marks: Mapping[str, str]) -> str:
    if cell.paper is None:
        return NOTHING
    mark = marks.get(repr(cell.paper.differences))
    asterisk = "*" if cell.paper.temperature_unstated else ""
    return f"{cell.paper.accuracy:g}{asterisk}" + (f"{BREAK}[{mark}]" if mark else "")


def _shared_facts(table: SweepTable) -> dict[str, str]:
    """What all trials have in common, of what says which experiment this is."""
    out = {}
    for name in SHARED:
        known = {str(trial.row[name]) for trial in table.trials if name in trial.row}
        known |= {str(cell.identity[name]) for cell in table.cells if name in cell.identity}
        if len(known) == 1:
            out[name] = known.pop()
    sizes = {cell.num_test for cell in table.cells if cell.num_test}
    if len(sizes) == 1 and "evaluated_on" in out:
        out["evaluated_on"] += f" ({sizes.pop():,} sequences)"
    if any(is_of_method(key) for key in table.parameters):
        strategies = {str(cell.identity.get("strategy")) for cell in table.cells if not cell.plain}
        if not {"contrast.strategy", METHOD_NAME} & set(table.parameters) and len(strategies) == 1:
            out["contrast"] = strategies.pop()
    return out
