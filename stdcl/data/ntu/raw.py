"""NTU RGB+D raw files: names, the official missing list, and a parser of the ``.skeleton`` text.

A ``.skeleton`` file is whitespace-separated text, one item per line: the number of frames; a frame: the
number of bodies (0 to many); a body: one line of 10 fields that starts with a 64-bit tracking id, the
number of joints (25), and 25 lines of 12 fields, of which the first three are x, y, z in metres (camera
space).

Of the other nine fields of a joint and of a body's line only the form is checked (each must be a number;
not-a-number and infinity are let through there, as Kinect writes them for pixels outside its image):
nothing downstream reads them.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
from numpy.typing import NDArray

from stdcl.data.raw_file import FARTHEST

NUM_JOINTS = 25
"""Joints of a Kinect v2 body."""

_BODY_FIELDS = 10
_JOINT_FIELDS = 12
_COLUMNS = [f"f{i}" for i in range(_JOINT_FIELDS)]
_BLOCK = [_JOINT_FIELDS] * NUM_JOINTS
_NUMBER_CHARACTERS = b"0123456789+-.eE \t\r\n\v\f"
_LOOSE_BLANKS = (b"  ", b" \n", b" \r", b"\n ")
"""Blanks that would make an empty field where fields are divided by single blanks."""

Reason = Literal[
    "bad name",
    "duplicate name",
    "unreadable",
    "empty",
    "not an NTU skeleton file",
    "wrong joint count",
    "truncated",
    "non-numeric",
    "not finite",
    "out of range",
    "wrong field count",
    "data after the last frame",
    "body twice in a frame",
    "no body in any frame",
]
"""Every reason for which a raw file is refused."""


class RawFileError(Exception):
    """A raw file that cannot be used.

    Attributes:
        reason: one of a few words, to count by.
        detail: what exactly, and on which line.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason: Reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, order=True)
class ClipName:
    """The fields of ``SsssCcccPpppRrrrAaaa`` (all counted from 1)."""

    setup: int
    camera: int
    performer: int
    replication: int
    action: int

    def __str__(self) -> str:
        return f"S{self.setup:03d}C{self.camera:03d}P{self.performer:03d}R{self.replication:03d}A{self.action:03d}"

    @property
    def label(self) -> int:
        """Class index from 0."""
        return self.action - 1


_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_LIMITS = {"setup": 32, "camera": 3, "performer": 106, "replication": 2, "action": 120}


def parse_name(stem: str) -> ClipName:
    """Read a file name without its suffix.

    Raises:
        RawFileError: ("bad name") not of the form ``S001C001P001R001A001``, or a field outside NTU RGB+D 120's range.
    """
    found = _NAME.fullmatch(stem)
    if found is None:
        raise RawFileError("bad name", f"'{stem}' is not of the form S001C001P001R001A001")
    values = [int(v) for v in found.groups()]
    for (field, most), value in zip(_LIMITS.items(), values, strict=True):
        if not 1 <= value <= most:
            raise RawFileError("bad name", f"'{stem}': {field} is {value}; allowed are 1 to {most}")
    return ClipName(*values)


SETUPS = {"ntu60": 17, "ntu120": 32}
"""The setups of each dataset are 1 to this number."""


@cache
def missing_ids(dataset: str) -> frozenset[str]:
    """Return the ids that the dataset's owners list as without a skeleton: 302 for NTU60, 535 for NTU120."""
    text = resources.files("stdcl.data.ntu").joinpath("missing.txt").read_text(encoding="ascii")
    ids = frozenset(text.split())
    return frozenset(i for i in ids if parse_name(i).setup <= SETUPS[dataset])


@dataclass(frozen=True)
class RawClip:
    """The bodies of one file, frames without any body left out.

    Attributes:
        poses: (B, 25, 3) float32, metres, in file order.
        frames: (B,) int64, the body's frame among the kept frames.
        body_ids: B tracking ids, as text (they do not fit a float).
        num_kept: frames with at least one body.
        num_frames: frames that the file declares.
    """

    poses: NDArray[np.float32]
    frames: NDArray[np.int64]
    body_ids: tuple[str, ...]
    num_kept: int
    num_frames: int


def parse_skeleton(data: bytes) -> RawClip:
    """Parse the bytes of one ``.skeleton`` file (LF or CRLF, plain or E-notation, with or without a byte-order mark).

    A file laid out as the camera's software writes it is read by Arrow's text parser; any other by a
    patient reader that allows more and says what is wrong. Where both read a file they agree to the last
    bit.

    Raises:
        RawFileError: with one of the reasons of :data:`Reason`, and the line.
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    return _parse_fast(data) or parse_patiently(data)


def _parse_fast(data: bytes) -> RawClip | None:
    """Parse a file without any irregularity; None if there is one, whatever it is.

    The table of joint lines is the file's lines of 12 fields; all others (counts, bodies) are handed to
    ``note`` with their line number, and must stand where the counts say.
    """
    if data.translate(None, _NUMBER_CHARACTERS) or any(blank in data for blank in _LOOSE_BLANKS) or data[-1:] == b" ":
        return None
    others: list[tuple[int, str]] = []

    def note(row: Any) -> str:
        others.append((row.number, row.text))
        return "skip"

    try:
        table = csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=_COLUMNS),
            parse_options=csv.ParseOptions(
                delimiter=" ", quote_char=False, ignore_empty_lines=False, invalid_row_handler=note
            ),
            convert_options=csv.ConvertOptions(
                include_columns=_COLUMNS[:3], column_types=dict.fromkeys(_COLUMNS[:3], pa.float64()), null_values=[]
            ),
        )
    except pa.ArrowInvalid:
        return None
    body_ids: list[str] = []
    frames: list[int] = []
    lines = iter(others)
    kept = 0
    expected = 1  # the line number at which the next line that is not a joint's must stand

    def take(fields: int) -> list[str]:
        nonlocal expected
        number, text = next(lines)
        found = text.split()
        if number != expected or len(found) != fields:
            raise _Irregular
        expected += 1
        return found

    try:
        num_frames = _plain_count(take(1))
        for _ in range(num_frames):
            bodies = _plain_count(take(1))
            first = len(body_ids)
            for _ in range(bodies):
                body_ids.append(take(_BODY_FIELDS)[0])
                if _plain_count(take(1)) != NUM_JOINTS:
                    return None
                expected += NUM_JOINTS
                frames.append(kept)
            if bodies:
                kept += 1
                if bodies > 1 and len(set(body_ids[first:])) < bodies:
                    return None
    except (StopIteration, _Irregular):
        return None
    if next(lines, None) is not None or not body_ids or table.num_rows != NUM_JOINTS * len(body_ids):
        return None
    columns = [table.column(axis).combine_chunks() for axis in range(3)]
    if any(column.null_count for column in columns):
        return None
    with np.errstate(over="ignore"):
        poses = np.stack([column.to_numpy() for column in columns], axis=-1).astype(np.float32)
    if not (np.abs(poses) <= FARTHEST).all():
        return None
    return RawClip(
        poses.reshape(-1, NUM_JOINTS, 3), np.asarray(frames, dtype=np.int64), tuple(body_ids), kept, num_frames
    )


class _Irregular(Exception):
    """A line that is not where, or what, a plain file has it."""


def _plain_count(fields: list[str]) -> int:
    if not fields[0].isdigit():
        raise _Irregular
    return int(fields[0])


def parse_patiently(data: bytes) -> RawClip:
    """As :func:`parse_skeleton`, without the fast way: blank lines, tabs, padding and plus signs are read
    too."""
    rows = [line.split() for line in data.splitlines()]
    if not all(rows):
        rows = [row for row in rows if row]
    if not rows:
        raise RawFileError("empty", "the file has no text")
    reader = _Reader(data, rows)
    clip_frames = reader.first_line()
    reader.check_characters()

    lengths = [len(row) for row in rows]
    at = 1
    kept = 0
    starts: list[int] = []
    frames: list[int] = []
    body_ids: list[str] = []
    for frame in range(clip_frames):
        bodies = reader.count(at, f"the number of bodies of frame {frame + 1} of {clip_frames}")
        at += 1
        first = len(body_ids)
        for _ in range(bodies):
            reader.need(at, _BODY_FIELDS, f"a body of frame {frame + 1} of {clip_frames}", numbers_follow=True)
            body_ids.append(rows[at][0].decode("ascii", "replace"))
            joints = reader.count(at + 1, f"the number of joints in frame {frame + 1} of {clip_frames}")
            if joints != NUM_JOINTS:
                reader.fail("wrong joint count", at + 1, f"{joints} joints; NTU has {NUM_JOINTS}")
            at += 2
            if lengths[at : at + NUM_JOINTS] != _BLOCK:
                reader.bad_block(at, frame, clip_frames)
            starts.append(at)
            frames.append(kept)
            at += NUM_JOINTS
        if bodies:
            kept += 1
            if bodies > 1 and len(set(body_ids[first:])) < bodies:
                reader.fail("body twice in a frame", at - 1, f"frame {frame + 1} holds one body id twice")
    if at < len(rows):
        reader.fail(
            "data after the last frame",
            at,
            f"{len(rows) - at} lines more than the {clip_frames} frames declared",
        )
    if not starts:
        raise RawFileError("no body in any frame", f"all {clip_frames} frames are empty")

    tokens = [token for start in starts for row in rows[start : start + NUM_JOINTS] for token in row[:3]]
    with np.errstate(over="ignore"):
        numbers = reader.floats(tokens, starts).astype(np.float32)
    finite = np.isfinite(numbers)
    if not finite.all():
        token = int(np.argmin(finite))
        reader.fail("not finite", _row_of(token, starts), f"'{_show(tokens[token])}' for {_axis(token)}")
    near = np.abs(numbers) <= FARTHEST
    if not near.all():
        token = int(np.argmin(near))
        what = f"'{_show(tokens[token])}' for {_axis(token)}; coordinates up to {FARTHEST:g} are accepted"
        reader.fail("out of range", _row_of(token, starts), what)
    return RawClip(
        numbers.reshape(-1, NUM_JOINTS, 3),
        np.asarray(frames, dtype=np.int64),
        tuple(body_ids),
        kept,
        clip_frames,
    )


class _Reader:
    """Reads the items of one file and turns every defect into a :class:`RawFileError` with its line."""

    def __init__(self, data: bytes, rows: list[list[bytes]]) -> None:
        self._data = data
        self._rows = rows

    def fail(self, reason: Reason, row: int, what: str) -> NoReturn:
        filled = [number for number, line in enumerate(self._data.splitlines(), start=1) if line.split()]
        raise RawFileError(reason, f"line {filled[row]}: {what}")

    def first_line(self) -> int:
        row = self._rows[0]
        if len(row) != 1 or not row[0].isdigit():
            head = _show(b" ".join(row))
            raise RawFileError(
                "not an NTU skeleton file",
                f"the first line must be the number of frames; it is '{head}'",
            )
        return int(row[0])

    def need(self, at: int, fields: int, what: str, *, numbers_follow: bool = False) -> None:
        rows = self._rows
        if at >= len(rows):
            raise RawFileError("truncated", f"the file ends before {what}")
        if len(rows[at]) != fields:
            if at == len(rows) - 1 and (len(rows[at]) < fields or numbers_follow):
                self.fail("truncated", at, f"the file ends within {what}")
            self.fail("wrong field count", at, f"{len(rows[at])} fields for {what}; there must be {fields}")

    def count(self, at: int, what: str) -> int:
        self.need(at, 1, what)
        token = self._rows[at][0]
        if not token.isdigit():
            self.fail("non-numeric", at, f"'{_show(token)}' for {what}")
        return int(token)

    def bad_block(self, at: int, frame: int, frames: int) -> NoReturn:
        """Say what is wrong with 25 joint lines that begin at ``at`` (something is)."""
        rows = self._rows
        for joint in range(NUM_JOINTS):
            row = at + joint
            what = f"joint {joint + 1} of frame {frame + 1} of {frames}"
            if row < len(rows) - 1 and len(rows[row]) in (1, _BODY_FIELDS):
                self.fail("wrong joint count", row, f"{joint} joint lines where {NUM_JOINTS} are declared")
            self.need(row, _JOINT_FIELDS, what)
        raise AssertionError("called for a whole block")

    def check_characters(self) -> None:
        """Refuse any field that is not a number; cheap unless the file has unusual characters."""
        if not self._data.translate(None, _NUMBER_CHARACTERS):
            return
        for number, row in enumerate(self._rows):
            for token in row:
                if not _is_number(token):
                    self.fail("non-numeric", number, f"'{_show(token)}' is not a number")

    def floats(self, tokens: list[bytes], starts: Sequence[int]) -> NDArray[np.float64]:
        try:
            values = pc.cast(pa.array(tokens, type=pa.string()), pa.float64())
            return np.asarray(values.to_numpy(zero_copy_only=True), dtype=np.float64)
        except pa.ArrowInvalid:  # a leading plus sign, for one, is more than Arrow's parser takes
            numbers = np.empty(len(tokens))
            for index, token in enumerate(tokens):
                try:
                    numbers[index] = float(token)
                except ValueError:
                    self.fail("non-numeric", _row_of(index, starts), f"'{_show(token)}' for {_axis(index)}")
            return numbers


def _row_of(token: int, starts: Sequence[int]) -> int:
    block, rest = divmod(token, 3 * NUM_JOINTS)
    return starts[block] + rest // 3


def _axis(token: int) -> str:
    return "xyz"[token % 3]


def _is_number(token: bytes) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return b"_" not in token


def _show(text: bytes) -> str:
    short = text[:40].decode("ascii", "replace")
    clean = "".join(c if c.isprintable() else "?" for c in short)
    return clean + ("..." if len(text) > 40 else "")
