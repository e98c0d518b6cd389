"""Which joints make which part of the body (GAP, section 3.3; joint sets of its public code)."""

from __future__ import annotations

from collections.abc import Mapping

from stdcl.errors import UserError
from stdcl.skeleton import Skeleton

PARTS = ("head", "hand", "hip", "foot")
"""In the order of a text file."""

Joints = Mapping[str, tuple[int, ...]]
"""Joints of each part, numbered from 0."""


def _numbers(text: str) -> tuple[int, ...]:
    """Return joints from 0 for joints from 1 such as ``"3, 5-12"``."""
    ends = [[int(end) for end in piece.split("-")] for piece in text.split(",")]
    return tuple(joint - 1 for piece in ends for joint in range(piece[0], piece[-1] + 1))


def _parts(*texts: str) -> Joints:
    return dict(zip(PARTS, map(_numbers, texts), strict=True))


# Skeleton -> parts, joints from 1.
JOINT_SETS: Mapping[str, Joints] = {
    "ntu": _parts("3,4,21", "5-12,22-25", "1-3,13,17", "13-20"),
    "nw-ucla": _parts("3,4", "5-12", "1,2,13,17", "13-20"),
}
# What the public code's classes for bones have: NTU takes joint 21 for 22, NW-UCLA each joint one too low.
RELEASED_BONE_SETS: Mapping[str, Joints] = {
    "ntu": _parts("3,4", "5-12,21,23-25", "1,2,13,17", "13-20"),
    "nw-ucla": _parts("3", "4-11", "1,2,12,16", "12-19"),
}


def part_joints(skeleton: Skeleton, *, released_bones: bool) -> Joints:
    """Return the joints of each part of a skeleton.

    Args:
        skeleton: of the data.
        released_bones: take the sets that the public code has for bone streams, slips included.

    Raises:
        UserError: nothing is known of this skeleton's parts.
    """
    sets = RELEASED_BONE_SETS if released_bones else JOINT_SETS
    if skeleton.name not in sets:
        raise UserError(
            f"GAP: which joints of skeleton '{skeleton.name}' are {', '.join(PARTS)} is not known; give "
            f"method.part_joints (joints from 0). Known skeletons: {', '.join(sets)}"
        )
    return sets[skeleton.name]
