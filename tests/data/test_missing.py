"""Joints that were not detected, from the detector's marks to what an encoder gets."""

from __future__ import annotations

import numpy as np
import pytest

from stdcl.data import augment, streams
from stdcl.data.detection import NobodyThere, Tally, detect
from stdcl.data.missing import carried, filled, interpolated, missing
from stdcl.skeleton import NW_UCLA

NAN = np.float32(np.nan)
JOINTS = NW_UCLA.num_joints


def pose(frames: int = 8, persons: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(frames, persons, JOINTS, 3)).astype(np.float32) + 3.0


def test_gaps_are_carried_from_before_and_at_the_beginning_from_after() -> None:
    track = np.array([NAN, NAN, 2, NAN, 4, NAN], dtype=np.float32)[:, None].repeat(3, axis=1)
    assert carried(track)[:, 0].tolist() == [2, 2, 2, 2, 4, 4]
    assert carried(np.full((4, 3), NAN)).tolist() == [[0, 0, 0]] * 4
    whole = pose()[:, 0, 0]
    assert carried(whole) is whole


def test_interpolation_is_linear_rests_at_the_ends_and_needs_a_frame() -> None:
    x = pose(6)
    x[:, 0, 2] = NAN
    x[1, 0, 2], x[4, 0, 2] = (0, 3, 6), (3, 3, 0)
    x[:, 0, 5] = NAN
    got = interpolated(x, np.ones((6, 1), dtype=bool))
    np.testing.assert_allclose(got[:, 0, 2, 0], [0, 0, 1, 2, 3, 3], atol=1e-6)
    np.testing.assert_allclose(got[:, 0, 2, 2], [6, 6, 4, 2, 0, 0], atol=1e-6)
    assert missing(got[:, 0, 5]).all()


@pytest.mark.parametrize("stream", ["joint", "bone", "joint-motion", "bone-motion", "relative-1", "relative-2-motion"])
@pytest.mark.parametrize("convention", ["plain", "centred"])
@pytest.mark.parametrize("orientation", ["parent", "children"])
def test_a_missing_joint_changes_only_what_is_made_of_it(
    stream: str, convention: streams.Convention, orientation: streams.Orientation
) -> None:
    x = pose()
    whole = streams.derive(x, NW_UCLA, stream, convention, orientation)
    x[3, 0, 7] = NAN  # left hand, a leaf
    got = streams.derive(x, NW_UCLA, stream, convention, orientation)
    gone = missing(got)
    np.testing.assert_allclose(got[~gone], whole[~gone], rtol=1e-6, atol=1e-6)
    frames = {2, 3} if stream.endswith("motion") else {3}
    spread = {"relative-1": {7, 6}, "relative-2-motion": {7, 5}}.get(stream, {7}) if orientation == "children" else {7}
    assert {(f, j) for f, _, j in np.argwhere(gone)} == {(f, j) for f in frames for j in spread}
    assert np.isfinite(filled(got)).all()


def test_a_missing_centre_takes_no_other_joint_with_it() -> None:
    x = pose()
    x[2, 0, NW_UCLA.centre] = NAN
    for convention in ("plain", "centred"):
        gone = missing(streams.derive(x, NW_UCLA, "joint", convention))
        assert np.argwhere(gone).tolist() == [[2, 0, NW_UCLA.centre]]
    got = streams.centred_joint(x, NW_UCLA)
    np.testing.assert_array_equal(got[2, 0, 0], x[2, 0, 0] - x[1, 0, NW_UCLA.centre])


def test_augmentation_keeps_the_same_joints_missing() -> None:
    x = pose(10).astype(np.float64)
    x[0, 0, 1] = np.nan
    x[4:6, 0, 9] = np.nan
    gone = missing(x)
    assert np.array_equal(missing(augment.centre_clip(x, 1)), gone)
    np.testing.assert_array_equal(augment.centre_clip(x, 1)[3, 0, 2], x[3, 0, 2] - x[1, 0, 1])
    assert np.array_equal(missing(augment.centre_frames(x, 1)), gone)
    assert np.array_equal(missing(augment.rotate(x, augment.axis_rotation(0.1, 0.2, 0.3))), gone)
    low, high = augment.extent(x)
    scaled = augment.min_max(x, low, high)
    assert np.array_equal(missing(scaled), gone)
    assert np.nanmin(scaled) == -1.0
    assert np.nanmax(scaled) == 1.0
    assert np.array_equal(missing(augment.resample(x, augment.Crop(0, 10), 10)), gone)
    doubled = missing(augment.resample(x, augment.Crop(0, 10), 20))
    assert np.count_nonzero(doubled) == 2 * np.count_nonzero(gone)


def test_marks_of_detectors() -> None:
    x = pose(5, persons=2)
    x[1, 0, 4] = 0
    x[2, 0, 5] = -1
    x[3, 0, 6] = (-1, -1, 0)
    x[:2, 1] = 0  # the second person comes later
    got = detect(x, marks=("zeros", "minus-ones"), origin=1)
    assert np.argwhere(missing(got.values)).tolist() == [[1, 0, 4], [2, 0, 5], [3, 0, 6]]
    assert not got.values[:2, 1].any()
    assert got.detection.points == 8 * JOINTS
    assert detect(x, marks=(), origin=1).detection.missing.sum() == 0
    with pytest.raises(NobodyThere):
        detect(np.zeros((3, 1, JOINTS, 3), np.float32), marks=(), origin=1)


def test_a_clip_that_is_centred_already_keeps_its_origin() -> None:
    x = pose(5)
    x -= x[:, :, 1:2]
    got = detect(x, marks=("zeros",), origin=1)
    np.testing.assert_array_equal(got.values, x)
    tally = Tally(NW_UCLA.joint_names)
    tally.add(got.detection)
    assert tally.notes(1, interpolate=False) == [
        "1 clips have 'spine' at zero in all frames: taken as centred on it already"
    ]


def test_a_clip_without_its_origin_is_moved_by_the_mean_and_counted() -> None:
    x = pose(5)
    x[:, 0, 1] = np.nan
    got = detect(x, marks=(), origin=1)
    np.testing.assert_allclose(np.nanmean(got.values[0, 0], axis=0), 0.0, atol=1e-6)
    tally = Tally(NW_UCLA.joint_names)
    tally.add(got.detection)
    assert any("never show their origin 'spine'" in note for note in tally.notes(1, interpolate=True))
