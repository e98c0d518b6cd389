"""Features of chosen classes in two dimensions, a cell beside what it is compared with: the paper's Figures 2 and 5."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from stdcl.report.figures.style import COLOURS, COLUMN, GREY, MARKERS, heading, sheet, write
from stdcl.report.projection import Method, Pair, feature_pair
from stdcl.report.table import SweepTable


def draw_features(table: SweepTable, folder: Path, method: Method, classes: Sequence[str]) -> list[Path]:
    """Write ``features_<row>`` as PNG and PDF, of each cell that has features beside those of its reference.

    Raises:
        UserError: as ``projection.feature_pair``.
    """
    written = []
    for row, cell in enumerate(table.cells, 1):
        pair = feature_pair(table, cell, method, classes)
        if pair is not None:
            written += write(_figure(table.name, table.question, pair), folder, f"features_{row}")
    return written


def _figure(title: str, question: str, pair: Pair) -> Figure:
    rows = -(-len(pair.classes) // 2)
    figure = sheet(COLUMN, 2.55 + 0.13 * rows)
    panels = figure.subplots(1, 2)
    for axes, each in zip(panels, pair.maps, strict=True):
        for number, (label, name) in enumerate(pair.classes.items()):
            members = each.labels == label
            # As many marks as colours, at another pace: every class has a pair of its own, also in grey.
            axes.plot(
                each.places[members, 0],
                each.places[members, 1],
                linestyle="none",
                marker=MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
                markersize=2.6,
                markeredgewidth=0.0 if number % 2 else 0.5,
                markerfacecolor=COLOURS[number % len(COLOURS)] if number % 2 else "none",
                markeredgecolor=COLOURS[number % len(COLOURS)],
                label=name,
            )
        said = f"10 nearest of own class: {100 * each.separation:.1f} %"
        if each.explained is not None:
            said += f"\nvariance shown: {100 * each.explained:.0f} %"
        axes.set_title(each.label.replace(",", ",\n"), fontsize=7)
        axes.set_xlabel(said, fontsize=6)
        axes.set_xticks([])
        axes.set_yticks([])
        for side in axes.spines.values():
            side.set_color(GREY)
    handles, names = panels[0].get_legend_handles_labels()
    legend = figure.legend(
        handles,
        [name if len(name) <= 26 else f"{name[:25]}…" for name in names],
        frameon=False,
        fontsize=6,
        loc="outside lower center",
        ncols=2,
        title="\n".join(textwrap.wrap(f"{pair.chosen}; {pair.caption}", 66)),
        title_fontsize=6,
    )
    legend.get_title().set_color(GREY)
    figure.suptitle(heading(title, question, 48), fontsize=8, x=0.02, ha="left")
    return figure
