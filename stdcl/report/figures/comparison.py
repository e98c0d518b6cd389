"""What was compared: paired differences, accuracy against epochs, and the classes that gain or lose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from stdcl.report.comparison import MOVED, Bar, Learning, classes, differences, extremes, learning
from stdcl.report.figures.style import COLOURS, COLUMN, FAINT, GREY, LINES, MARKERS, dress, heading, sheet, write
from stdcl.report.provenance import cell_name
from stdcl.report.table import SweepTable

_SHORT_NAME = 20  # characters of which two fit beside one another


def draw_comparison(table: SweepTable, folder: Path) -> list[Path]:
    """Write ``differences``, ``curves`` and ``classes_<row>`` as PNG and PDF, as far as there is something to draw."""
    written = []
    bars = differences(table)
    margin = 100 * table.judgement.margin.size if table.judgement is not None else None
    if bars:
        note = "difference in points; line: 95 % interval,\nsmall marks: seeds, band: margin"
        written += write(_bars(table.name, table.question, bars, note, margin), folder, "differences")
    curves = learning(table)
    if curves:
        written += write(_curves(table.name, table.question, curves), folder, "curves")
    for row, cell in enumerate(table.cells, 1):
        if cell.reference:
            continue
        moved, number = classes(table, cell)
        if moved:
            shown = extremes(moved)
            said = f"classes that gain or lose more than {100 * MOVED:g} points: {len(moved)} of {number}"
            if len(shown) < len(moved):
                said += f", the {len(shown)} extreme ones"
            note = "difference in points; line: 95 % interval of each\nclass, not corrected for number; ( ): sequences"
            figure = _bars(cell_name(cell, table.parameters), said, shown, note, None)
            written += write(figure, folder, f"classes_{row}")
    return written


def _bars(title: str, subtitle: str, bars: Sequence[Bar], note: str, margin: float | None) -> Figure:
    # A label of several parts has a line for each; they share the width with the axes.
    labels = [bar.label.replace(",", ",\n") for bar in bars]
    lines = sum(max(1.3, 0.75 * (label.count("\n") + 1)) for label in labels)
    figure = sheet(COLUMN, 0.19 * lines + 1.25)
    axes = figure.subplots()
    if margin:
        axes.axvspan(-margin, margin, color=FAINT, linewidth=0, zorder=0)
    axes.axvline(0.0, color=GREY, linewidth=1.0, zorder=1)
    for place, bar in enumerate(bars):
        colour = COLOURS[0] if bar.value >= 0 else COLOURS[1]
        axes.plot([bar.low, bar.high], [place, place], color=colour, linewidth=2.0, zorder=2, solid_capstyle="butt")
        axes.plot(
            bar.seeds,
            [place + 0.24] * len(bar.seeds),
            linestyle="none",
            marker="|",
            markersize=4,
            color=colour,
            zorder=3,
        )
        # Gain and loss have other marks beside other colours.
        axes.plot(bar.value, place, marker="o" if bar.value >= 0 else "s", markersize=5, color=colour, zorder=4)
    dress(axes, "", "")
    figure.supxlabel(note, fontsize=7)
    axes.set_yticks(range(len(bars)), labels)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.tick_params(labelsize=7)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    figure.suptitle(heading(title, subtitle, 48), fontsize=8, x=0.02, ha="left")
    return figure


def _curves(title: str, subtitle: str, curves: Sequence[Learning]) -> Figure:
    figure = sheet(COLUMN, 2.6 + 0.12 * len(curves))
    axes = figure.subplots()
    for number, arm in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        for seed in arm.values:
            axes.plot(arm.epochs, seed, color=colour, linewidth=0.5, alpha=0.45, zorder=2)
        complete = ~np.isnan(arm.values).any(axis=0)
        if complete.any():
            axes.plot(
                arm.epochs[complete],
                arm.values[:, complete].mean(axis=0),
                color=colour,
                linestyle=LINES[number % len(LINES)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=3.2,
                markevery=max(1, int(complete.sum()) // 8),
                linewidth=1.4,
                label=arm.label,
                zorder=3,
            )
    dress(axes, "epoch (thin: seeds, thick: their mean)", "accuracy, %")
    axes.tick_params(labelsize=7)
    axes.xaxis.label.set_fontsize(7)
    axes.yaxis.label.set_fontsize(7)
    short = max((len(arm.label) for arm in curves), default=0) <= _SHORT_NAME
    if axes.get_legend_handles_labels()[0]:
        figure.legend(frameon=False, fontsize=7, loc="outside lower center", ncols=2 if short else 1)
    figure.suptitle(heading(title, subtitle, 48), fontsize=8, x=0.02, ha="left")
    return figure
