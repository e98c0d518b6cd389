"""A search: the importance of its parameters with its uncertainty, and all trials across all parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure

from stdcl.report.figures.style import COLOURS, COLUMN, FAINT, GREY, dress, heading, sheet, write
from stdcl.report.searching import Parallel, Shared, importance_basis, importances, parallel
from stdcl.report.table import SweepTable

_SCALE = colormaps["cividis_r"]
"""Darker is better, also in grey."""
_PAD = 3.5
"""Points between an axis and its name."""
_CHARACTER = 0.068
"""Inches of a character of an axis' name, with the room beside it."""


def draw_search(table: SweepTable, folder: Path) -> list[Path]:
    """Write ``importance`` and ``parallel`` as PNG and PDF, as far as there is something to draw."""
    written = []
    shares = importances(table)
    if shares:
        written += write(_importance(table.name, table.question, shares, importance_basis(table)), folder, "importance")
    found = parallel(table)
    if found is not None:
        written += write(parallel_figure(table.name, table.question, found), folder, "parallel")
    return written


def _importance(title: str, question: str, shares: Sequence[Shared], basis: str) -> Figure:
    figure = sheet(COLUMN, 0.3 * len(shares) + 1.35)
    axes = figure.subplots()
    for place, each in enumerate(shares):
        axes.barh(place, each.share, height=0.55, color=COLOURS[5], zorder=2)
        axes.plot([each.low, each.high], [place, place], color="black", linewidth=1.6, zorder=3, solid_capstyle="butt")
    dress(axes, "", "")
    axes.set_yticks(range(len(shares)), [each.label for each in shares])
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.tick_params(labelsize=7)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    figure.supxlabel(heading("share of the importance, %", basis, 62), fontsize=7)
    figure.suptitle(heading(title, question, 48), fontsize=8, x=0.02, ha="left")
    return figure


def parallel_figure(title: str, question: str, found: Parallel) -> Figure:
    """Every trial as a path across upright axes, those that were stopped early thin and dashed."""
    labels, last = [axis.label.replace("_", "\n") for axis in found.axes], len(found.axes) - 1
    # Names that do not fit side by side stand in two rows, each with the room of two.
    room = _CHARACTER * max(len(line) for label in labels for line in label.split("\n"))
    staggered = room * len(labels) > COLUMN
    figure = sheet(max(COLUMN, room * len(labels) / 2), 3.4 if staggered else 3.1)
    axes = figure.subplots()
    for path in found.paths:
        x = range(len(path.places))
        if path.finished:
            # The lightest tints would be lost on white.
            colour = _SCALE(0.25 + 0.75 * path.strength)
            axes.plot(x, path.places, color=colour, linewidth=2.6 if path.best else 1.3, zorder=3)
        else:
            axes.plot(x, path.places, color=GREY, linewidth=0.6, alpha=0.7, linestyle=(0, (4, 2)), zorder=2)
    for place, axis in enumerate(found.axes):
        axes.axvline(place, color=GREY, linewidth=0.8, zorder=1)
        for height, text in axis.ticks:
            side = -1 if place == last else 1
            axes.annotate(
                text, (place, height), (3 * side, 0), textcoords="offset points", fontsize=6, va="center",
                ha="left" if side > 0 else "right", zorder=5,
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
            )  # fmt: skip
    axes.set_xticks(range(len(labels)), labels, fontsize=7)
    if staggered:
        lines = max(label.count("\n") + 1 for label in labels)
        for tick in axes.xaxis.get_major_ticks()[1::2]:
            tick.set_pad(_PAD + 9 * lines)
    axes.set_yticks([])
    axes.set_ylim(-0.06, 1.06)
    axes.tick_params(axis="x", length=0)
    axes.set_frame_on(False)
    stopped = sum(not path.finished for path in found.paths)
    note = f"{len(found.paths) - stopped} finished trials: darker ranks higher, the thickest is the best"
    if stopped:
        note += f"\n{stopped} stopped early (thin, dashed): accuracy of their last epoch"
    figure.supxlabel(note, fontsize=7)
    figure.suptitle(heading(title, question, 48), fontsize=8, x=0.02, ha="left")
    return figure
