"""What of a sweep's folder can go without a loss to its table, and what it frees."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stdcl.results.status import SweepStatus
from stdcl.results.trials import search_of


@dataclass(frozen=True)
class Removable:
    """Things of one kind.

    Attributes:
        what: the kind, in words.
        paths: files and folders.
        size: their bytes.
    """

    what: str
    paths: tuple[Path, ...]
    size: int


def what_can_go(status: SweepStatus, *, checkpoints: bool = False) -> list[Removable]:
    """Return what can be removed while no driver runs.

    Args:
        status: of the sweep.
        checkpoints: also those of finished trials, without which no trial can be evaluated again.
    """
    folder = status.folder
    found = [path for path in folder.trials.glob("*") if path.is_dir()]
    runs = [folder.run(key) for key in status.trials]
    finished = [folder.run(key) for key, trial in status.trials.items() if trial.state == "finished"]
    kinds: list[tuple[str, Iterable[Path]]] = [
        ("Ray's own files of earlier invocations", [folder.tune, *(run.ray for run in runs)]),
        ("writes that were cut off", [*folder.trials.glob(".*"), *_cut_off(folder.root, found)]),
        ("answers that nobody took", folder.requests.glob("*.answer")),
    ]
    if search_of(folder, status.plan) == "grid":  # a search's file names no trials
        gone = [path for path in found if path.name not in status.trials]
        kinds.append(("trials that the sweep's file no longer names", gone))
    if checkpoints:
        kinds.append(("checkpoints of finished trials", [run.checkpoints for run in finished]))
    parts = []
    for what, paths in kinds:
        there = tuple(path for path in paths if path.exists())
        if there:
            parts.append(Removable(what, there, sum(map(size_of, there))))
    return parts


def remove(parts: Sequence[Removable]) -> None:
    """Remove what was found.

    Raises:
        OSError: something could not be removed.
    """
    for part in parts:
        for path in part.paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.stat().st_size
    total = 0
    for where, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += (Path(where) / name).lstat().st_size
    return total


def _cut_off(root: Path, trials: Iterable[Path]) -> Iterable[Path]:
    for folder in (root, root / "results", *trials):
        yield from folder.glob(".*.part")
        yield from folder.glob("checkpoints/.epoch-*")
