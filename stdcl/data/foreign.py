"""What formats of other projects have in common: names, classes, and a store written in two passes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stdcl import specs
from stdcl.data.prepare import Prepared, Progress, check_destination, decide_action
from stdcl.data.protocols import SplitRule
from stdcl.data.raw_file import read_raw
from stdcl.data.store import Record, StoreWriter, Third, content_hash, read_manifest, sequence_digest
from stdcl.errors import UserError
from stdcl.skeleton import COCO17, NTU, NW_UCLA, OPENPOSE18, Skeleton

SKELETONS = {skeleton.num_joints: skeleton for skeleton in (COCO17, OPENPOSE18, NW_UCLA, NTU)}
"""The joint tree that a number of joints stands for."""


def one_file(dataset: str, raw: Sequence[Path], suffix: str) -> Path:
    """Return the file that ``--raw`` names.

    Raises:
        UserError: none or several, or not a file.
    """
    if len(raw) != 1:
        what = "give --raw once" if raw else f"--raw FILE{suffix} is missing"
        raise UserError(f"stdcl data prepare {dataset}: {what}")
    if not raw[0].is_file():
        raise UserError(
            f"--raw {raw[0]}: {'not a file' if raw[0].exists() else 'no such file'}; a {suffix} file is needed"
        )
    return raw[0]


def store_name(file: Path) -> str:
    """Return a name for the data of a file: its own without suffix, never a benchmark's."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-.") or "data"
    return f"{name}-file" if name in specs.datasets() else name


def class_names(count: int, given: Path | None) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of classes 0 to ``count`` - 1, and notes.

    Args:
        count: the largest label of the data, plus 1.
        given: a text file with a name a line; None: those of the benchmark with as many classes, else numbers.

    Raises:
        UserError: the file cannot be read, or has fewer names, or a name twice.
    """
    if given is None:
        for spec in specs.datasets().values():
            if len(spec.classes) == count and spec.name.startswith("ntu"):
                return spec.classes, [f"classes named as {spec.title}'s, by their number; --classes FILE names others"]
        names = tuple(f"class {label:03d}" for label in range(count))
        return names, ["classes are numbered, as the file has no names; --classes FILE gives them, one per line"]
    try:
        lines = [line.strip() for line in read_raw(given).decode("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--classes {given}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    names = tuple(line for line in lines if line)
    if len(names) < count or len(set(names)) < len(names):
        raise UserError(f"--classes {given}: {len(set(names))} different names; the data have {count} classes")
    return names, []


def write_store(
    out: Path,
    records: Callable[[], Iterable[Record]],
    *,
    dataset: str,
    skeleton: Skeleton,
    classes: Sequence[str],
    max_persons: int,
    protocols: Mapping[str, SplitRule],
    source: Mapping[str, Any],
    notes: Callable[[], Sequence[str]],
    force: bool,
    progress: Progress,
    total: int,
    centred: bool = True,
    scale: float = 1.0,
    third: Third = "coordinate",
) -> Prepared:
    """Write a store from records that can be gone through twice: once for the content hash, once to be written.

    Raises:
        UserError: the destination is taken, or a record does not fit.
    """
    begun = time.monotonic()
    check_destination(out)
    digests = []
    for done, record in enumerate(records(), 1):
        digests.append((record.id, sequence_digest(record)))
        progress("checking", done, total)
    expected = content_hash(
        digests,
        dataset=dataset,
        classes=classes,
        skeleton=skeleton,
        max_persons=max_persons,
        absent_person="zeros",
        protocols=protocols,
    )
    action = decide_action(out, expected, force=force)
    said = tuple(notes())
    if action == "unchanged":
        return Prepared(out, read_manifest(out), action, time.monotonic() - begun, said)
    with StoreWriter(
        out,
        dataset=dataset,
        skeleton=skeleton,
        classes=classes,
        source=source,
        max_persons=max_persons,
        protocols=protocols,
        gaps=True,
        centred=centred,
        scale=scale,
        third=third,
    ) as writer:
        for done, record in enumerate(records(), 1):
            writer.add(record)
            progress("writing", done, total)
    return Prepared(out, writer.manifest, action, time.monotonic() - begun, said)
