"""How a cell's confusions differ from those of what it is compared with."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from stdcl.report.confusion import MATRIX, ConfusionChange, confusion_change
from stdcl.report.figures.style import COLOURS, COLUMN, FAINT, GREY, dress, heading, sheet, write
from stdcl.report.provenance import cell_name
from stdcl.report.table import SweepTable


def draw_confusions(table: SweepTable, folder: Path) -> list[Path]:
    """Write ``confusions_<row>`` as PNG and PDF, of each cell whose confusions differ from its reference's."""
    written = []
    for row, cell in enumerate(table.cells, 1):
        found = confusion_change(table, cell)
        if found is not None and np.nan_to_num(found.change).any():
            title = cell_name(cell, table.parameters)
            draw = _matrix if len(found.classes) <= MATRIX else _pairs
            written += write(draw(title, found), folder, f"confusions_{row}")
    return written


def _said(found: ConfusionChange) -> str:
    return f"mean over {len(found.seeds)} seed{'s' * (len(found.seeds) != 1)}, without intervals"


def _matrix(title: str, found: ConfusionChange) -> Figure:
    count = len(found.classes)
    figure = sheet(COLUMN, COLUMN + 0.3)
    axes = figure.subplots()
    merit = found.merit  # one colour is bad everywhere
    largest = float(np.nanmax(np.abs(merit)))
    axes.imshow(merit, cmap="RdBu", vmin=-largest * 1.6, vmax=largest * 1.6)
    for i in range(count):
        for j in range(count):
            value = found.change[i, j]
            if np.isfinite(value) and round(value, 1):
                bold = "bold" if i == j else "normal"
                text = f"{value:+.0f}" if abs(value) >= 9.95 else f"{value:+.1f}"
                axes.text(j, i, text, ha="center", va="center", fontsize=4.6, fontweight=bold)
    names = ["\n".join(textwrap.wrap(name, 14)[:2]) for name in found.classes]
    axes.set_xticks(range(count), names, rotation=90, fontsize=6)
    axes.set_yticks(range(count), [f"{n} ({c})" for n, c in zip(names, found.counts, strict=True)], fontsize=6)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(-0.5, count), minor=True)
    axes.set_yticks(np.arange(-0.5, count), minor=True)
    axes.grid(which="minor", color=FAINT, linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.set_frame_on(False)
    note = f"called (left: true class, sequences); {_said(found)}\nblue: better than the reference, red: worse"
    figure.supxlabel(note, fontsize=6.5)
    figure.suptitle(
        heading(title, "change of the confusions, points of the true class", 52), fontsize=8, x=0.02, ha="left"
    )
    return figure


def _pairs(title: str, found: ConfusionChange) -> Figure:
    pairs = found.pairs
    figure = sheet(COLUMN, 0.27 * len(pairs) + 1.2)
    axes = figure.subplots()
    for place, pair in enumerate(pairs):
        value = found.change[pair]
        axes.barh(place, value, height=0.6, color=COLOURS[0] if value < 0 else COLOURS[1], zorder=2)
    axes.axvline(0.0, color=GREY, linewidth=1.0, zorder=3)
    dress(axes, "", "")
    labels = [f"{found.classes[i]} ({found.counts[i]})\ncalled {found.classes[j]}" for i, j in pairs]
    axes.set_yticks(range(len(pairs)), labels)
    axes.tick_params(labelsize=6)
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    figure.supxlabel(f"change in points of the true class: left is better\n{_said(found)}; ( ): sequences", fontsize=7)
    said = f"the {len(pairs)} confusions that change most"
    figure.suptitle(heading(title, said, 48), fontsize=8, x=0.02, ha="left")
    return figure
