"""The streams against loops written from their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stdcl.data import streams
from stdcl.errors import UserError
from stdcl.skeleton import NTU, NW_UCLA, Skeleton

BOTH = pytest.mark.parametrize("skeleton", [NTU, NW_UCLA], ids=["ntu", "nw-ucla"])
Array = NDArray[np.float32]


def points(skeleton: Skeleton, persons: int = 2) -> Array:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 7, persons, skeleton.num_joints, 3)).astype(np.float32)
    x[1, :, 1:] = 0  # an absent person
    return x


def root(skeleton: Skeleton) -> int:
    return next(j for j, p in enumerate(skeleton.parents) if j == p)


@BOTH
def test_bone_and_motion(skeleton: Skeleton) -> None:
    x = points(skeleton)
    bone = streams.derive(x, skeleton, "bone")
    for joint, parent in enumerate(skeleton.parents):
        np.testing.assert_array_equal(bone[..., joint, :], x[..., joint, :] - x[..., parent, :])
    assert not bone[..., root(skeleton), :].any()
    for stream, base in (("joint-motion", x), ("bone-motion", bone)):
        motion = streams.derive(x, skeleton, stream)
        for t in range(6):
            np.testing.assert_array_equal(motion[:, t], base[:, t + 1] - base[:, t])
        assert not motion[:, 6].any()


@BOTH
def test_centred_convention(skeleton: Skeleton) -> None:
    x = points(skeleton)
    c = skeleton.centre
    assert c == root(skeleton)
    joint = streams.derive(x, skeleton, "joint", "centred")
    bone = streams.derive(x, skeleton, "bone", "centred")
    for j, parent in enumerate(skeleton.parents):
        if j == c:
            np.testing.assert_array_equal(joint[..., c, :], x[..., c, :])
            np.testing.assert_array_equal(bone[..., c, :], x[..., c, :])
        else:
            np.testing.assert_array_equal(joint[..., j, :], x[..., j, :] - x[..., c, :])
            np.testing.assert_array_equal(bone[..., j, :], x[..., j, :] - x[..., parent, :])
    for base, stream in ((joint, "joint-motion"), (bone, "bone-motion")):
        np.testing.assert_array_equal(streams.derive(x, skeleton, stream, "centred"), streams.motion(base))


@BOTH
@pytest.mark.parametrize("k", range(1, 10))
def test_relative_positions(skeleton: Skeleton, k: int) -> None:
    x = points(skeleton)
    got = streams.derive(x, skeleton, f"relative-{k}")
    parents = skeleton.mode_parents
    for j in range(skeleton.num_joints):
        ancestor: int | None = j
        for _ in range(k):
            ancestor = None if ancestor is None or parents[ancestor] == ancestor else parents[ancestor]
        expected = x[..., j, :] - (0 if ancestor is None else x[..., ancestor, :])
        np.testing.assert_allclose(got[..., j, :], expected, atol=1e-6)
    np.testing.assert_array_equal(streams.derive(x, skeleton, f"relative-{k}-motion"), streams.motion(got))


def test_relative_positions_end_in_the_joint_stream() -> None:
    for skeleton, depth in ((NTU, 8), (NW_UCLA, 7)):
        v = skeleton.num_joints
        np.testing.assert_array_equal(streams.relative_matrix(skeleton, depth), np.eye(v))
        assert (streams.relative_matrix(skeleton, depth - 1) != np.eye(v)).any()


def test_relative_positions_towards_the_children() -> None:
    x = points(NW_UCLA)
    got = streams.derive(x, NW_UCLA, "relative-1", orientation="children")
    for j in range(20):
        children = [c for c, p in enumerate(NW_UCLA.parents) if p == j and c != j]
        np.testing.assert_allclose(got[..., j, :], x[..., j, :] - x[..., children, :].sum(-2), atol=1e-5)


@pytest.mark.parametrize("convention", ["plain", "centred"])
@pytest.mark.parametrize("stream", [*streams.BASIC_STREAMS, "relative-2"])
def test_absent_persons_stay_zero_and_nothing_is_changed_in_place(stream: str, convention: streams.Convention) -> None:
    x = points(NTU)
    kept = x.copy()
    out = streams.derive(x, NTU, stream, convention)
    assert out.shape == x.shape
    assert out.dtype == np.float32
    assert not out[1, :, 1:].any()
    np.testing.assert_array_equal(x, kept)


def test_one_frame_has_no_motion() -> None:
    assert not streams.motion(points(NTU)[:, :1]).any()


@pytest.mark.parametrize("stream", ["bones", "motion", "relative-0", "relative", "Joint", "joint motion"])
def test_unknown_streams_are_refused(stream: str) -> None:
    with pytest.raises(UserError, match="allowed are joint, bone, joint-motion, bone-motion"):
        streams.derive(points(NTU), NTU, stream)


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(UserError, match="did you mean 'bone-motion'"):
        streams.check_stream("bone-moton")
