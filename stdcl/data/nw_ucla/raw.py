"""NW-UCLA's raw files: one JSON a sequence (Wang et al., CVPR 2014, as the skeleton community distributes them).

A file ``aXX_sXX_eXX_vXX.json`` (action code, subject, episode, camera) holds ``file_name``, ``label`` (1 to 10) and
``skeletons``: frames x 20 joints x 3 coordinates, metres, camera space.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stdcl.data.raw_file import FARTHEST, read_raw
from stdcl.data.store import Clip, Manifest, Record
from stdcl.errors import UserError
from stdcl.skeleton import NW_UCLA

#: Action codes of the file names in the order of the labels (7 and 10 are not used).
ACTION_CODES = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
VIEWS = (1, 2, 3)

_NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)")


class RawFileError(Exception):
    """A raw file that cannot be used; the text is the reason."""


class Name(NamedTuple):
    """What a file's name says: class index from 0, subject, episode, camera."""

    label: int
    subject: int
    episode: int
    view: int


def parse_name(stem: str) -> Name:
    """Return what a name such as ``a01_s01_e00_v01`` says.

    Raises:
        RawFileError: it is not such a name, or has an action or camera that the dataset does not have.
    """
    found = _NAME.fullmatch(stem)
    if found is None:
        raise RawFileError("bad name: not of the form aXX_sXX_eXX_vXX.json")
    action, subject, episode, view = (int(part) for part in found.groups())
    if action not in ACTION_CODES:
        known = ", ".join(f"a{code:02d}" for code in ACTION_CODES)
        raise RawFileError(f"bad name: no action a{action:02d} in NW-UCLA (it has {known})")
    if view not in VIEWS:
        raise RawFileError(f"bad name: no camera v{view:02d} in NW-UCLA (it has v01, v02, v03)")
    return Name(ACTION_CODES.index(action), subject, episode, view)


def file_stem(name: Name) -> str:
    """Return the name of a file, without its ending."""
    return f"a{ACTION_CODES[name.label]:02d}_s{name.subject:02d}_e{name.episode:02d}_v{name.view:02d}"


#: Actions whose camera 3 files are, in the distributed dataset, copies of the camera 2 files of the same performance:
#: 95 of the 464 test sequences of the cross-view protocol are also training sequences.
COPIED_ACTIONS = (2, 3)


def is_known_copy(first: Name, second: Name) -> bool:
    """Tell whether the distributed dataset itself holds these two as copies of each other."""
    performance = (first.label, first.subject, first.episode)
    return (
        performance == (second.label, second.subject, second.episode)
        and ACTION_CODES[first.label] in COPIED_ACTIONS
        and {first.view, second.view} == {2, 3}
    )


@cache
def official_ids() -> frozenset[str]:
    """Return the ids of the 1,484 distributed sequences."""
    text = resources.files("stdcl.data.nw_ucla").joinpath("names.txt").read_text(encoding="utf-8")
    out: set[str] = set()
    for line in text.splitlines():
        performance, views = line.split()
        out.update(f"{performance}_v{int(view):02d}" for view in views)
    return frozenset(out)


def read_file(path: Path) -> Record:
    """Read and check one raw file.

    Returns:
        The sequence, values (F, 1, 20, 3).

    Raises:
        RawFileError: with the first reason why the file cannot be used.
    """
    name = parse_name(path.stem)
    content = _parse(path)
    for key in ("file_name", "label", "skeletons"):
        if key not in content:
            raise RawFileError(f"missing key: there is no '{key}'")
    if content["file_name"] != path.stem:
        raise RawFileError(f"mislabelled: file_name inside is {json.dumps(content['file_name'])}")
    label = content["label"]
    if type(label) is not int or label != name.label + 1:
        raise RawFileError(
            f"mislabelled: label is {json.dumps(label)[:40]},"
            f" but a{ACTION_CODES[name.label]:02d} is label {name.label + 1}"
        )
    values = _values(content["skeletons"])
    return Record(
        id=path.stem,
        label=name.label,
        values=values[:, None],
        subject=name.subject,
        view=name.view,
        replication=name.episode,
    )


def read_clips(path: Path, like: Manifest) -> Iterator[Clip]:
    """Read a clip of any name and without a label, see ``stdcl.data.clips.ReadClips``."""
    try:
        content = _parse(path)
        if "skeletons" not in content:
            raise RawFileError("missing key: there is no 'skeletons'")
        yield Clip(path.stem, _values(content["skeletons"])[:, None], NW_UCLA.name)
    except RawFileError as error:
        raise UserError(f"{path}: {error}") from None


def _parse(path: Path) -> Mapping[str, Any]:
    try:
        data = read_raw(path)
    except OSError as error:
        raise RawFileError(f"unreadable: {error.strerror or error}") from error
    if not data.strip():
        raise RawFileError("empty: the file has no content")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RawFileError(f"invalid JSON: not UTF-8 text (byte {error.start})") from error
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if _ends_early(text, error):
            raise RawFileError(f"truncated: the JSON ends in the middle (after {len(data)} bytes)") from error
        raise RawFileError(f"invalid JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise RawFileError("invalid JSON: nested too deeply") from error
    if not isinstance(content, dict):
        raise RawFileError(f"invalid content: a JSON object is needed, not {_kind(content)}")
    return content


def _ends_early(text: str, error: json.JSONDecodeError) -> bool:
    """Tell whether the text stops where more was expected, rather than being wrong somewhere inside."""
    rest = text[error.pos :].strip()
    if not rest or error.msg.startswith(("Unterminated string", "Invalid \\escape")):
        return True
    # A number, a literal or a key cut in its middle is reported where it begins.
    return "Extra data" not in error.msg and not re.search(r"[\s,:\[\]{}]", rest)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", type(None): "null"}
    return names.get(type(value), "a number")


def _values(frames: object) -> NDArray[np.float32]:
    """Return (F, 20, 3) float32 coordinates, or say what is wrong and in which frame."""
    if not isinstance(frames, list):
        raise RawFileError(f"invalid content: skeletons is {_kind(frames)}, not a list of frames")
    if not frames:
        raise RawFileError("no frames: skeletons is an empty list")
    joints = NW_UCLA.num_joints
    for f, frame in enumerate(frames):
        if not isinstance(frame, list):
            raise RawFileError(f"invalid content: frame {f} is {_kind(frame)}, not a list of joints")
        if len(frame) != joints:
            raise RawFileError(f"wrong joint count: frame {f} has {len(frame)} joints, not {joints}")
        for j, joint in enumerate(frame):
            if not isinstance(joint, list) or len(joint) != 3:
                size = f"{len(joint)} numbers" if isinstance(joint, list) else _kind(joint)
                raise RawFileError(f"invalid content: frame {f}, joint {j} has {size}, not 3 numbers")
            for value in joint:
                if type(value) is not float and type(value) is not int:
                    raise RawFileError(f"non-numeric: frame {f}, joint {j} holds {_kind(value)}")
    try:
        with np.errstate(over="ignore"):
            values = np.asarray(frames, dtype=np.float64).astype(np.float32)
    except OverflowError as error:
        raise RawFileError("not finite: an integer beyond the range of numbers") from error
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        f, j, _ = wrong[0]
        raise RawFileError(f"not finite: frame {f}, joint {j} ({len(wrong)} such values in the file)")
    far = np.argwhere(np.abs(values) > FARTHEST)
    if len(far):
        f, j, axis = far[0]
        raise RawFileError(
            f"out of range: {values[f, j, axis]:g} in frame {f}, joint {j} ({len(far)} such values in the file);"
            f" coordinates up to {FARTHEST:g} are accepted"
        )
    points = np.flatnonzero((values == values[:, :1]).all(axis=(1, 2)))
    if len(points):
        raise RawFileError(f"no body: all joints of frame {points[0]} lie at one point ({len(points)} such frames)")
    return values
