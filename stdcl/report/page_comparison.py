"""What a page shows of each cell beside what it is compared with: classes, confusions, features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from stdcl.errors import UserError
from stdcl.report import svg
from stdcl.report.comparison import MOVED, classes, extremes
from stdcl.report.confusion import MATRIX, ConfusionChange, confusion_change
from stdcl.report.projection import Method, feature_pair
from stdcl.report.provenance import cell_name
from stdcl.report.table import Cell, SweepTable

MOST_CELLS = 20
"""Cells that a page shows so; of more, the differences stand in the tables and the rest in the figures' files."""


@dataclass(frozen=True)
class Change:
    """A number of a table of confusions: ``merit`` is between -1 (worse) and 1 (better); ``own`` is on the diagonal."""

    text: str
    merit: float
    own: bool = False


@dataclass(frozen=True)
class Confusions:
    """How a cell's confusions differ: a whole matrix, or (true class, called, change) of the pairs that change most."""

    caption: str
    classes: tuple[str, ...]
    matrix: tuple[tuple[Change, ...], ...]
    pairs: tuple[tuple[str, str, Change], ...]


@dataclass(frozen=True)
class FeatureMaps:
    """Two maps, their classes with the path and colour of each mark, and how they were made."""

    figure: Markup
    classes: tuple[tuple[str, str, str], ...]
    caption: str


@dataclass(frozen=True)
class CellView:
    """One cell beside its reference; what there is nothing of is None, and ``fault`` says why where that is no rule."""

    name: str
    series: int
    classes: Markup | None
    classes_caption: str
    confusions: Confusions | None
    features: FeatureMaps | None
    fault: str = ""


def cell_views(table: SweepTable, method: Method = "pca", named: Sequence[str] = ()) -> tuple[list[CellView], int]:
    """Return what there is to show, and how many cells are left out because there are too many.

    Args:
        table: of the sweep.
        method, named: of the maps of features, as in ``projection.feature_pair``.

    Raises:
        UserError: a class is unknown, or scikit-learn is missing.
    """
    compared = [
        (i, cell) for i, cell in enumerate(table.cells) if cell.asked is not None and cell.asked.other is not None
    ]
    out = []
    for series, cell in compared[:MOST_CELLS]:
        name = cell_name(cell, table.parameters)
        moved, caption = _classes(table, cell, name, series)
        faults: list[str] = []
        confusions, features = _confusions(table, cell, faults), None
        try:
            features = _features(table, cell, name, method, named)
        except UserError as error:
            if named or method == "tsne":  # what was asked for cannot be done
                raise
            faults.append(f"features left out: {error}")
        fault = "; ".join(faults)
        if moved is not None or confusions is not None or features is not None or fault:
            out.append(CellView(name, series, moved, caption, confusions, features, fault))
    return out, max(0, len(compared) - MOST_CELLS)


def _classes(table: SweepTable, cell: Cell, name: str, series: int) -> tuple[Markup | None, str]:
    moved, number = classes(table, cell)
    if not number:
        return None, ""
    shown = extremes(moved)
    caption = f"Classes that gain or lose more than {100 * MOVED:g} points: {len(moved)} of {number}"
    if len(shown) < len(moved):
        caption += f", the {len(shown)} extreme ones"
    if not shown:
        return None, caption
    rows = [
        svg.Interval(
            bar.label,
            bar.value,
            bar.low,
            bar.high,
            tuple((f"pair of seeds {n}", value) for n, value in enumerate(bar.seeds, 1)),
            f"{bar.value:+.1f}",
            series,
        )
        for bar in shown
    ]
    unit = "difference in points; 95 % intervals, not corrected for the number of classes; ( ): sequences"
    return svg.intervals(f"{name}: {caption}", rows, unit, zero=True), caption


def _confusions(table: SweepTable, cell: Cell, faults: list[str]) -> Confusions | None:
    found = confusion_change(table, cell, faults)
    if found is None or not np.nan_to_num(found.change).any():
        return None
    names = tuple(f"{name} ({count})" for name, count in zip(found.classes, found.counts, strict=True))
    seeds = f"mean over {len(found.seeds)} seed{'s' * (len(found.seeds) != 1)}, without intervals"
    matrix: tuple[tuple[Change, ...], ...] = ()
    pairs: tuple[tuple[str, str, Change], ...] = ()
    if len(found.classes) <= MATRIX:
        count = range(len(found.classes))
        matrix = tuple(tuple(_change(found, i, j) for j in count) for i in count)
        what = "Change of the confusions, points of the true class"
    else:
        pairs = tuple((names[i], found.classes[j], _change(found, i, j)) for i, j in found.pairs)
        what = f"The {len(pairs)} confusions that change most, points of the true class"
    return Confusions(f"{what}; {seeds}", found.classes, matrix, pairs)


def _change(found: ConfusionChange, i: int, j: int) -> Change:
    value, merit = float(found.change[i, j]), float(found.merit[i, j])
    if not np.isfinite(value) or not round(value, 1):
        return Change("", 0.0, i == j)
    return Change(f"{value:+.1f}", merit / float(np.nanmax(np.abs(found.merit))), i == j)


def _features(table: SweepTable, cell: Cell, name: str, method: Method, named: Sequence[str]) -> FeatureMaps | None:
    pair = feature_pair(table, cell, method, named)
    if pair is None:
        return None
    marks = tuple((each, *svg.mark(number)) for number, each in enumerate(pair.classes.values()))
    drawn = min(len(pair.maps[0].labels), svg.MOST_POINTS)
    caption = f"{pair.chosen}; {pair.caption}"
    if drawn < len(pair.maps[0].labels):
        caption += f"; {drawn} of these sequences are drawn"
    return FeatureMaps(svg.maps(f"features of {name} and its reference", pair.maps, pair.classes), marks, caption)
