"""Writes ``.skeleton`` text for tests, plainly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Body = tuple[str, NDArray[np.float64]]


def skeleton_text(frames: Sequence[Sequence[Body]], *, end: str = "\n", number: str = "%.7g") -> bytes:
    """Text of a clip: per frame a list of (body id, (25, 3) positions)."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body_id, pose in bodies:
            lines.append(f"{body_id} 0 1 1 1 1 0 0.0125 -0.25 2")
            lines.append(str(len(pose)))
            for x, y, z in pose:
                xyz = " ".join(number % value for value in (x, y, z))
                lines.append(f"{xyz} 250.5 200.5 962.496 544.911 0.1 0.2 0.3 0.9 2")
    return (end.join(lines) + end).encode("ascii")


def random_pose(generator: np.random.Generator, *, height: float = 1.7, width: float = 0.5) -> NDArray[np.float64]:
    """A (25, 3) pose whose x and y extents are ``width`` and ``height``, 3 m away."""
    pose = generator.uniform(0.0, 1.0, (25, 3))
    for axis, extent in ((0, width), (1, height)):
        low, high = pose[:, axis].min(), pose[:, axis].max()
        pose[:, axis] = (pose[:, axis] - low) / (high - low) * extent - extent / 2
    pose[:, 2] += 2.5
    return pose
