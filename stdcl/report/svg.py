"""Figures as inline SVG: colours come from the page's style sheet, so that they follow light, dark and print.

Every mark that carries a number has a title, which a browser shows on hovering and a screen reader speaks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup

from stdcl.report.projection import Map
from stdcl.report.searching import Parallel

WIDTH = 720.0
_LABEL = 230.0
_ROW = 34.0
_CHARACTERS = 33
"""Of a line of a label: at 12 px, 6.8 px each in the widest of the usual fonts."""
_CHARACTER = 7.2
"""Of the name of an upright axis, with the room beside it."""
_NAME = 18.0
"""Of a row of such names."""
COLOURS = 8
"""Classes ``c0`` to ``c7`` of the style sheet."""


@dataclass(frozen=True)
class Interval:
    """A row of a figure.

    Attributes:
        label: on the left.
        value: the mean; None where there is none, with ``note`` instead.
        low, high: ends of its interval; None without.
        points: single seeds: name and value.
        note: on the right, or instead of everything.
        series: number of its colour and of its filter.
    """

    label: str
    value: float | None
    low: float | None
    high: float | None
    points: tuple[tuple[str, float], ...]
    note: str
    series: int


@dataclass(frozen=True)
class Curve:
    """A line over epochs.

    Attributes:
        label: for its title.
        values: (epoch, value); NaN is left out.
        series: number of its colour and of its filter.
    """

    label: str
    values: tuple[tuple[float, float], ...]
    series: int


def intervals(
    title: str,
    rows: Sequence[Interval],
    unit: str,
    *,
    zero: bool = False,
    margin: float | None = None,
    level: int = 95,
) -> Markup:
    """Values with intervals, one below the other.

    Args:
        title: what the figure shows, for readers who do not see it.
        rows: from top to bottom.
        unit: below the axis.
        zero: whether a line stands at 0.
        margin: half the width of a band around 0, of differences that count as none.
        level: of the intervals, percent.
    """
    numbers = [v for row in rows for v in (row.value, row.low, row.high, *(p for _, p in row.points)) if v is not None]
    if zero:
        numbers += [0.0, -(margin or 0.0), margin or 0.0]
    low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
    low, high = _padded(low, high)
    height = _ROW * len(rows) + 50
    left, right = _LABEL, WIDTH - 110

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    parts = [
        f'<rect class="plot" x="{left:.1f}" y="6" width="{right - left:.1f}" height="{_ROW * len(rows) + 4:.1f}"/>'
    ]
    bottom = _ROW * len(rows) + 10
    if margin:
        parts.append(
            f'<rect class="band" x="{x(-margin):.1f}" y="6" width="{x(margin) - x(-margin):.1f}" '
            f'height="{bottom - 6:.1f}"><title>no difference larger than the margin of {margin:g}</title></rect>'
        )
    for tick in _ticks(low, high):
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="6" y2="{bottom:.1f}"/>')
        parts.append(f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 15:.1f}" text-anchor="middle">{tick:g}</text>')
    if zero:
        parts.append(f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="6" y2="{bottom:.1f}"/>')
    for index, row in enumerate(rows):
        y = 8 + _ROW * (index + 0.5)
        mark = [_label(row.label, left - 8, y)]
        if row.low is not None and row.high is not None:
            said = f"{row.label}: {level} % interval from {row.low:.2f} to {row.high:.2f}"
            mark.append(
                f'<line class="interval" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y:.1f}" y2="{y:.1f}">'
                f"<title>{escape(said)}</title></line>"
            )
        for name, value in row.points:
            mark.append(
                f'<circle class="seed" cx="{x(value):.1f}" cy="{y + 6:.1f}" r="3">'
                f"<title>{escape(f'{row.label}, {name}: {value:.2f}')}</title></circle>"
            )
        if row.value is not None:
            mark.append(
                f'<circle class="mean" cx="{x(row.value):.1f}" cy="{y:.1f}" r="5.5">'
                f"<title>{escape(f'{row.label}: {row.value:.2f}')}</title></circle>"
            )
        if row.note:
            mark.append(f'<text class="note" x="{right + 8:.1f}" y="{y + 4:.1f}">{_short(row.note, 18)}</text>')
        parts.append(f'<g class="series c{row.series % COLOURS}" data-series="{row.series}">{"".join(mark)}</g>')
    middle = f'x="{(left + right) / 2:.1f}" y="{bottom + 34:.1f}"'
    parts.append(f'<text class="axis" {middle} text-anchor="middle">{escape(unit)}</text>')
    return _figure(title, WIDTH, height, parts)


def curves(title: str, lines: Sequence[Curve], unit: str) -> Markup:
    """Lines over epochs."""
    points = [point for line in lines for point in line.values if math.isfinite(point[1])]
    if not points:
        return Markup("")
    first, last = 0.0, max(1.0, max(x for x, _ in points))
    low, high = _padded(min(y for _, y in points), max(y for _, y in points))
    left, right, top, bottom = 56.0, WIDTH - 12, 8.0, 250.0

    def x(value: float) -> float:
        return left + (value - first) / (last - first) * (right - left)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    parts = [f'<rect class="plot" x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"/>']
    for tick in _ticks(low, high):
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(first, last):
        parts.append(f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 15}" text-anchor="middle">{tick:g}</text>')
    for line in lines:
        path = _path([(x(a), y(b)) for a, b in line.values if math.isfinite(b)])
        if path:
            parts.append(
                f'<g class="series c{line.series % COLOURS}" data-series="{line.series}">'
                f'<polyline class="curve" points="{path}"><title>{escape(line.label)}</title></polyline></g>'
            )
    parts.append(f'<text class="axis" x="{(left + right) / 2}" y="{bottom + 34}" text-anchor="middle">epoch</text>')
    turned = f'transform="rotate(-90)" x="{-(top + bottom) / 2}" y="14"'
    parts.append(f'<text class="axis" {turned} text-anchor="middle">{escape(unit)}</text>')
    return _figure(title, WIDTH, bottom + 44, parts)


def sparkline(title: str, lines: Sequence[Curve]) -> Markup:
    """Small lines over epochs, without axes; each has a scale of its own."""
    parts = []
    for line in lines:
        found = [point for point in line.values if math.isfinite(point[1])]
        if len(found) < 2:
            continue
        (low, high), last = _padded(min(b for _, b in found), max(b for _, b in found)), max(a for a, _ in found)
        first = min(a for a, _ in found)
        path = _path(
            [(2 + (a - first) / max(1.0, last - first) * 156, 38 - (b - low) / (high - low) * 36) for a, b in found]
        )
        said = f"{line.label}: from {found[0][1]:.4g} to {found[-1][1]:.4g}"
        parts.append(
            f'<polyline class="curve c{line.series % COLOURS}" points="{path}"><title>{escape(said)}</title></polyline>'
        )
    return _figure(title, 160, 40, parts, "spark") if parts else Markup("")


def parallel(title: str, found: Parallel) -> Markup:
    """A path per trial across upright axes: series 0 finished, series 1 was stopped early."""
    left, right, top, bottom = 40.0, WIDTH - 70, 30.0, 270.0
    step = (right - left) / (len(found.axes) - 1)
    # Names that do not fit side by side take turns in as many rows as they need.
    rows = math.ceil(_CHARACTER * max(len(_short(axis.label, 24)) for axis in found.axes) / step)

    def y(place: float) -> float:
        return bottom - place * (bottom - top)

    parts = []
    for index, axis in enumerate(found.axes):
        x = left + index * step
        parts.append(f'<line class="zero" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        # The outer labels stay within the picture.
        anchor = "start" if index == 0 else "end" if index == len(found.axes) - 1 else "middle"
        shift = -36.0 if index == 0 else 66.0 if index == len(found.axes) - 1 else 0.0
        parts.append(
            f'<text class="axis" x="{x + shift:.1f}" y="{bottom + 20 + _NAME * (index % rows):.1f}" '
            f'text-anchor="{anchor}">'
            f"{_short(axis.label, 24)}</text>"
        )
    for path in found.paths:
        points = _path([(left + index * step, y(place)) for index, place in enumerate(path.places)])
        series = 0 if path.finished else 1
        strength = 0.3 + 0.7 * path.strength if path.finished else 0.7
        kind = "curve best" if path.best else "curve" if path.finished else "curve stopped"
        parts.append(
            f'<g class="series c{series}" data-series="{series}">'
            f'<polyline class="{kind}" style="opacity:{strength:.2f}" points="{points}">'
            f"<title>{escape(path.label)}</title></polyline></g>"
        )
    for index, axis in enumerate(found.axes):
        for place, text in axis.ticks:
            parts.append(
                f'<text class="tick over" x="{left + index * step + 5:.1f}" y="{y(place) + 4:.1f}">'
                f"{_short(text, 10)}</text>"
            )
    return _figure(title, WIDTH, bottom + 30 + _NAME * (rows - 1), parts)


_SHAPES = (
    "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0",  # circle
    "M-2.7-2.7h5.4v5.4h-5.4z",
    "M0-3.6l3.4 6h-6.8z",
    "M0-3.8l3.1 3.8-3.1 3.8-3.1-3.8z",
    "M0 3.6l3.4-6h-6.8z",
    "M-3-3l6 6M-3 3l6-6",
    "M-3.6 0h7.2M0-3.6v7.2",
)
"""As many as there are colours less one: every class has a pair of its own, also without colours."""
MOST_POINTS = 600
"""Sequences of a map that are drawn: a page holds several maps."""


def mark(number: int) -> tuple[str, str]:
    """Path of a class's mark, and the class of its colour, by the class's place in the list."""
    return _SHAPES[(number + number // COLOURS) % len(_SHAPES)], f"c{number % COLOURS}"


def maps(title: str, found: Sequence[Map], classes: Mapping[int, str]) -> Markup:
    """Maps of features side by side, a group ``data-class`` per class; each has a scale of its own.

    Args:
        title: what the figure shows, for readers who do not see it.
        found: the maps.
        classes: class index -> name, of those that are drawn.
    """
    side, gap, top = (WIDTH - 20.0) / len(found), 16.0, 26.0
    parts = []
    for panel, each in enumerate(found):
        left, width = 10.0 + panel * side, side - gap
        places = each.places - each.places.min(axis=0)
        scale = (width - 16.0) / max(float(places.max()), 1e-12)
        places = places * scale + (width - places.max(axis=0) * scale) / 2
        said = f"10 nearest of own class: {100 * each.separation:.1f} %"
        if each.explained is not None:
            said += f"; variance shown: {100 * each.explained:.0f} %"
        parts += [
            f'<text class="label" x="{left:.1f}" y="16">{_short(each.label, 50)}'
            f"<title>{escape(each.label)}</title></text>",
            f'<rect class="plot" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{width:.1f}"/>',
            f'<text class="axis" x="{left:.1f}" y="{top + width + 16:.1f}">{escape(said)}</text>',
        ]
        shown = np.zeros(len(each.labels), dtype=bool)
        shown[np.unique(np.linspace(0, len(shown) - 1, min(len(shown), MOST_POINTS)).round().astype(int))] = True
        for number, (label, name) in enumerate(classes.items()):
            shape, colour = mark(number)
            marks = "".join(
                f'<path transform="translate({left + x:.1f} {top + width - y:.1f})" d="{shape}">'
                f"<title>{escape(f'{name}: {sequence}')}</title></path>"
                for (x, y), sequence in zip(
                    places[(each.labels == label) & shown], each.ids[(each.labels == label) & shown], strict=True
                )
            )
            parts.append(f'<g class="map {colour}" data-class="{number}">{marks}</g>')
    return _figure(title, WIDTH, top + side - gap + 26, parts)


def thinned(values: Sequence[tuple[float, float]], most: int = 150) -> tuple[tuple[float, float], ...]:
    """At most so many points, first and last among them: a page holds hundreds of trials."""
    if len(values) <= most:
        return tuple(values)
    places = sorted({round(index * (len(values) - 1) / (most - 1)) for index in range(most)})
    return tuple(values[place] for place in places)


def _figure(title: str, width: float, height: float, parts: Sequence[str], kind: str = "chart") -> Markup:
    body = "".join(parts)
    # Every number and text in it was formatted or escaped above.
    return Markup(
        f'<svg class="{kind}" role="img" aria-label="{escape(title)}" viewBox="0 0 {width:g} {height:g}" '
        f'preserveAspectRatio="xMidYMid meet">{body}</svg>'
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)


def _label(text: str, x: float, y: float) -> str:
    """A text that ends at a place, on two lines where it must; whole in its title."""
    parts, lines = text.split(","), [""]
    for number, part in enumerate(parts):
        piece = part if number == len(parts) - 1 else f"{part},"
        if len(lines) < 2 and lines[-1] and len(lines[-1]) + len(piece) > _CHARACTERS:
            lines.append("")
        lines[-1] += piece
    first = y + 4.0 - 7.0 * (len(lines) - 1)
    spans = "".join(
        f'<tspan x="{x:.1f}" y="{first + 14.0 * number:.1f}">{_short(line, _CHARACTERS)}</tspan>'
        for number, line in enumerate(lines)
    )
    return f'<text class="label" text-anchor="end">{spans}<title>{escape(text)}</title></text>'


def _short(text: str, most: int) -> str:
    return escape(text if len(text) <= most else f"{text[: most - 1]}…")


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or max(0.5, 0.01 * abs(high))
    return low - room, high + room


def _ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Round numbers between two others."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1.0, 2.0, 5.0, 10.0) if each * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) + 0.0 for index in range(first, math.floor(high / step + 1e-9) + 1)]
