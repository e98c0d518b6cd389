"""The padded arrays of CTR-GCN's preparation as a store.

``x_train`` and ``x_test`` are clips x frames x (2 persons x 25 joints x 3), padded to one length with zeros and at
their origin already; ``y_train`` and ``y_test`` are one-hot. The arrays are read as a stream, a few clips at a time.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from stdcl.data.foreign import class_names, one_file, store_name, write_store
from stdcl.data.prepare import BadFile, BadFilesError, Prepared, Progress
from stdcl.data.protocols import SplitRule
from stdcl.data.raw_file import FARTHEST
from stdcl.data.store import Clip, Manifest, Record
from stdcl.errors import NPZ_ERRORS, UserError
from stdcl.skeleton import NTU

PERSONS = 2
WIDTH = PERSONS * NTU.num_joints * 3
PROTOCOL = "file"
PARTS = ("train", "test")

_CLIPS_AT_ONCE = 64


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@contextmanager
def _array(file: Path, name: str) -> Iterator[tuple[IO[bytes], _Header]]:
    """Open an array of the archive behind its header."""
    try:
        with zipfile.ZipFile(file) as archive:
            if f"{name}.npy" not in archive.namelist():
                known = ", ".join(each.removesuffix(".npy") for each in archive.namelist())
                raise UserError(f"{file}: there is no array '{name}'; it has {known or 'nothing'}")
            with archive.open(f"{name}.npy") as stream:
                version = npy.read_magic(stream)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, fortran, dtype = read(stream)
                if dtype.kind not in "fiub":
                    raise UserError(
                        f"{file}: '{name}' holds {dtype}; numbers are needed (pickled objects are never read)"
                    )
                if fortran and len(shape) > 1:
                    raise UserError(f"{file}: '{name}' is in Fortran's order; save it again with np.ascontiguousarray")
                yield stream, _Header(shape, dtype)
    except NPZ_ERRORS as error:
        raise UserError(
            f"{file}: '{name}' cannot be read ({error}); an .npz of CTR-GCN's preparation is needed"
        ) from None


def _rows(file: Path, name: str, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """Yield the rows of an array, one after another."""
    with _array(file, name) as (stream, header):
        size = int(np.prod(shape[1:], dtype=np.int64)) * header.dtype.itemsize
        for first in range(0, shape[0], _CLIPS_AT_ONCE):
            count = min(_CLIPS_AT_ONCE, shape[0] - first)
            data = stream.read(count * size)
            if len(data) != count * size:
                raise ValueError("truncated")
            yield from np.frombuffer(data, header.dtype).reshape(count, *shape[1:])


def prepare(
    dataset: str,
    out: Path,
    *,
    raw: Sequence[Path] = (),
    classes: Path | None = None,
    force: bool,
    progress: Progress,
) -> Prepared:
    """Prepare CTR-GCN's arrays, see ``stdcl.data.prepare.Prepare``."""
    file = one_file(dataset, raw, ".npz")
    shapes: dict[str, tuple[int, ...]] = {}
    labels: dict[str, NDArray[np.int64]] = {}
    source: dict[str, Any] = {"format": "ctrgcn-npz", "file": str(file.absolute())}
    for part in PARTS:
        shapes[part], source["dtype"] = _shape(file, part)
        labels[part], source["label_dtype"] = _labels(file, part, shapes[part][0])
    one_hot = _one_hot_width(file)
    source |= {"frames": {part: shapes[part][1] for part in PARTS}, "classes": one_hot}
    titles, notes = class_names(one_hot, classes)
    notes = [
        "the file has neither names nor subjects: clips are numbered, and intervals over people are not possible",
        *notes,
    ]
    total = sum(shape[0] for shape in shapes.values())
    faults: list[BadFile] = []

    def records() -> Iterator[Record]:
        for part, setup in zip(PARTS, (1, 2), strict=True):
            for index, row in enumerate(_rows(file, f"x_{part}", shapes[part])):
                try:
                    values = _clip(row)
                except ValueError as error:
                    faults.append(BadFile(f"x_{part}[{index}]", str(error)))
                    continue
                yield Record(f"{part}-{index:06d}", int(labels[part][index]), values, setup=setup)
        if faults:
            raise BadFilesError(file, faults)

    return write_store(
        out,
        records,
        dataset=store_name(file),
        skeleton=NTU,
        classes=titles,
        max_persons=PERSONS,
        protocols={PROTOCOL: SplitRule("setup", frozenset({1}), frozenset({2}))},
        source=source,
        notes=lambda: notes,
        force=force,
        progress=progress,
        total=total,
    )


def read_clips(path: Path, like: Manifest) -> Iterator[Clip]:
    """Read the clips of both parts, or of the only one, see ``stdcl.data.clips.ReadClips``; labels are not needed."""
    for part in _parts_in(path):
        shape, _ = _shape(path, part)
        for index, row in enumerate(_rows(path, f"x_{part}", shape)):
            try:
                values = _clip(row)
            except ValueError as error:
                raise UserError(f"{path}: x_{part}[{index}]: {error}") from None
            yield Clip(f"{part}-{index:06d}", values, NTU.name)


def _parts_in(file: Path) -> list[str]:
    """Return the parts whose clips an archive holds; where it holds none, the first, which is then found missing."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except NPZ_ERRORS as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    return [part for part in PARTS if f"x_{part}.npy" in names] or [PARTS[0]]


def _shape(file: Path, part: str) -> tuple[tuple[int, ...], str]:
    """Return the shape of a part's clips, and their type in the file."""
    with _array(file, f"x_{part}") as (_, header):
        shape, dtype = header.shape, str(header.dtype)
    if len(shape) != 3 or shape[2] != WIDTH or not all(size > 0 for size in shape):
        raise UserError(
            f"{file}: 'x_{part}' is {shape}; clips x frames x {WIDTH} (2 persons, 25 joints, 3 coordinates) is needed"
        )
    return shape, dtype


def _one_hot_width(file: Path) -> int:
    widths = set()
    for part in PARTS:
        with _array(file, f"y_{part}") as (_, header):
            widths.add(header.shape[-1])
    if len(widths) != 1:
        raise UserError(f"{file}: 'y_train' and 'y_test' have different numbers of classes: {sorted(widths)}")
    return int(widths.pop())


def _labels(file: Path, part: str, clips: int) -> tuple[NDArray[np.int64], str]:
    """Return the (clips,) labels of a part, and their type in the file."""
    name = f"y_{part}"
    with _array(file, name) as (stream, header):
        if len(header.shape) != 2 or header.shape[0] != clips:
            raise UserError(f"{file}: '{name}' is {header.shape}; one-hot labels of {clips} clips are needed")
        size = int(np.prod(header.shape, dtype=np.int64)) * header.dtype.itemsize
        data = stream.read(size)
        if len(data) != size:
            raise ValueError("truncated")
        one_hot = np.frombuffer(data, header.dtype).reshape(header.shape)
    wrong = np.flatnonzero((np.count_nonzero(one_hot, axis=1) != 1) | (one_hot.max(axis=1) != 1))
    if len(wrong):
        raise UserError(f"{file}: '{name}' is not one-hot in row {wrong[0]} ({len(wrong)} such rows)")
    return one_hot.argmax(axis=1).astype(np.int64), str(header.dtype)


def _clip(row: NDArray[Any]) -> NDArray[np.float32]:
    """Return (F, M, 25, 3) of a padded row: without the frames after the last, and without a person who never is."""
    x = row.astype(np.float32).reshape(len(row), PERSONS, NTU.num_joints, 3)
    if not np.isfinite(x).all():
        raise ValueError("not finite: values are not all numbers")
    if (np.abs(x) > FARTHEST).any():
        raise ValueError(f"out of range: coordinates up to {FARTHEST:g} are accepted")
    there = np.asarray(np.any(x, axis=(2, 3)))
    frames = np.flatnonzero(np.any(there, axis=1))
    if not len(frames):
        raise ValueError("no body: all frames are zero")
    persons = 2 if there[:, 1].any() else 1
    return np.ascontiguousarray(x[: frames[-1] + 1, :persons])
