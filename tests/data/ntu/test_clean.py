from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stdcl.data.ntu.clean import clean, denoise, drop_noise, merge_actors, tracks_of, translate
from stdcl.data.ntu.raw import RawFileError, parse_skeleton
from tests.data.ntu.text import random_pose, skeleton_text

GOLDEN = Path(__file__).parents[2] / "golden" / "ntu_synth"


def expected() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "expected.npz", allow_pickle=False) as archive:
        return dict(archive)


def test_denoised_arrays_equal_the_reference() -> None:
    want = expected()
    for name in want["names"]:
        got = denoise(parse_skeleton((GOLDEN / f"{name}.skeleton").read_bytes()))
        np.testing.assert_array_equal(got, want[f"denoised_{name}"], err_msg=name)


@pytest.mark.parametrize("dataset", ["ntu60", "ntu120"])
def test_final_arrays_equal_the_reference(dataset: str) -> None:
    want = expected()
    for index, name in enumerate(want["names"]):
        people = clean(parse_skeleton((GOLDEN / f"{name}.skeleton").read_bytes()))
        frames = len(people)
        assert frames == want["frames"][index]
        row = np.zeros_like(want[dataset][index]).reshape(-1, 2, 75)
        flat = people.reshape(frames, -1, 75)
        row[:frames, : flat.shape[1]] = flat
        if dataset == "ntu120" and flat.shape[1] == 1:
            row[:frames, 1] = flat[:, 0]
        np.testing.assert_array_equal(row.reshape(-1, 150), want[dataset][index], err_msg=name)


def text_of(
    plan: dict[str, list[int]], frames: int, *, wide: tuple[str, ...] = (), still: tuple[str, ...] = ()
) -> bytes:
    """A clip in which each body id is present in the frames of its list."""
    g = np.random.default_rng(0)
    rest = {body: random_pose(g) for body in plan}
    out = []
    for frame in range(frames):
        bodies = []
        for body, present in plan.items():
            if frame in present:
                pose = rest[body] if body in still else rest[body] + [0.1 * frame, 0.0, 0.0]
                if body in wide:
                    pose = pose * [10.0, 1.0, 1.0]
                bodies.append((body, pose))
        out.append(bodies)
    return skeleton_text(out)


def test_a_gap_is_closed_by_default_and_kept_on_request() -> None:
    seen = [0, 1, 2, 6, 7]
    clip = parse_skeleton(text_of({"1": seen, "2": list(range(8))}, 8))
    closed, _ = tracks_of(clip)
    assert closed.at.tolist() == [0, 1, 2, 3, 4]
    kept, _ = tracks_of(clip, keep_gaps=True)
    assert kept.at.tolist() == seen
    np.testing.assert_array_equal(closed.poses, kept.poses)
    assert kept.interval == (0, 7)


def test_short_tracks_are_dropped_unless_alone() -> None:
    clip = parse_skeleton(text_of({"1": list(range(20)), "2": list(range(11))}, 20))
    assert [len(t.poses) for t in drop_noise(tracks_of(clip))] == [20]
    clip = parse_skeleton(text_of({"1": list(range(20)), "2": list(range(12))}, 20))
    assert [len(t.poses) for t in drop_noise(tracks_of(clip))] == [20, 12]
    alone = parse_skeleton(text_of({"1": [0, 1]}, 3))
    assert len(drop_noise(tracks_of(alone))) == 1


def test_if_every_track_is_short_the_longest_stays() -> None:
    clip = parse_skeleton(text_of({"1": list(range(4)), "2": list(range(7)), "3": list(range(7))}, 8))
    assert clean(clip).shape == (7, 1, 25, 3)


def test_wide_tracks_are_dropped_but_never_the_last() -> None:
    frames = list(range(20))
    clip = parse_skeleton(text_of({"1": frames, "2": frames}, 20, wide=("1",)))
    kept = drop_noise(tracks_of(clip))
    assert len(kept) == 1
    np.testing.assert_array_equal(kept[0].poses, tracks_of(clip)[1].poses)
    both = parse_skeleton(text_of({"1": frames, "2": frames}, 20, wide=("1", "2")))
    kept = drop_noise(tracks_of(both))
    assert len(kept) == 1
    np.testing.assert_array_equal(kept[0].poses, tracks_of(both)[1].poses)


def test_actor_one_is_the_one_who_moves_most() -> None:
    frames = list(range(20))
    clip = parse_skeleton(text_of({"1": frames, "2": frames}, 20, still=("1",)))
    tracks = tracks_of(clip)
    points = merge_actors(tracks, 20)
    assert tracks[1].motion > tracks[0].motion
    np.testing.assert_array_equal(points[:, :75], tracks[1].poses.reshape(-1, 75))
    np.testing.assert_array_equal(points[:, 75:], tracks[0].poses.reshape(-1, 75))


def test_tracks_of_one_person_are_joined_and_a_third_is_discarded() -> None:
    clip = parse_skeleton(
        text_of(
            {"1": list(range(15)), "2": list(range(15, 30)), "3": list(range(30)), "4": list(range(5, 25))},
            30,
            still=("4",),
        )
    )
    points = denoise(clip)
    assert points.shape == (30, 150)
    assert (np.abs(points).sum(axis=1) > 0).all()
    written = {float(v) for v in points.reshape(-1, 3)[:, 0]}
    shortest = clip.poses[[b == "4" for b in clip.body_ids]]
    longest = clip.poses[[b == "3" for b in clip.body_ids]]
    assert set(longest[:, :, 0].ravel().tolist()) <= written
    assert not set(shortest[:, :, 0].ravel().tolist()) <= written


def test_translation_of_one_and_of_two_actors() -> None:
    points = np.zeros((4, 150), dtype=np.float32)
    points[1:, :75] = 1.0
    points[1, 3:6] = (2.0, 3.0, 4.0)
    points[:2, 75:] = 5.0
    moved = translate(points).reshape(4, 2, 25, 3)
    assert not moved[0, 0].any()
    assert not moved[2:, 1].any()
    np.testing.assert_array_equal(moved[1, 0, 1], 0.0)
    np.testing.assert_array_equal(moved[0, 1], np.tile([3.0, 2.0, 1.0], (25, 1)))
    single = translate(points[:, :75]).reshape(4, 25, 3)
    np.testing.assert_array_equal(single[0], np.tile([-2.0, -3.0, -4.0], (25, 1)))
    assert not translate(points[:, :75], keep_gaps=True)[0].any()


def test_all_zero_coordinates_are_refused() -> None:
    clip = parse_skeleton(skeleton_text([[("1", np.zeros((25, 3)))]]))
    with pytest.raises(RawFileError, match="zero"):
        clean(clip)
