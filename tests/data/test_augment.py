"""Rotation, scaling, crops, resampling and frame choice against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stdcl.data import augment
from stdcl.seeding import generator
from tests.rounding import gamma


def test_rotations_are_rotations_in_the_stated_sense() -> None:
    rng = np.random.default_rng(0)
    for angles in rng.uniform(-3, 3, size=(20, 3)):
        matrix = augment.axis_rotation(*angles)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)
    quarter = np.pi / 2
    np.testing.assert_allclose(augment.rotation_x(quarter) @ [0, 0, 1], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(augment.rotation_y(quarter) @ [1, 0, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(augment.rotation_z(quarter) @ [0, 1, 0], [1, 0, 0], atol=1e-12)


def test_view_matrix_multiplies_rows_by_y_then_x() -> None:
    a, b, s = np.deg2rad(20), np.deg2rad(-35), 1.3
    expected = augment.rotation_y(b) @ augment.rotation_x(a) * s
    np.testing.assert_allclose(augment.view_matrix(augment.View(20, -35, 1.3)), expected)
    x = np.random.default_rng(0).standard_normal((4, 1, 20, 3))
    np.testing.assert_allclose(augment.rotate(x, expected)[2, 0, 5], x[2, 0, 5] @ expected)


def test_views_cover_whole_degrees_and_scales() -> None:
    views = [augment.draw_view(generator(0, "test", i)) for i in range(4000)]
    for angles in ([v.x_degrees for v in views], [v.y_degrees for v in views]):
        assert set(angles) == set(range(-60, 61))
    scales = np.array([v.scale for v in views])
    assert 0.5 <= scales.min() < 0.51
    assert 1.49 < scales.max() < 1.5


def test_scale_and_centring_vanish_in_min_max() -> None:
    x = np.random.default_rng(0).standard_normal((9, 1, 20, 3))

    def scaled(y: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return augment.min_max(y, *augment.extent(y))

    np.testing.assert_allclose(scaled(x), scaled(augment.centre_clip(x, 1) * 0.7), atol=1e-14)
    low, high = augment.extent(scaled(x))
    np.testing.assert_allclose((low, high), ((-1, -1, -1), (1, 1, 1)))


def test_min_max_of_an_axis_without_extent_is_zero() -> None:
    x = np.random.default_rng(0).standard_normal((9, 1, 20, 3))
    x[..., 1] = 4.0
    out = augment.min_max(x, *augment.extent(x))
    assert not out[..., 1].any()
    assert np.isfinite(out).all()


@pytest.mark.parametrize("length", [1, 2, 3, 13, 30, 51, 52, 53, 100, 104, 134, 201, 1000])
def test_even_frames_truncate_numpys_linspace(length: int) -> None:
    got = augment.even_frames(length, 52)
    assert got.tolist() == [int(v) for v in np.linspace(0, length - 1, 52)]
    assert got[0] == 0
    assert got[-1] == length - 1


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 300), frames=st.sampled_from([1, 13, 52, 64, 300]), key=st.integers(0, 2**40))
def test_drawn_frames_are_ordered_and_in_range(length: int, frames: int, key: int) -> None:
    got = augment.draw_frames(generator(0, "test", key), length, frames)
    assert got.shape == (frames,)
    assert (np.diff(got) >= 0).all()
    assert got.min() >= 0
    assert got.max() < length


def test_distinct_frames_are_as_many_as_chance_says() -> None:
    distinct = [len(set(augment.draw_frames(generator(0, "test", i), 30, 52).tolist())) for i in range(2000)]
    never = np.prod(1 - 100 / (3000 - np.arange(52)))  # a frame is in none of 52 draws without replacement
    assert np.mean(distinct) == pytest.approx(30 * (1 - never), abs=5 * np.std(distinct) / 2000**0.5)


def test_drawn_frames_are_uniform() -> None:
    counts = np.zeros(10)
    for i in range(2000):
        counts += np.bincount(augment.draw_frames(generator(0, "test", i), 10, 5), minlength=10)
    assert counts.sum() == 10_000
    # 99.99 % point of chi-square with 9 degrees of freedom.
    assert ((counts - 1000) ** 2 / 1000).sum() < 33.7


def test_never_more_copies_of_a_frame_than_there_are() -> None:
    assert augment.draw_frames(generator(0, "test"), 1, 52).tolist() == [0] * 52
    assert augment.draw_frames(generator(0, "test"), 1, 300).tolist() == [0] * 300


@settings(max_examples=100, deadline=None)
@given(valid=st.integers(1, 400), key=st.integers(0, 2**40))
def test_training_crop(valid: int, key: int) -> None:
    crop = augment.draw_crop(generator(0, "test", key), valid)
    assert crop.start >= 0
    assert crop.start + crop.length <= valid
    assert min(valid, max(64, valid // 2)) <= crop.length <= valid
    if valid <= 64:
        assert crop == (0, valid)


def test_training_crop_reaches_both_ends() -> None:
    crops = [augment.draw_crop(generator(0, "test", i), 130) for i in range(3000)]
    assert {c.length for c in crops} == set(range(65, 130))
    assert min(c.start for c in crops) == 0
    assert max(c.start + c.length for c in crops) == 130
    longest_left = [130 - c.length - c.start for c in crops]
    assert np.mean([c.start for c in crops]) == pytest.approx(np.mean(longest_left), rel=0.1)


@pytest.mark.parametrize(
    ("valid", "dropped"), [(1, 0), (39, 0), (40, 1), (79, 1), (80, 2), (119, 2), (120, 3), (300, 7)]
)
def test_test_crop(valid: int, dropped: int) -> None:
    assert augment.centre_crop(valid) == (dropped, valid - 2 * dropped)


@pytest.mark.parametrize(("length", "frames"), [(1, 64), (2, 64), (30, 64), (64, 64), (81, 64), (300, 64), (20, 52)])
def test_resampling_is_bilinear_resizing(length: int, frames: int) -> None:
    x = np.random.default_rng(length).standard_normal((length + 5, 2, 25, 3)).astype(np.float32)
    got = augment.resample(x, augment.Crop(3, length), frames)
    part = torch.from_numpy(x[3 : 3 + length].reshape(1, 1, length, 150))
    expected = torch.nn.functional.interpolate(part, size=(frames, 150), mode="bilinear", align_corners=False)
    # A frame's place is rounded in float32, by a share of the length, and weighs the difference of two frames.
    allowed = gamma(4) * (length + 1) * 2 * float(np.abs(x).max())
    np.testing.assert_allclose(got.reshape(frames, 150), expected[0, 0].numpy(), rtol=0, atol=allowed)
    assert got.dtype == np.float32


def test_centre_frames_moves_an_absent_person_too() -> None:
    x = np.random.default_rng(0).standard_normal((5, 2, 25, 3))
    x[:, 1] = 0
    out = augment.centre_frames(x, 1)
    assert not out[:, 0, 1].any()
    np.testing.assert_allclose(out[:, 1, 7], -x[:, 0, 1])


def test_valid_frames() -> None:
    x = np.zeros((6, 2, 25, 3), dtype=np.float32)
    x[:4, 1, 3, 2] = -1e-30
    assert augment.valid_frames(x) == 4


def test_aligned_bodies_stand_upright_and_face_the_front() -> None:
    x = np.random.default_rng(0).standard_normal((6, 3, 25, 3)).astype(np.float32)
    x[:2, 1] = 0  # comes later
    x[:, 2] = 0  # never there
    out = augment.align_persons(x)
    for person, frame in ((0, 0), (1, 2)):
        body = out[frame, person]
        spine = body[1] - body[0]
        np.testing.assert_allclose(spine, [0, 0, np.linalg.norm(spine)], atol=1e-5)
        hips = body[12] - body[16]
        assert hips[0] > 0
        assert hips[1] == pytest.approx(0, abs=1e-5)
        # A rotation: distances stay, one basis for the whole clip.
        old, new = x[4, person], out[4, person]
        np.testing.assert_allclose(old @ old.T, new @ new.T, atol=1e-4)
    assert not out[:2, 1].any()
    assert not out[:, 2].any()
