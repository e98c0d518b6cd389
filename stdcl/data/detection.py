"""Poses as a detector left them: which joints were not found, and a clip moved to its origin without them.

Detectors write a joint that they did not find as (0, 0), as (-1, -1), as NaN or with a confidence of 0. Here such
joints become missing (NaN, see :mod:`stdcl.data.missing`); a person without any joint in a frame is absent in it, all
zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stdcl.data.missing import BoolArray, FloatArray, interpolated, missing

Mark = Literal["zeros", "minus-ones"]

_MOST_NAMED = 5


class Detection(NamedTuple):
    """What a clip's joints were found to be.

    Attributes:
        points: joints of persons who are there, summed over frames.
        missing: (V,) of these, those that were not detected, a joint.
        filled: of these, those filled by interpolation.
        centred: the origin joint is at zero in all frames, so the clip was taken as centred on it.
        without_origin: the origin joint is missing in all frames.
    """

    points: int
    missing: NDArray[np.int64]
    filled: int
    centred: bool
    without_origin: bool


class Detected(NamedTuple):
    """A clip with its missing joints, (F, M, V, 3), and what they are."""

    values: FloatArray
    detection: Detection


class NobodyThere(ValueError):
    """Not one joint of the first person was detected in any frame."""


def detect(
    x: FloatArray,
    *,
    marks: Sequence[Mark],
    origin: int,
    confidence: NDArray[np.floating] | None = None,
    interpolate: bool = False,
    translate: bool = True,
) -> Detected:
    """Mark the joints that were not detected, and move a clip to its origin.

    A joint is missing where a coordinate is NaN, where its confidence is 0, and where the marks say so. Zeros of the
    origin joint in every frame do not count: such a clip is centred on that joint already. The origin is the first
    person's origin joint in the first frame in which it is there; if it never is, the mean of that person's joints in
    the person's first frame.

    Args:
        x: (F, M, V, 3) positions, infinities excluded.
        marks: which constants mark a joint that was not detected; of minus ones, a third coordinate of 0 counts too.
        origin: the joint that clips are moved to.
        confidence: (F, M, V) numbers, or None.
        interpolate: fill missing joints, see :func:`stdcl.data.missing.interpolated`.
        translate: move the clip to its origin.

    Returns:
        The clip without persons after the last who is there.

    Raises:
        NobodyThere: nothing is left.
    """
    zeros: BoolArray = ~np.any(x != 0, axis=-1)
    nowhere: BoolArray = np.asarray(zeros.all(axis=2))
    gone = missing(x)
    if confidence is not None:
        gone |= confidence <= 0
    if "minus-ones" in marks:
        gone |= (x[..., :2] == -1).all(axis=-1) & np.isin(x[..., 2], (0, -1))
    seen: BoolArray = ~gone[:, 0].all(axis=-1) & ~nowhere[:, 0]
    centred = bool(seen.any() and zeros[seen, 0, origin].all())
    if "zeros" in marks:
        gone |= zeros
        if centred:
            gone[:, :, origin] &= ~(zeros[:, :, origin] & ~nowhere)
    else:
        gone |= zeros & nowhere[..., None]
    there: BoolArray = ~np.asarray(gone.all(axis=2))
    if not there[:, 0].any():
        raise NobodyThere
    last = int(np.flatnonzero(there.any(axis=0))[-1])
    there, gone, x = there[:, : last + 1], gone[:, : last + 1], x[:, : last + 1]
    x = np.where(gone[..., None], np.float32(np.nan), x)
    missing_there = gone & there[..., None]
    counted = np.count_nonzero(missing_there, axis=(0, 1))
    filled = 0
    if interpolate and counted.any():
        x = interpolated(x, there)
        filled = int(counted.sum()) - int(np.count_nonzero(missing(x) & there[..., None]))
    track = x[:, 0, origin]
    known = np.flatnonzero(~missing(track))
    if translate:
        first = x[int(np.argmax(there[:, 0])), 0]
        x = x - (track[known[0]] if len(known) else np.nanmean(first, axis=0))
    out = np.where(there[..., None, None], x, np.float32(0.0))
    return Detected(
        np.ascontiguousarray(out, dtype=np.float32),
        Detection(
            points=int(np.count_nonzero(there)) * x.shape[2],
            missing=counted,
            filled=filled,
            centred=centred and "zeros" in marks,
            without_origin=not len(known),
        ),
    )


@dataclass
class Tally:
    """The detections of all clips of a dataset, for its summary.

    Attributes:
        joints: joint names.
    """

    joints: Sequence[str]
    _missing: NDArray[np.int64] = field(init=False)
    _points: int = 0
    _filled: int = 0
    _clips: int = 0
    _touched: int = 0
    _centred: int = 0
    _without_origin: int = 0

    def __post_init__(self) -> None:
        self._missing = np.zeros(len(self.joints), dtype=np.int64)

    def add(self, detection: Detection) -> None:
        """Count a clip."""
        self._missing += detection.missing
        self._points += detection.points
        self._filled += detection.filled
        self._clips += 1
        self._touched += bool(detection.missing.any())
        self._centred += detection.centred
        self._without_origin += detection.without_origin

    def notes(self, origin: int, interpolate: bool) -> list[str]:
        """Return what a user should know, a line each."""
        out = []
        total = int(self._missing.sum())
        if total:
            order = [j for j in np.argsort(-self._missing, kind="stable")[:_MOST_NAMED].tolist() if self._missing[j]]
            most = ", ".join(f"{self.joints[j]} {self._missing[j]:,}" for j in order)
            done = (
                f"{self._filled:,} filled by interpolation, the others stay missing"
                if interpolate
                else "they stay missing"
            )
            more = ", ..." if np.count_nonzero(self._missing) > len(order) else ""
            out.append(
                f"not detected: {total:,} of {self._points:,} joints ({total / self._points:.2%}) in {self._touched:,}"
                f" of {self._clips:,} clips ({most}{more}); {done}"
            )
        name = self.joints[origin]
        if self._centred:
            out.append(f"{self._centred:,} clips have '{name}' at zero in all frames: taken as centred on it already")
        if self._without_origin:
            out.append(
                f"{self._without_origin:,} clips never show their origin '{name}': moved by the mean of the joints of"
                " their first frame"
            )
        return out
