"""Joints that were not detected: NaN in all three coordinates, from the store to the last step before the encoder.

NaN stays NaN in sums, differences, rotations and interpolation, so a missing joint stays missing in every stream: a
bone without its parent, a motion without its next frame. What would spread it to joints that are there (an origin, an
extent, a product over joints) takes the nearest frame in which the joint is there, or leaves missing joints out. The
encoder gets zeros, by :func:`filled`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


def missing(x: NDArray[Any]) -> BoolArray:
    """Return, for points ``x`` (..., 3), which are missing (...)."""
    return np.asarray(np.isnan(x).any(axis=-1))


def carried(track: NDArray[Any]) -> NDArray[Any]:
    """Fill a joint's missing frames with its last position before, or at the beginning with its first.

    Args:
        track: (..., T, 3) positions of one joint.

    Returns:
        (..., T, 3) positions; zeros where the joint is missing in all frames; ``track`` itself if nothing is missing.
    """
    gone = missing(track)
    if not gone.any():
        return track
    at = np.where(gone, 0, np.arange(track.shape[-2]))
    first = np.argmin(gone, axis=-1)[..., None]
    source = np.maximum(np.maximum.accumulate(at, axis=-1), first)
    return np.asarray(np.nan_to_num(np.take_along_axis(track, source[..., None], axis=-2), copy=False))


def interpolated(x: FloatArray, there: BoolArray) -> FloatArray:
    """Fill missing joints by straight lines between the nearest frames in which they are there.

    Before the first and after the last such frame, the joint rests. One that is missing in all frames stays missing.

    Args:
        x: (F, M, V, 3) positions.
        there: (F, M) frames in which the person is there; no others are filled or used.
    """
    out = x.copy()
    gone = missing(x)
    for person, joint in np.argwhere(gone.any(axis=0)):
        frames = np.flatnonzero(there[:, person])
        known = frames[~gone[frames, person, joint]]
        unknown = frames[gone[frames, person, joint]]
        if len(known) and len(unknown):
            for axis in range(3):
                out[unknown, person, joint, axis] = np.interp(unknown, known, x[known, person, joint, axis])
    return out


def filled(x: FloatArray) -> FloatArray:
    """Replace, in place, what is missing by zeros, as encoders take it, and return ``x``."""
    x[np.isnan(x)] = 0.0
    return x
