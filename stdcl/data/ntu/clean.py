"""From tracked bodies to at most two actors: denoising, merging of tracks, translation.

The rules are those of the preparation that CTR-GCN's authors took over from SGN, on which the published NTU
results of graph and transformer encoders rest; thresholds and quirks are kept where they decide which
numbers a model sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stdcl.data.ntu.raw import NUM_JOINTS, RawClip, RawFileError

LENGTH_THRESHOLD = 11
"""Of several tracks, one of at most this many frames is dropped as noise."""
SPREAD_RATIO = 0.8
"""A body wider (x extent) than this share of its height (y extent) is a bad pose."""
SPREAD_SHARE = 0.69754
"""A track with at least this share of bad poses is dropped as noise."""

ORIGIN_JOINT = 1
"""Mid spine: its first position becomes the origin."""

_COLUMNS = 3 * NUM_JOINTS


@dataclass(frozen=True)
class Track:
    """All poses of one body id.

    Attributes:
        poses: (n, 25, 3) float32.
        at: (n,) int64, the frame each pose is placed at, increasing.
        motion: how much the body moves: the variances of x, y and z over all joints and frames, summed
        (square metres).
    """

    poses: NDArray[np.float32]
    at: NDArray[np.int64]
    motion: float

    @property
    def interval(self) -> tuple[int, int]:
        """First and last frame."""
        return int(self.at[0]), int(self.at[-1])


def tracks_of(clip: RawClip, *, keep_gaps: bool = False) -> list[Track]:
    """Group a clip's bodies by tracking id, in order of first sight.

    A body that disappears and comes back is placed without its gap, right after the frames it had before,
    as the published preparation does; ``keep_gaps`` leaves each pose at its own frame instead.
    """
    members: dict[str, list[int]] = {}
    for index, body_id in enumerate(clip.body_ids):
        members.setdefault(body_id, []).append(index)
    tracks = []
    for rows in members.values():
        poses = clip.poses[rows]
        at = clip.frames[rows]
        if not keep_gaps:
            at = at[0] + np.arange(len(rows), dtype=np.int64)
        tracks.append(Track(poses, at, _motion(poses)))
    return tracks


def _motion(poses: NDArray[np.float32]) -> float:
    return float(poses.reshape(-1, 3).var(axis=0).sum())


def drop_noise(tracks: list[Track]) -> list[Track]:
    """Drop tracks that are too short or too wide to be a person, and correct the motion of the rest.

    With one track nothing is done, and the last one is never dropped by its width. If every track is too
    short, the longest (the first of equals) is kept: the published preparation fails on such a clip.
    """
    if len(tracks) < 2:
        return tracks
    kept = [track for track in tracks if len(track.poses) > LENGTH_THRESHOLD]
    if not kept:
        return [max(tracks, key=lambda track: len(track.poses))]
    left = len(kept)
    result = []
    for track in kept:
        if left == 1:
            result.append(track)
            continue
        width = np.ptp(track.poses[:, :, 0], axis=1).astype(np.float64)
        height = np.ptp(track.poses[:, :, 1], axis=1).astype(np.float64)
        good = width <= SPREAD_RATIO * height
        bad = int((~good).sum())
        if bad / len(good) >= SPREAD_SHARE:
            left -= 1
            continue
        if bad:
            track = Track(track.poses, track.at, min(track.motion, _motion(track.poses[good])))
        result.append(track)
    return result


def denoise(clip: RawClip, *, keep_gaps: bool = False) -> NDArray[np.float32]:
    """Return a clip's actors as (F, 75) for one or (F, 150) for two: person-major, joint-major, xyz,
    metres, camera space.

    One body id: its track in an array of all kept frames. More: noise is dropped; if more than one track is
    left they are merged into two actors by :func:`merge_actors`; frames without anybody are removed.
    """
    tracks = tracks_of(clip, keep_gaps=keep_gaps)
    if len(tracks) == 1:
        return _place(tracks[0], clip.num_kept)
    tracks = drop_noise(tracks)
    points = _place(tracks[0], clip.num_kept) if len(tracks) == 1 else merge_actors(tracks, clip.num_kept)
    filled: NDArray[np.bool_] = points.sum(axis=1) != 0
    return np.asarray(points[filled])


def _place(track: Track, num_frames: int) -> NDArray[np.float32]:
    points = np.zeros((num_frames, _COLUMNS), dtype=np.float32)
    points[track.at] = track.poses.reshape(-1, _COLUMNS)
    return points


def merge_actors(tracks: list[Track], num_frames: int) -> NDArray[np.float32]:
    """Write two or more tracks into two actors' columns, (num_frames, 150).

    The track with the most motion is actor 1. Each further one joins the first actor whose interval it does
    not overlap by more than one frame, and widens that interval; a track that fits neither is discarded.
    The interval of actor 2 begins as [0, 0], so it always counts from frame 0 (a quirk of the published
    preparation).
    """
    order = sorted(tracks, key=lambda track: -track.motion)
    points = np.zeros((num_frames, 2 * _COLUMNS), dtype=np.float32)
    intervals = [order[0].interval, (0, 0)]
    points[order[0].at, :_COLUMNS] = order[0].poses.reshape(-1, _COLUMNS)
    for track in order[1:]:
        start, end = track.interval
        for actor, (first, last) in enumerate(intervals):
            if min(last, end) - max(first, start) <= 0:
                columns = slice(actor * _COLUMNS, (actor + 1) * _COLUMNS)
                points[track.at, columns] = track.poses.reshape(-1, _COLUMNS)
                intervals[actor] = (min(first, start), max(last, end))
                break
    return points


def translate(points: NDArray[np.float32], *, keep_gaps: bool = False) -> NDArray[np.float32]:
    """Move the mid spine of actor 1, in the first frame where actor 1 is seen, to the origin.

    In a two-actor array, an actor's empty frames stay zero. In a one-actor array they become minus the
    origin, as in the published preparation, unless ``keep_gaps``.

    Args:
        points: (F, 75) or (F, 150).
        keep_gaps: as in :func:`denoise`.
    """
    people = points.reshape(len(points), -1, NUM_JOINTS, 3)
    seen = people[:, 0].any(axis=(1, 2))
    if not seen.any():
        return points
    origin = people[int(np.argmax(seen)), 0, ORIGIN_JOINT]
    moved = people - origin
    if people.shape[1] == 2 or keep_gaps:
        moved[people.sum(axis=(2, 3)) == 0] = 0
    return np.asarray(moved.reshape(points.shape))


def clean(clip: RawClip, *, keep_gaps: bool = False) -> NDArray[np.float32]:
    """Return a parsed clip as (F, M, 25, 3) float32, M = 1 or 2: denoised, merged and translated.

    Raises:
        RawFileError: ("no body in any frame") every coordinate is zero.
    """
    points = denoise(clip, keep_gaps=keep_gaps)
    if not points.any():
        raise RawFileError("no body in any frame", "every coordinate is zero")
    points = translate(points, keep_gaps=keep_gaps)
    return np.ascontiguousarray(points.reshape(len(points), -1, NUM_JOINTS, 3))
