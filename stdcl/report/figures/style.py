"""What all figures look like: colours, sheets, axes, and how they are written."""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stdcl.atomic import staging_file

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
"""Beside the colours, so that figures can be read in grey."""
GREY, FAINT = "#5F5F5F", "#E4E4E4"
COLUMN = 3.35
"""Inches of a column of a two-column page."""


def write(figure: Figure, folder: Path, stem: str) -> list[Path]:
    """Write a figure as PNG and PDF (vector, fonts embedded), atomically; the same figure gives the same bytes."""
    files = []
    for kind in ("png", "pdf"):
        path = folder / f"{stem}.{kind}"
        # Type 42 embeds fonts as they are; without dates the bytes depend on nothing else.
        with staging_file(path) as part, mpl.rc_context({"pdf.fonttype": 42}):
            metadata = {"CreationDate": None} if kind == "pdf" else None
            figure.savefig(part, format=kind, dpi=220, facecolor="white", metadata=metadata)
        files.append(path)
    return files


def sheet(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, x_label: str, y_label: str) -> None:
    """Labels, a grid of horizontal lines, and no frame."""
    axes.set_xlabel(x_label, fontsize=10)
    axes.set_ylabel(y_label, fontsize=9.5)
    axes.tick_params(labelsize=9, color=GREY)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(y=0.12)
    axes.ticklabel_format(axis="y", useOffset=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)


def heading(title: str, subtitle: str, width: int) -> str:
    """The sweep's name and question, as written (a dollar sign is not mathematics here)."""
    lines = [title, *textwrap.wrap(subtitle, width)[:3]]
    return "\n".join(lines).replace("$", r"\$")
