from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stdcl.data.ntu.raw import ClipName, RawFileError, missing_ids, parse_name, parse_patiently, parse_skeleton
from tests.data.ntu.text import random_pose, skeleton_text

GOLDEN = Path(__file__).parents[2] / "golden" / "ntu_synth"
ID = "72057594037944257"


def clip(frames: int = 3, seed: int = 0) -> list[list[tuple[str, np.ndarray]]]:
    g = np.random.default_rng(seed)
    return [[(ID, random_pose(g))] for _ in range(frames)]


def refused(data: bytes) -> RawFileError:
    with pytest.raises(RawFileError) as caught:
        parse_skeleton(data)
    return caught.value


# ---- names


def test_name_fields() -> None:
    name = parse_name("S017C003P040R002A060")
    assert name == ClipName(17, 3, 40, 2, 60)
    assert name.label == 59
    assert str(name) == "S017C003P040R002A060"


@pytest.mark.parametrize(
    ("stem", "part"),
    [
        ("readme", "form"),
        ("S001C001P001R001A001x", "form"),
        ("s001C001P001R001A001", "form"),
        ("S033C001P001R001A001", "setup is 33"),
        ("S001C004P001R001A001", "camera is 4"),
        ("S001C001P107R001A001", "performer is 107"),
        ("S001C001P001R000A001", "replication is 0"),
        ("S001C001P001R001A121", "action is 121"),
    ],
)
def test_bad_names_say_why(stem: str, part: str) -> None:
    with pytest.raises(RawFileError, match=part) as caught:
        parse_name(stem)
    assert caught.value.reason == "bad name"


def test_missing_lists_have_the_official_sizes() -> None:
    assert len(missing_ids("ntu60")) == 302
    assert len(missing_ids("ntu120")) == 535
    assert missing_ids("ntu60") < missing_ids("ntu120")
    assert all(parse_name(i).setup > 17 for i in missing_ids("ntu120") - missing_ids("ntu60"))


# ---- good files


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("number", ["%.7g", "%.17g", "%.9e", "%+.6E"])
def test_values_equal_float_of_the_text(end: str, number: str) -> None:
    frames = clip(4)
    parsed = parse_skeleton(skeleton_text(frames, end=end, number=number))
    expected = [[[float(number % v) for v in joint] for joint in pose] for bodies in frames for _, pose in bodies]
    np.testing.assert_array_equal(parsed.poses, np.asarray(expected).astype(np.float32))
    assert parsed.poses.dtype == np.float32
    assert parsed.body_ids == (ID,) * 4
    assert (parsed.num_kept, parsed.num_frames) == (4, 4)


def test_bodies_zero_to_many_and_ids_beyond_a_double() -> None:
    g = np.random.default_rng(1)
    ids = [str(2**63 - 1 - k) for k in range(6)]
    assert len({float(i) for i in ids}) == 1
    frames = [
        [],
        [(i, random_pose(g)) for i in ids],
        [],
        [(ids[0], random_pose(g))],
        [],
    ]
    parsed = parse_skeleton(skeleton_text(frames))
    assert parsed.body_ids == (*ids, ids[0])
    assert parsed.frames.tolist() == [0] * 6 + [1]
    assert (parsed.num_kept, parsed.num_frames) == (2, 5)


def test_extra_blank_and_padded_lines_change_nothing() -> None:
    data = skeleton_text(clip())
    loose = b"\n" + data.replace(b"\n", b" \t\n\n") + b"\n\n"
    np.testing.assert_array_equal(parse_skeleton(loose).poses, parse_skeleton(data).poses)
    np.testing.assert_array_equal(parse_skeleton(data.rstrip()).poses, parse_skeleton(data).poses)


def test_unused_fields_may_be_infinite_as_kinect_writes_them() -> None:
    data = skeleton_text(clip()).replace(b"962.496 544.911", b"-Infinity NaN")
    np.testing.assert_array_equal(parse_skeleton(data).poses, parse_skeleton(skeleton_text(clip())).poses)


# ---- bad files


def test_wrong_joint_count() -> None:
    g = np.random.default_rng(0)
    error = refused(skeleton_text([[(ID, random_pose(g)[:20])]]))
    assert error.reason == "wrong joint count"
    assert "line 4" in error.detail
    assert "20 joints" in error.detail


def test_joint_lines_missing_from_a_block() -> None:
    lines = skeleton_text(clip()).split(b"\n")
    del lines[10]
    error = refused(b"\n".join(lines))
    assert error.reason == "wrong joint count"
    assert "24 joint lines" in error.detail


def test_every_truncation_is_named() -> None:
    data = skeleton_text(clip(2))
    lines = data.rstrip(b"\n").split(b"\n")
    for keep in range(1, len(lines)):
        assert refused(b"\n".join(lines[:keep]) + b"\n").reason == "truncated", keep
    for cut in (len(data) // 3, len(data) // 2, len(data) - 40):
        assert refused(data[:cut]).reason == "truncated", cut


def test_non_numeric_coordinate_names_line_and_axis() -> None:
    lines = skeleton_text(clip()).split(b"\n")
    fields = lines[6].split(b" ")
    fields[1] = b"1.2.3"
    lines[6] = b" ".join(fields)
    error = refused(b"\n".join(lines))
    assert error.reason == "non-numeric"
    assert "line 7" in error.detail
    assert "1.2.3" in error.detail
    assert "for y" in error.detail


@pytest.mark.parametrize("token", [b"abc", b"1_000", b"0x1F", b"--", b"?"])
def test_non_numeric_anywhere(token: bytes) -> None:
    lines = skeleton_text(clip()).split(b"\n")
    fields = lines[8].split(b" ")
    fields[9 if token != b"--" else 0] = token
    lines[8] = b" ".join(fields)
    error = refused(b"\n".join(lines))
    assert error.reason == "non-numeric"
    assert "line 9" in error.detail


@pytest.mark.parametrize("token", [b"nan", b"NaN", b"inf", b"-Infinity", b"1e39", b"1e400"])
def test_not_finite_coordinates(token: bytes) -> None:
    lines = skeleton_text(clip()).split(b"\n")
    fields = lines[5].split(b" ")
    fields[2] = token
    lines[5] = b" ".join(fields)
    error = refused(b"\n".join(lines))
    assert error.reason == "not finite"
    assert "line 6" in error.detail
    assert "for z" in error.detail


@pytest.mark.parametrize(
    "data",
    [b'{"skeletons": []}', b"PK\x03\x04\x00\x01", b"frames 3\n1\n", b"\x80\x81\xff\xfe", b"3.5\n1\n", b"-1\n"],
)
def test_not_ntu_at_all(data: bytes) -> None:
    assert refused(data).reason == "not an NTU skeleton file"


def test_empty_files_and_frames() -> None:
    assert refused(b"").reason == "empty"
    assert refused(b"\r\n \n").reason == "empty"
    assert refused(b"0\n").reason == "no body in any frame"
    assert refused(b"3\n0\n0\n0\n").reason == "no body in any frame"


def test_more_data_than_declared() -> None:
    error = refused(skeleton_text(clip()) + b"1\n")
    assert error.reason == "data after the last frame"


def test_wrong_field_counts() -> None:
    lines = skeleton_text(clip()).split(b"\n")
    short = list(lines)
    short[5] = short[5].rsplit(b" ", 1)[0]
    assert refused(b"\n".join(short)).reason == "wrong field count"
    body = list(lines)
    body[2] += b" 1"
    assert refused(b"\n".join(body)).reason == "wrong field count"


def test_one_body_twice_in_a_frame() -> None:
    g = np.random.default_rng(0)
    error = refused(skeleton_text([[(ID, random_pose(g)), (ID, random_pose(g))]]))
    assert error.reason == "body twice in a frame"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_refused_or_harmless_but_never_crashes(data: st.DataObject) -> None:
    text = bytearray(skeleton_text(clip(2)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        kind = data.draw(st.sampled_from(["byte", "cut", "drop", "double"]))
        if kind == "byte":
            text[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del text[max(at, 1) :]
        elif kind == "drop":
            del text[at : at + data.draw(st.integers(1, 200))]
        else:
            text[at:at] = text[at : at + data.draw(st.integers(1, 200))]
        if not text:
            break
    try:
        parsed = parse_skeleton(bytes(text))
    except RawFileError:
        with pytest.raises(RawFileError):
            parse_patiently(bytes(text))
        return
    np.testing.assert_array_equal(parsed.poses, parse_patiently(bytes(text)).poses)
    assert parsed.poses.shape == (len(parsed.body_ids), 25, 3)
    assert np.isfinite(parsed.poses).all()


def test_golden_files_parse() -> None:
    files = sorted(GOLDEN.glob("*.skeleton"))
    assert len(files) == 7
    for file in files:
        assert parse_skeleton(file.read_bytes()).num_kept > 0
