"""Preparation of a dataset: what is checked before anything is written, and what is said afterwards.

Whatever the dataset: raw files are verified first and every bad one is reported by name, all at once; an existing store
is never overwritten by a different one unless asked for; the same store is recognised and left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TextIO

from stdcl import specs
from stdcl.data.store import (
    MANIFEST_FILE,
    Manifest,
    SequenceStore,
)
from stdcl.errors import UserError, not_written

#: A synthetic corpus says here, in its folder, what belongs to it.
CORPUS_FILE = "corpus.json"

Action = Literal["written", "replaced", "unchanged"]


def raw_folder(out: Path) -> Path:
    """Return where the raw files of a synthetic corpus are whose store is ``out``."""
    return out.with_name(f"{out.name}-raw")


class Progress(Protocol):
    """Called as work goes on."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """``done`` of ``total`` files have been through ``stage``."""


def silent(stage: str, done: int, total: int) -> None:
    """A :class:`Progress` that shows nothing."""


class ConsoleProgress:
    """A :class:`Progress` for people: one line that moves on a terminal, a line each tenth elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._shown: tuple[str, int] = ("", -1)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show the state if it changed visibly."""
        steps = 100 if self._live else 10
        at = steps * done // max(total, 1)
        if (stage, at) == self._shown:
            return
        self._shown = (stage, at)
        text = f"{stage}: {done:,} of {total:,}"
        if self._live:
            self._stream.write(f"\r\033[K{text}" + ("\n" if done >= total else ""))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()


class BadFile(NamedTuple):
    """A raw file that cannot be used, and why."""

    name: str
    reason: str


class BadFilesError(UserError):
    """Raw data that cannot be prepared; holds every bad file, not only the first.

    Attributes:
        files: name and reason of each.
    """

    def __init__(self, raw: Path, files: Sequence[BadFile], advice: str = "") -> None:
        self.files = list(files)
        kinds = Counter(reason.partition(":")[0] for _, reason in files)
        count = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
        lines = [f"{raw}: {len(files)} problem{'s' * (len(files) != 1)} ({count}); nothing was written"]
        lines += [f"  {name}: {reason}" for name, reason in files]
        super().__init__("\n".join(lines) + (f"\n{advice}" if advice else ""))


@dataclass(frozen=True)
class Prepared:
    """What a preparation did.

    Attributes:
        path: the store.
        manifest: its manifest.
        action: written, replaced, or unchanged (the same store was there).
        seconds: time taken.
        notes: things a user should know: ignored files, missing sequences.
    """

    path: Path
    manifest: Manifest
    action: Action
    seconds: float
    notes: tuple[str, ...] = field(default=())

    def render(self) -> str:
        """Return the summary as text."""
        said = {
            "written": "wrote the store",
            "replaced": "replaced the store that was there",
            "unchanged": "nothing to do: the same store is already there",
        }[self.action]
        return "\n".join(
            [
                f"{self.path}: {said} ({self.seconds:.1f} s)",
                f"  {describe_size(self.manifest)}",
                *(f"  {line}" for line in describe_protocols(self.manifest)),
                f"  content hash {self.manifest.content_hash}",
                *(f"  note: {note}" for note in (*self.notes, *empty_parts(self.manifest))),
            ]
        )


class Summary(Protocol):
    """What a preparation found and did."""

    def render(self) -> str:
        """Return it as text."""


class Prepare(Protocol):
    """What ``DatasetSpec.prepare`` leads to: makes the store of a dataset from its raw files."""

    def __call__(self, dataset: str, out: Path, *, force: bool, progress: Progress, **options: Any) -> Summary:
        """Prepare ``dataset`` at ``out``; ``options`` are among ``DatasetSpec.prepare_options``.

        Raises:
            UserError: raw files are missing or cannot be used, or the destination is taken.
        """


def prepare_dataset(
    dataset: str, out: Path, *, force: bool = False, progress: Progress = silent, **options: Any
) -> Summary:
    """Make the store of a dataset.

    Args:
        dataset: its name.
        out: folder of the store.
        force: replace another store at ``out``.
        progress: told of each file.
        options: what the dataset's preparation takes beside these; what is None, False or empty counts as not given.

    Raises:
        UserError: an unknown dataset, an option that its preparation does not read, or as ``Prepare``.
    """
    spec = specs.dataset(dataset)
    given = {name: value for name, value in options.items() if value not in (None, False, [], ())}
    unread = [f"--{name.replace('_', '-')}" for name in given if name not in spec.prepare_options]
    if unread:
        known = ", ".join(f"--{name.replace('_', '-')}" for name in (*spec.prepare_options, "force"))
        raise UserError(f"stdcl data prepare {dataset}: {', '.join(unread)} has no meaning for it; it reads {known}")
    prepare: Prepare = specs.load(spec.prepare)
    try:
        return prepare(dataset, out, force=force, progress=progress, **given)
    except OSError as error:
        raise not_written(f"--out {out}", error) from error


def describe_size(manifest: Manifest) -> str:
    """Return one line: sequences, classes, frames, bytes."""
    return (
        f"{manifest.dataset}: {manifest.num_sequences:,} sequences of {len(manifest.classes)} classes,"
        f" {manifest.num_frames:,} frames, {manifest.data_bytes / 1e6:,.1f} MB"
    )


def describe_protocols(manifest: Manifest) -> list[str]:
    """Return one line a protocol: sequences of each part, smallest and largest class."""
    out = []
    for name, parts in manifest.counts.items():
        said = [
            f"{part} {sum(parts[part]):,} ({min(parts[part])} to {max(parts[part])} a class)"
            for part in ("train", "test")
        ]
        out.append(f"{name}: {', '.join(said)}")
    return out


def empty_parts(manifest: Manifest) -> list[str]:
    """Return a note for each part of a protocol that holds no sequence: nothing can be trained, or evaluated, on it."""
    return [
        f"{protocol}: the {part} part is empty; nothing can be {'trained' if part == 'train' else 'evaluated'} on it"
        for protocol, parts in manifest.counts.items()
        for part, per_class in parts.items()
        if not sum(per_class)
    ]


def check_destination(out: Path) -> None:
    """Refuse, before any work, a destination that holds something other than a store.

    Raises:
        UserError: ``out`` is a file, or a folder with other content.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: a file is in the way; give a folder")
    if out.is_dir() and not (out / MANIFEST_FILE).exists() and any(out.iterdir()):
        raise UserError(f"--out {out}: the folder holds other things; give an empty or a new one")


def decide_action(out: Path, expected_hash: str, *, force: bool) -> Action:
    """Decide what to do about what is at ``out``.

    Returns:
        ``unchanged`` if the same store is there; ``written`` if nothing is; ``replaced`` if another store is to go.

    Raises:
        UserError: something else is there, or another store without ``force``.
    """
    check_destination(out)
    if not (out / MANIFEST_FILE).exists():
        return "written"
    try:
        found = SequenceStore.open(out).manifest.content_hash
    except UserError as error:
        if force:
            return "replaced"
        raise UserError(f"{error}\n(--force replaces it)") from error
    if found == expected_hash:
        return "unchanged"
    if force:
        return "replaced"
    raise UserError(
        f"--out {out}: holds another store (content hash {found[:16]}, the new one has {expected_hash[:16]});"
        " give another folder, or --force to replace it"
    )
