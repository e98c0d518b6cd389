"""The input streams: joint, bone, their motions, and relative positions, derived on the fly.

All functions take and return arrays of shape (..., T, M, V, 3) - the store's own order - and change nothing
in place.

Two conventions are in use. ``plain``: CTR-GCN, 2s-AGCN and their relatives. ``centred``: Hyperformer, whose
joints are relative to the centre joint in every frame while the centre keeps its own trajectory. InfoGCN
takes relative positions of its own (``relative-k``).
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stdcl.data.missing import carried, missing
from stdcl.errors import UserError, nearest
from stdcl.skeleton import Skeleton

Convention = Literal["plain", "centred"]
Orientation = Literal["parent", "children"]
FloatArray = NDArray[np.float32]

BASIC_STREAMS = ("joint", "bone", "joint-motion", "bone-motion")
_RELATIVE = re.compile(r"relative-(\d+)(-motion)?")


def bone(x: FloatArray, skeleton: Skeleton) -> FloatArray:
    """Return each joint minus its parent; the root's bone is 0 (CTR-GCN, 2s-AGCN)."""
    return x - x[..., list(skeleton.parents), :]


def motion(x: FloatArray) -> FloatArray:
    """Return the next frame minus this one; the last frame is 0."""
    out = np.zeros_like(x)
    np.subtract(x[..., 1:, :, :, :], x[..., :-1, :, :, :], out=out[..., :-1, :, :, :])
    return out


def centred_joint(x: FloatArray, skeleton: Skeleton) -> FloatArray:
    """Return each joint minus the centre of its frame; the centre keeps its own position (Hyperformer).

    Where the centre is missing, its last position before is taken.
    """
    centre = skeleton.centre
    out = x - _carried_centre(x, centre)
    out[..., centre, :] = x[..., centre, :]
    return out


def centred_bone(x: FloatArray, skeleton: Skeleton) -> FloatArray:
    """Return the bones, with the root's own position in place of its zero bone (Hyperformer)."""
    out = bone(x, skeleton)
    root = _root(skeleton.parents)
    out[..., root, :] = x[..., root, :]
    return out


def relative_matrix(skeleton: Skeleton, k: int, orientation: Orientation = "parent") -> FloatArray:
    """Return the (V, V) matrix I - P^k of InfoGCN's relative-position mode k.

    Args:
        skeleton: its ``mode_parents`` make P.
        k: order; from the tree's depth + 1 on, P^k = 0 and the mode is the plain joint stream.
        orientation: ``parent``: P[child, parent] = 1, so k = 1 gives each joint minus its parent and the root
            keeps its position (InfoGCN on NTU). ``children``: the transpose, each joint minus the sum of its
            children, as InfoGCN's code has it on NW-UCLA.
    """
    parents = skeleton.mode_parents
    v = len(parents)
    hop = np.zeros((v, v), dtype=np.float32)
    for child, parent in enumerate(parents):
        if child != parent:
            hop[child, parent] = 1.0
    if orientation == "children":
        hop = hop.T
    return np.asarray(np.eye(v) - np.linalg.matrix_power(hop, k), dtype=np.float32)


def relative(x: FloatArray, skeleton: Skeleton, k: int, orientation: Orientation = "parent") -> FloatArray:
    """Return InfoGCN's relative positions of order k: (I - P^k) x over the joints."""
    matrix = relative_matrix(skeleton, k, orientation).astype(x.dtype)
    out = np.asarray(np.matmul(matrix, x))
    if np.isnan(out).any():  # a product over joints: a missing one would take all others with it
        gone = missing(x)
        out = np.asarray(np.matmul(matrix, np.where(gone[..., None], 0.0, x).astype(x.dtype)))
        out[np.matmul(gone, matrix.T != 0)] = np.nan
    return out


def _carried_centre(x: FloatArray, centre: int) -> FloatArray:
    """Return the (..., T, M, 1, 3) positions of a joint without gaps."""
    track = x[..., centre, :]
    return np.asarray(np.swapaxes(carried(np.swapaxes(track, -2, -3)), -2, -3)[..., None, :])


def scores(x: FloatArray, skeleton: Skeleton, stream: str) -> FloatArray:
    """Return the scores of a stream's joints: means of the scores of what each is made of (PYSKL).

    Args:
        x: (..., T, M, V) scores of the joints.
        skeleton: the joint tree.
        stream: as for :func:`derive`; relative positions count as bones.
    """
    if not stream.startswith("joint"):
        x = (x + x[..., list(skeleton.parents)]) / np.float32(2.0)
    if stream.endswith("motion"):
        out = x.copy()
        out[..., :-1, :, :] = (x[..., 1:, :, :] + x[..., :-1, :, :]) / np.float32(2.0)
        return out
    return x


def _root(parents: tuple[int, ...]) -> int:
    return next(j for j, p in enumerate(parents) if j == p)


def check_stream(stream: str) -> None:
    """Refuse a name that :func:`derive` does not know.

    Raises:
        UserError: with the allowed names and the nearest one.
    """
    found = _RELATIVE.fullmatch(stream)
    if stream in BASIC_STREAMS or (found and int(found.group(1)) > 0):
        return
    allowed = (*BASIC_STREAMS, "relative-1")
    raise UserError(
        f"data.stream is '{stream}'{nearest(stream, allowed)}; allowed are {', '.join(BASIC_STREAMS)},"
        " relative-K and relative-K-motion with K = 1, 2, ..."
    )


def derive(
    x: FloatArray,
    skeleton: Skeleton,
    stream: str,
    convention: Convention = "plain",
    orientation: Orientation = "parent",
) -> FloatArray:
    """Return a stream of the joint positions ``x``.

    Args:
        x: (..., T, M, V, 3) positions after cropping, resampling, rotation and scaling.
        skeleton: the joint tree.
        stream: ``joint``, ``bone``, ``joint-motion``, ``bone-motion``, ``relative-K``, ``relative-K-motion``.
        convention: ``plain`` or ``centred``; of the first four only.
        orientation: of ``relative-K`` only, see :func:`relative_matrix`.

    Returns:
        An array of the same shape; absent persons (all zero) stay zero, missing joints (NaN) stay missing.

    Raises:
        UserError: an unknown stream.
    """
    check_stream(stream)
    found = _RELATIVE.fullmatch(stream)
    if found:
        out = relative(x, skeleton, int(found.group(1)), orientation)
    elif convention == "centred":
        out = centred_bone(x, skeleton) if stream.startswith("bone") else centred_joint(x, skeleton)
    else:
        out = bone(x, skeleton) if stream.startswith("bone") else x
    return motion(out) if stream.endswith("motion") else out
