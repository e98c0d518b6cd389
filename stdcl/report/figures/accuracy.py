"""A sweep's picture: first the numbers that it shows, then the ink."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from stdcl.atomic import staging_file
from stdcl.config.arms import shared
from stdcl.report.figures.style import COLOURS, GREY, dress, heading, sheet
from stdcl.report.labels import short_names, value_text
from stdcl.report.table import Cell, SweepTable

_LOG_FROM = 16.0  # largest over smallest value from which an axis is logarithmic
_FEW_DECADES = 50.0  # largest over smallest value below which powers of ten are too few labels
_MOST_PANELS = 9
_FEW_VALUES = 6  # of a searched parameter, to be written out below the axis
_SHORT_VALUE = 4  # characters; drawn numbers are longer, and their labels would cover one another
_BASELINE_LABEL = "baseline (no contrast)"


@dataclass(frozen=True)
class Point:
    """One cell: accuracies in percent; ``std`` is None for a single seed; ``seeds`` holds each seed's own."""

    x: float
    mean: float
    std: float | None
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class Line:
    """Cells that differ in the horizontal parameter alone.

    ``group`` says in which of the other parameters, apart from the contrast's, they agree with their baseline;
    ``label`` says the rest.
    """

    label: str
    group: str
    points: tuple[Point, ...]
    baseline: bool = False


@dataclass(frozen=True)
class Band:
    """A baseline to which the horizontal parameter means nothing."""

    group: str
    mean: float
    std: float | None


@dataclass(frozen=True)
class AccuracySeries:
    """What the figure of a grid shows. ``ticks`` are the values of the cells; ``even`` says they are names."""

    title: str
    subtitle: str
    x_label: str
    y_label: str
    ticks: tuple[tuple[float, str], ...]
    even: bool
    logarithmic: bool
    lines: tuple[Line, ...]
    bands: tuple[Band, ...]


@dataclass(frozen=True)
class Panel:
    """Accuracy against one searched parameter: (value, percent) of finished trials and of pruned ones.

    ``ticks`` are the values, where they are few and short; ``named`` says that they are names.
    """

    x_label: str
    logarithmic: bool
    ticks: tuple[tuple[float, str], ...]
    named: bool
    finished: tuple[tuple[float, float], ...]
    pruned: tuple[tuple[float, float], ...]
    best: tuple[float, float] | None


@dataclass(frozen=True)
class SearchSeries:
    """What the figure of a search shows."""

    title: str
    subtitle: str
    y_label: str
    panels: tuple[Panel, ...]


def accuracy_series(table: SweepTable) -> AccuracySeries:
    """The numbers of a grid's figure: accuracy after the last epoch against the swept parameter."""
    names = short_names(table.parameters)
    key = _horizontal(table)
    others = [name for name in table.parameters if name != key]
    shown = [cell for cell in table.cells if cell.last is not None]
    values = list(dict.fromkeys(_value(cell, key) for cell in table.cells if key is None or key in cell.parameters))
    even = not all(_is_number(value) for value in values)
    places = {value: float(index) if even else float(value) for index, value in enumerate(values)}
    bands: list[Band] = []
    lines: dict[tuple[str, str], Line] = {}
    points: dict[tuple[str, str], list[Point]] = {}
    for cell in shown:
        plain = shared(cell.parameters)
        group = _label({name: value for name, value in plain.items() if name != key}, names)
        if cell.plain and key is not None and key not in cell.parameters:
            assert cell.last is not None
            std = None if cell.last.std is None else 100 * cell.last.std
            bands.append(Band(group, 100 * cell.last.mean, std))
            continue
        baseline = cell.plain
        rest = {name: value for name, value in cell.parameters.items() if name in others and name not in plain}
        label = _label(rest, names)
        if cell.stated:
            label = ", ".join(filter(None, [cell.arm, label]))
        elif baseline or not label:
            label = _BASELINE_LABEL if baseline else "STD-CL"
        lines.setdefault((group, label), Line(label, group, (), baseline))
        points.setdefault((group, label), []).append(_point(cell, places[_value(cell, key)]))
    numbers = [] if even else sorted(places.values())
    return AccuracySeries(
        title=table.name,
        subtitle=table.question,
        x_label=names[key] if key else "",
        y_label=_y_label(table),
        ticks=tuple((place, value_text(value)) for value, place in places.items()),
        even=even,
        logarithmic=_wants_logarithm(numbers),
        lines=tuple(
            replace(line, points=tuple(sorted(points[at], key=lambda point: point.x))) for at, line in lines.items()
        ),
        bands=tuple(bands),
    )


def search_series(table: SweepTable) -> SearchSeries:
    """The numbers of a search's figure: each trial's accuracy against each searched parameter."""
    names = short_names(table.parameters)
    panels = []
    first = table.top[0] if table.top else None  # of equal accuracies, the one that the table has first
    for key in table.parameters[:_MOST_PANELS]:
        known = [trial for trial in table.trials if key in trial.parameters and "accuracy" in trial.row]
        values = sorted({trial.parameters[key] for trial in known}, key=lambda value: (str(type(value)), value))
        named = not all(_is_number(value) for value in values)
        place = {value: float(index) if named else float(value) for index, value in enumerate(values)}
        points = {
            state: tuple(
                (place[trial.parameters[key]], 100 * float(trial.row["accuracy"]))
                for trial in known
                if trial.state == state
            )
            for state in ("finished", "pruned")
        }
        panels.append(
            Panel(
                x_label=names[key],
                logarithmic=not named and (key in table.logarithmic or _wants_logarithm(list(place.values()))),
                ticks=tuple((place[value], value_text(value)) for value in values)
                if named or (len(values) <= _FEW_VALUES and all(len(value_text(v)) <= _SHORT_VALUE for v in values))
                else (),
                named=named,
                finished=points["finished"],
                pruned=points["pruned"],
                best=(place[first.parameters[key]], 100 * float(first.row["accuracy"]))
                if first is not None and key in first.parameters
                else None,
            )
        )
    return SearchSeries(table.name, table.question, _y_label(table), tuple(panels))


def draw(table: SweepTable, path: Path) -> Path:
    """Draw a sweep's figure as PNG, atomically; returns the path."""
    figure = draw_search(search_series(table)) if table.search == "optuna" else draw_accuracy(accuracy_series(table))
    with staging_file(path) as part:
        figure.savefig(part, format="png", dpi=160, facecolor="white")
    return path


def draw_accuracy(series: AccuracySeries) -> Figure:
    """The figure of a grid: one panel, or one for each baseline that has cells of its own."""
    groups = list(dict.fromkeys([*(band.group for band in series.bands), *(line.group for line in series.lines)]))
    columns = min(3, len(groups)) if len(series.bands) > 1 else 1
    panels: list[str | None] = [*groups] if columns > 1 else [None]
    rows = math.ceil(len(panels) / columns)
    figure = sheet(6.8, 4.4) if columns == 1 else sheet(3.1 * columns + 0.5, 2.8 * rows + 0.9)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    labels = list(dict.fromkeys(_line_label(line, columns) for line in series.lines if not line.baseline))
    colours = {label: COLOURS[index % len(COLOURS)] for index, label in enumerate(labels)}
    handles: dict[str, Any] = {}
    for index in range(rows * columns):
        axes = grid[index // columns][index % columns]
        if index >= len(panels):
            axes.set_visible(False)
            continue
        group = panels[index]
        for band in series.bands:
            if group is None or band.group == group:
                handles.setdefault(_BASELINE_LABEL, _draw_band(axes, band))
        lines = [line for line in series.lines if group is None or line.group == group]
        for line, shift in zip(lines, _shifts(series, len(lines)), strict=True):
            label = _line_label(line, columns)
            colour = GREY if line.baseline else colours[label]
            handles.setdefault(label, _draw_line(axes, line, colour, shift, joined=not series.even))
        _horizontal_axis(axes, series)
        dress(axes, series.x_label, series.y_label if index % columns == 0 else "")
        if group:
            axes.set_title(group, fontsize=9.5)
    repeated = any(point.std is not None for line in series.lines for point in line.points)
    figure.suptitle(heading(series.title, series.subtitle, 46 * columns + 38), fontsize=10, x=0.02, ha="left")
    legend = figure.legend(
        list(handles.values()),
        list(handles),
        frameon=False,
        fontsize=8.5,
        loc="outside lower center",
        ncols=max(1, min(len(handles), 2 * columns if columns > 1 else 3)),
        title="mean ± standard deviation over seeds; small dots are single seeds" if repeated else "one seed each",
        title_fontsize=8,
    )
    legend.get_title().set_color(GREY)
    return figure


def draw_search(series: SearchSeries) -> Figure:
    """The figure of a search: one panel a parameter, on one scale of accuracy."""
    count = max(1, len(series.panels))
    columns = min(3, count)
    rows = math.ceil(count / columns)
    figure = sheet(3.1 * columns + 0.5, 2.7 * rows + 0.7)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for index in range(rows * columns):
        axes = grid[index // columns][index % columns]
        if index >= len(series.panels):
            axes.set_visible(False)
            continue
        panel = series.panels[index]
        for points, label, face in ((panel.pruned, "stopped early", "none"), (panel.finished, "finished", COLOURS[0])):
            if points:
                x, y = zip(*points, strict=True)
                edge = GREY if face == "none" else "white"
                axes.scatter(x, y, s=30, facecolor=face, edgecolor=edge, linewidth=0.8, label=label, zorder=3)
        if panel.best:
            axes.scatter(
                *panel.best, s=110, facecolor="none", edgecolor=COLOURS[1], linewidth=1.6, label="best", zorder=4
            )
        if panel.logarithmic:
            axes.set_xscale("log")
            numbers = [place for place, _ in (*panel.finished, *panel.pruned)]
            if numbers and max(numbers) / min(numbers) < _FEW_DECADES:
                axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.xaxis.set_minor_locator(NullLocator())
        if panel.ticks:
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks([place for place, _ in panel.ticks], [text for _, text in panel.ticks])
            axes.margins(x=0.25 if panel.named else 0.1)
        dress(axes, panel.x_label, series.y_label if index % columns == 0 else "")
    first = grid[0][0]
    handles, labels = first.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, frameon=False, fontsize=8.5, loc="outside lower center", ncols=len(labels))
    figure.suptitle(heading(series.title, series.subtitle, 46 * columns), fontsize=10, x=0.02, ha="left")
    return figure


def _draw_band(axes: Axes, band: Band) -> Any:
    if band.std is not None:
        axes.axhspan(band.mean - band.std, band.mean + band.std, color=GREY, alpha=0.13, linewidth=0, zorder=0)
    return axes.axhline(band.mean, color=GREY, linewidth=1.3, linestyle=(0, (5, 3)), zorder=1)


def _draw_line(axes: Axes, line: Line, colour: str, shift: float, *, joined: bool) -> Any:
    x = [point.x + shift for point in line.points]
    assert axes.figure is not None
    beside = axes.transData + ScaledTranslation(6 / 72, 0, axes.figure.dpi_scale_trans)
    repeated = [(place, point.seeds) for place, point in zip(x, line.points, strict=True) if len(point.seeds) > 1]
    if repeated:  # all at once: a collection per point takes seconds for hundreds
        places = [place for place, seeds in repeated for _ in seeds]
        values = [value for _, seeds in repeated for value in seeds]
        axes.scatter(places, values, s=11, color=colour, alpha=0.5, linewidth=0, zorder=2, transform=beside)
    return axes.errorbar(
        x,
        [point.mean for point in line.points],
        yerr=[point.std or 0.0 for point in line.points] if any(p.std is not None for p in line.points) else None,
        color=colour,
        marker="s" if line.baseline else "o",
        markersize=6.5,
        markeredgecolor="white",
        markeredgewidth=0.9,
        linewidth=1.7 if joined else 0.0,
        elinewidth=1.3,
        capsize=3.5,
        zorder=3,
    )


def _line_label(line: Line, columns: int) -> str:
    """What the legend calls a line: with its group, unless its panel says it."""
    if columns > 1 or not line.group:
        return line.label
    return line.group if line.label == "STD-CL" else f"{line.label}, {line.group}"


_MOST_TICKS = 40


def _horizontal_axis(axes: Axes, series: AccuracySeries) -> None:
    if series.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    # Of hundreds of values no more are written than can be read.
    ticks = series.ticks[:: math.ceil(len(series.ticks) / _MOST_TICKS)] if series.ticks else ()
    axes.set_xticks([place for place, _ in ticks], [text for _, text in ticks])
    if series.even:
        axes.set_xlim(-0.6, len(series.ticks) - 0.4)
        axes.tick_params(axis="x", length=0)
        if sum(len(text) for _, text in series.ticks) > 60:
            axes.tick_params(axis="x", rotation=25)
    elif len(series.ticks) > 1:
        axes.margins(x=0.12)


def _shifts(series: AccuracySeries, count: int) -> list[float]:
    """Horizontal offsets that keep lines from overlapping on a categorical axis."""
    step = min(0.16, 0.6 / max(1, count))
    return [(index - (count - 1) / 2) * step if series.even else 0.0 for index in range(count)]


def _horizontal(table: SweepTable) -> str | None:
    """The parameter of the horizontal axis: the one of numbers with the most values, else the first."""

    def values(key: str) -> set[str]:
        return {repr(cell.parameters[key]) for cell in table.cells if key in cell.parameters}

    def numeric(key: str) -> bool:
        return all(_is_number(cell.parameters[key]) for cell in table.cells if key in cell.parameters)

    candidates = [key for key in table.parameters if numeric(key) and values(key)] or list(table.parameters)
    return max(candidates, key=lambda key: len(values(key)), default=None)


def _point(cell: Cell, x: float) -> Point:
    assert cell.last is not None
    seeds = tuple(100 * float(trial.row["accuracy"]) for trial in cell.finished)
    return Point(x, 100 * cell.last.mean, None if cell.last.std is None else 100 * cell.last.std, seeds)


def _value(cell: Cell, key: str | None) -> Any:
    if key is None:
        return cell.arm if cell.stated or cell.plain else str(cell.identity.get("strategy", cell.arm))
    value = cell.parameters.get(key)
    return tuple(value) if isinstance(value, list) else value


def _label(parameters: Mapping[str, Any], names: Mapping[str, str]) -> str:
    return ", ".join(f"{names[key]} {value_text(value)}" for key, value in parameters.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wants_logarithm(numbers: Sequence[float]) -> bool:
    return len(numbers) > 1 and min(numbers) > 0 and max(numbers) / min(numbers) >= _LOG_FROM


def _y_label(table: SweepTable) -> str:
    finished = [trial for trial in table.trials if "num_test" in trial.row]
    counts = {int(trial.row["num_test"]) for trial in finished}
    on = {str(trial.row.get("evaluated_on", "test")) for trial in finished}
    what = f"{on.pop()} " if len(on) == 1 else ""
    size = f"{counts.pop():,} " if len(counts) == 1 else ""
    return f"accuracy after the last epoch\n(% of {size}{what}sequences)"
