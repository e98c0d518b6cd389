"""What happens to one sequence before the streams: frame choice or crop, rotation, scaling, centring.

Pure functions on (F, M, V, 3) arrays; those that draw take a generator. Two loaders are in use:

* NW-UCLA (CTR-GCN's loader and its descendants): a random view rotation, min-max to [-1, 1] on each axis over the
  whole clip, and 52 frames picked without interpolation;
* NTU (CTR-GCN's loader): a random crop, linear resampling to 64 frames, and a small random rotation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stdcl.data.missing import carried, missing

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: NW-UCLA: rotation about x and y up to this many degrees, and the range of the scale.
VIEW_DEGREES = 60
VIEW_SCALE = (0.5, 1.5)
#: NTU: rotation about each axis up to this many radians, smallest share of a clip kept in training, share
#: kept in test.
AXIS_RADIANS = 0.3
TRAIN_CROP = 0.5
TEST_CROP = 0.95
#: A training crop of the NTU loader is at least this long (clips up to this length are never cropped).
SHORTEST_CROP = 64
#: Each frame is repeated this often before frames are drawn without replacement (NW-UCLA).
FRAME_REPEATS = 100


def rotation_x(angle: float) -> DoubleArray:
    """Return Rx (3, 3), radians, with sin in row 1 and -sin in row 2."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])


def rotation_y(angle: float) -> DoubleArray:
    """Return Ry (3, 3), radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])


def rotation_z(angle: float) -> DoubleArray:
    """Return Rz (3, 3), radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])


def axis_rotation(x: float, y: float, z: float) -> DoubleArray:
    """Return Rz(z) Ry(y) Rx(x), radians: the NTU loaders' rotation of column vectors."""
    return np.asarray(rotation_z(z) @ rotation_y(y) @ rotation_x(x))


class View(NamedTuple):
    """A change of viewpoint (NW-UCLA): whole degrees about x and y, and a scale."""

    x_degrees: int
    y_degrees: int
    scale: float


def draw_view(rng: np.random.Generator) -> View:
    """Draw two whole angles in [-60, 60] degrees and a scale in [0.5, 1.5)."""
    x, y = rng.integers(-VIEW_DEGREES, VIEW_DEGREES, size=2, endpoint=True)
    return View(int(x), int(y), float(rng.uniform(*VIEW_SCALE)))


def view_matrix(view: View) -> DoubleArray:
    """Return Ry Rx s (3, 3), to be multiplied from the right of row vectors."""
    return np.asarray(rotation_y(np.deg2rad(view.y_degrees)) @ rotation_x(np.deg2rad(view.x_degrees)) * view.scale)


def draw_axis_rotation(rng: np.random.Generator) -> DoubleArray:
    """Draw three angles in [-0.3, 0.3] radians and return their rotation (3, 3) of column vectors."""
    return axis_rotation(*rng.uniform(-AXIS_RADIANS, AXIS_RADIANS, size=3))


def centre_clip(x: DoubleArray, joint: int) -> DoubleArray:
    """Subtract the first person's ``joint`` of the first frame, or of the first in which it is there."""
    return np.asarray(x - carried(x[:, 0, joint])[0])


def centre_frames(x: DoubleArray, joint: int) -> DoubleArray:
    """Subtract, in each frame, the first person's ``joint`` (HCN).

    As in HCN's preprocessing, a second person who is absent (zeros) becomes minus that joint's position. Where
    that joint is missing, its last position before is taken.
    """
    return np.asarray(x - carried(x[:, 0, joint])[:, None, None])


def align_persons(x: FloatArray) -> FloatArray:
    """Turn each NTU body upright and to the front, once per clip (InfoGCN's preprocessing).

    In the first frame with a person, the spine (from joint 1 to 2) becomes +z, the hips (from 17 to 13) +x, and
    hips x spine +y, so left and right change sides, as there. InfoGCN looks at frame 1 only and loses a person who
    comes later; here such a person is turned too. No translation.

    Args:
        x: (F, M, 25, 3) positions.
    """
    out = x.copy()
    for person in range(x.shape[1]):
        there = np.flatnonzero(x[:, person].reshape(len(x), -1).any(axis=1))
        if len(there) == 0:
            continue
        body = x[there[0], person].astype(np.float64)
        spine = body[1] - body[0]
        hips = body[12] - body[16]
        if not spine.any():
            continue
        spine /= np.linalg.norm(spine)
        hips -= (hips @ spine) * spine
        if not hips.any():
            continue
        hips /= np.linalg.norm(hips)
        basis = np.stack([hips, np.cross(hips, spine), spine], axis=1)
        out[:, person] = rotate(x[:, person], basis.astype(np.float32))
    return out


def rotate(x: NDArray[Any], matrix: NDArray[Any]) -> NDArray[Any]:
    """Multiply the points of ``x`` (..., 3), as row vectors, by ``matrix`` (3, 3) from the right."""
    return np.asarray((x.reshape(-1, 3) @ matrix).reshape(x.shape))


def rotate_flat(x: FloatArray, matrix: FloatArray) -> FloatArray:
    """Turn points of a plane in space and look at them along the third axis; their third number is kept.

    Args:
        x: (..., 3): two coordinates and a score.
        matrix: (3, 3) as in :func:`rotate`.
    """
    out = rotate(np.concatenate([x[..., :2], np.zeros_like(x[..., :1])], axis=-1), matrix)
    out[..., 2] = x[..., 2]
    return np.asarray(out)


def to_origin(x: FloatArray, joint: int, *, scale: float = 1.0, axes: int = 3) -> FloatArray:
    """Move a clip so that ``joint`` of the first person who is there is at zero in the first frame that has it.

    Where it never is, the mean of that person's joints in the first frame with the person is taken. Persons who are
    absent in a frame (all zero) stay so.

    Args:
        x: (F, M, V, 3); missing joints are NaN.
        joint: the origin.
        scale: what coordinates are multiplied with afterwards.
        axes: how many of the three numbers are coordinates.
    """
    there = np.asarray(np.any(x, axis=(2, 3)))
    if not there.any():
        return x
    person = int(np.argmax(there.any(axis=0)))
    frames = np.flatnonzero(there[:, person])
    track = x[frames, person, joint]
    known = np.flatnonzero(~missing(track))
    at = track[known[0]] if len(known) else np.nanmean(x[frames[0], person], axis=0)
    out = x.copy()
    out[..., :axes] -= at[:axes]
    out[..., :axes] *= np.float32(scale)
    out[~there] = 0.0
    return out


def extent(x: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Return the smallest and largest coordinate (3,) of each axis over all frames, persons and joints there."""
    flat = x.reshape(-1, 3)
    low, high = flat.min(axis=0), flat.max(axis=0)
    if np.isnan(low).any():
        flat = flat[~missing(flat)]
        low, high = flat.min(axis=0), flat.max(axis=0)
    return low, high


def min_max(x: DoubleArray, low: DoubleArray, high: DoubleArray) -> DoubleArray:
    """Scale each axis of ``x`` (..., 3) from [``low``, ``high``] to [-1, 1]; an axis without extent becomes 0."""
    size = high - low
    flat = size == 0.0
    out = (x - low) / np.where(flat, 1.0, size) * 2.0 - 1.0
    if flat.any():
        out[..., flat] = 0.0
    return np.asarray(out)


def even_frames(length: int, frames: int) -> IntArray:
    """Return ``frames`` frame numbers spread evenly over a clip, truncated to integers (NW-UCLA, test)."""
    return np.linspace(0, length - 1, frames).astype(np.int64)


def draw_frames(rng: np.random.Generator, length: int, frames: int) -> IntArray:
    """Return ``frames`` ordered frame numbers drawn without replacement from 100 copies of each (NW-UCLA, training)."""
    repeats = max(FRAME_REPEATS, -(-frames // length))
    return np.sort(rng.choice(length * repeats, size=frames, replace=False, shuffle=False) // repeats)


class Crop(NamedTuple):
    """The part of a clip that is resampled: first frame and length."""

    start: int
    length: int


def draw_crop(rng: np.random.Generator, valid: int, share: float = TRAIN_CROP) -> Crop:
    """Draw a crop of a share in [``share``, 1) of the clip, at least 64 frames or the whole clip (NTU,
    training).

    Args:
        rng: draws the share, then the first frame.
        valid: frames of the clip.
        share: the smallest share.
    """
    length = int(np.floor(rng.uniform(share, 1.0) * valid))
    length = min(max(length, SHORTEST_CROP), valid)
    return Crop(int(rng.integers(0, valid - length, endpoint=True)), length)


def centre_crop(valid: int, share: float = TEST_CROP) -> Crop:
    """Return the middle ``share`` of the clip: floor((1 - share) valid / 2) frames go at each end (NTU, test)."""
    start = int((1.0 - share) * valid / 2.0)
    return Crop(start, valid - 2 * start)


def valid_frames(x: FloatArray) -> int:
    """Return the number of frames in which somebody is (not all zero)."""
    return int(np.count_nonzero(x.reshape(len(x), -1).any(axis=1)))


def resample(x: FloatArray, crop: Crop, frames: int) -> FloatArray:
    """Interpolate ``frames`` frames linearly from a crop, with half-pixel centres, clamped at both ends.

    Args:
        x: (F, ...) values.
        crop: the part to take.
        frames: T.

    Returns:
        (T, ...) values: output i lies at (i + 0.5) L / T - 0.5 of the crop. Where one of the two frames that it lies
        between is missing (NaN), it is the nearer one, value or missing.
    """
    at = (np.arange(frames) + 0.5) * (crop.length / frames) - 0.5
    at = np.clip(at, 0.0, crop.length - 1)
    low = np.floor(at).astype(np.int64)
    weight = (at - low).astype(x.dtype).reshape(-1, *([1] * (x.ndim - 1)))
    high = np.minimum(low + 1, crop.length - 1)
    first = x[low + crop.start]
    second = x[high + crop.start]
    out = np.asarray(first + weight * (second - first))
    gone = np.isnan(out)
    return np.where(gone, np.where(weight < 0.5, first, second), out) if gone.any() else out
