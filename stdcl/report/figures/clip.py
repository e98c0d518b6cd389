"""A clip as a strip of frames, or as a small animation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stdcl import atomic
from stdcl.errors import UserError
from stdcl.report.figures.style import COLOURS, GREY

STRIP = 8
"""Frames of a strip."""

_MOST_FRAMES = 60
_SUFFIXES = (".png", ".gif")


@dataclass(frozen=True)
class Picture:
    """A clip to be drawn.

    Attributes:
        title: what stands above it.
        values: (F, M, V, 2 or more) positions; persons who are absent are all zero, missing joints NaN.
        bones: (joint, joint) pairs.
        down: whether the second coordinate points down, as in images.
    """

    title: str
    values: NDArray[np.float32]
    bones: Sequence[tuple[int, int]]
    down: bool = False


def draw_clip(clip: Picture, out: Path, *, frames: int | None = None) -> None:
    """Draw a clip: persons have colours, bones are lines, missing joints and their bones are left out.

    The first two coordinates are drawn, in one scale for the whole clip.

    Args:
        clip: what to draw.
        out: ``.png`` for a strip of frames, ``.gif`` for an animation.
        frames: how many; None: 8 for a strip, all up to 60 for an animation.

    Raises:
        UserError: another suffix, or no frames.
    """
    if out.suffix not in _SUFFIXES:
        raise UserError(f"--out {out}: .png (a strip of frames) or .gif (an animation) is needed")
    if frames is not None and frames < 1:
        raise UserError(f"--frames {frames}: at least 1 is needed")
    strip = out.suffix == ".png"
    length = len(clip.values)
    count = min(length, frames or (STRIP if strip else _MOST_FRAMES))
    at = np.unique(np.linspace(0, length - 1, count).round().astype(int))
    data = _strip(clip, at) if strip else _animation(clip, at)
    with atomic.staging_file(out) as part:
        part.write_bytes(data)


def _limits(clip: Picture) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the smallest and largest (x, y) of the joints that are there, with a margin."""
    there = np.any(clip.values, axis=(2, 3))[..., None] & ~np.isnan(clip.values).any(axis=3)
    points = clip.values[..., :2][there]
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.05 * max(float((high - low).max()), 1e-6)
    return low - margin, high + margin


def _draw(axes: Axes, clip: Picture, frame: int) -> None:
    low, high = _limits(clip)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim((high[1], low[1]) if clip.down else (low[1], high[1]))
    axes.set_aspect("equal")
    axes.axis("off")
    for person, body in enumerate(clip.values[frame]):
        if not body.any():
            continue
        joints = body[~np.isnan(body).any(axis=1), :2]
        bones = [body[list(pair), :2] for pair in clip.bones]
        colour = COLOURS[person % len(COLOURS)]
        there = [bone for bone in bones if not np.isnan(bone).any()]
        axes.add_collection(LineCollection(there, colors=colour, linewidths=1.6, capstyle="round"))
        axes.scatter(joints[:, 0], joints[:, 1], s=5, color=colour, linewidths=0, zorder=3)


def _strip(clip: Picture, at: NDArray[Any]) -> bytes:
    low, high = _limits(clip)
    ratio = float(np.clip((high[0] - low[0]) / max(high[1] - low[1], 1e-6), 0.3, 2.0))
    figure = Figure(figsize=(max(4.0, 2.2 * ratio * len(at)), 2.8), dpi=120)
    figure.suptitle(clip.title.replace("$", r"\$"), fontsize=9, x=0.01, ha="left")
    for place, frame in enumerate(at.tolist(), 1):
        axes = figure.add_subplot(1, len(at), place)
        _draw(axes, clip, frame)
        axes.set_title(f"{frame + 1}", fontsize=8, color=GREY)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.82, wspace=0.02)
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()


def _animation(clip: Picture, at: NDArray[Any]) -> bytes:
    from PIL import Image  # comes with Matplotlib

    pictures = []
    for frame in at.tolist():
        figure = Figure(figsize=(3.2, 3.4), dpi=90)
        figure.suptitle(clip.title.replace("$", r"\$"), fontsize=6, x=0.02, ha="left")
        _draw(figure.add_axes((0.02, 0.02, 0.96, 0.9)), clip, frame)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    stream = io.BytesIO()
    pictures[0].save(stream, "GIF", save_all=True, append_images=pictures[1:], duration=80, loop=0)
    return stream.getvalue()
