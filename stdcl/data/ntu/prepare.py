"""From NTU RGB+D's raw files to a store: on all cores, in bounded memory, and without starting over after a
kill.

The files are sorted by clip id and cut into pieces of about :data:`PIECE_FILES`. A process of the pool
parses and cleans a piece and writes it, whole or not at all, as one part into a work folder beside the
store (``.NAME.prepare``). A part is named after everything that it depends on - the files' names, sizes and
modification times, and the parameters - so a later run finds the parts that are still right, checks each
sequence's digest, and does only the others. When all parts are there they are streamed, in the order of the
ids, into the store, which appears at once; then the work folder goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pyarrow as pa

from stdcl import atomic, specs
from stdcl.data.ntu.clean import clean
from stdcl.data.ntu.raw import SETUPS, ClipName, RawFileError, missing_ids, parse_name, parse_skeleton
from stdcl.data.pool import ordered_map, worker_count
from stdcl.data.prepare import CORPUS_FILE, Action, Progress, check_destination, decide_action, empty_parts, silent
from stdcl.data.protocols import official_rules
from stdcl.data.raw_file import read_raw
from stdcl.data.store import (
    MANIFEST_FILE,
    Clip,
    Manifest,
    Record,
    SequenceStore,
    StoreWriter,
    content_hash,
    exclusive,
    sequence_digest,
)
from stdcl.errors import UserError
from stdcl.skeleton import NTU
from stdcl.specs import SplitSpec

PIECE_FILES = 128
"""Raw files a piece, on average: what a kill can cost, times the number of workers."""

_PART_VERSION = 2
_LIST_AT_MOST = 200


PADDED_FRAMES = 300
"""Frames that public preparations pad every clip to."""


class BadFile(NamedTuple):
    """A raw file that was left out: where, a reason to count by, and what exactly."""

    path: str
    reason: str
    detail: str


class RawFile(NamedTuple):
    """A raw file: where it is, and by what it is known to be the same."""

    clip: str
    size: int
    mtime_ns: int
    path: str

    @property
    def identity(self) -> tuple[str, int, int]:
        """If any of it changes, the part that holds the clip is made again."""
        return self.clip, self.size, self.mtime_ns


@dataclass(frozen=True)
class Listing:
    """What the raw folders hold.

    Attributes:
        files: clips to prepare, in the order of their ids.
        bad: ``.skeleton`` files whose name is no clip's, or a clip's second file.
        listed_missing: clips left out because the dataset's owners list them as without a skeleton.
        other_dataset: clips that belong to NTU RGB+D 120 only, when NTU RGB+D 60 is prepared.
        ignored: files that do not end in ``.skeleton``.
        corpus: what ``stdcl data synth`` noted about the corpus, if it made it.
    """

    files: tuple[RawFile, ...]
    bad: tuple[BadFile, ...]
    listed_missing: int
    other_dataset: int
    ignored: tuple[str, ...]
    corpus: dict[str, Any] | None


def list_raw(dataset: str, raw: Sequence[Path]) -> Listing:
    """Look through raw folders and everything below them.

    Raises:
        UserError: a folder does not exist, or there is no ``.skeleton`` file in any.
    """
    setups, classes = SETUPS[dataset], len(specs.dataset(dataset).classes)
    missing = missing_ids(dataset)
    found: dict[str, RawFile] = {}
    bad: list[BadFile] = []
    ignored: list[str] = []
    listed_missing = other_dataset = skeletons = 0
    corpus: dict[str, Any] | None = None
    for folder in raw:
        if not folder.is_dir():
            raise UserError(f"--raw {folder}: no such folder")
        for entry in _files_below(folder, set()):
            stem, _, suffix = entry.name.rpartition(".")
            if entry.name == CORPUS_FILE:
                corpus = _read_note(Path(entry.path))
                continue
            if suffix != "skeleton":
                ignored.append(entry.path)
                continue
            skeletons += 1
            if entry.is_dir():
                bad.append(BadFile(entry.path, "unreadable", "it is a folder"))
                continue
            try:
                name = parse_name(stem)
            except RawFileError as error:
                bad.append(BadFile(entry.path, error.reason, error.detail))
                continue
            if stem in missing:
                listed_missing += 1
            elif name.setup > setups or name.action > classes:
                other_dataset += 1
            elif stem in found:
                bad.append(BadFile(entry.path, "duplicate name", f"{found[stem].path} is used"))
            else:
                try:
                    stat = entry.stat()
                except OSError as error:
                    bad.append(BadFile(entry.path, "unreadable", error.strerror or str(error)))
                    continue
                found[stem] = RawFile(stem, stat.st_size, stat.st_mtime_ns, entry.path)
    if not skeletons:
        where = ", ".join(str(folder) for folder in raw)
        zips = [path for path in ignored if path.endswith(".zip")]
        hint = f"; unpack {zips[0]} first" if zips else ""
        raise UserError(f"--raw {where}: there is no .skeleton file here{hint}")
    files = tuple(found[clip] for clip in sorted(found))
    return Listing(files, tuple(bad), listed_missing, other_dataset, tuple(ignored), corpus)


def _files_below(folder: Path, visited: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    """All files below a folder, hidden ones left out, in a fixed order; each folder once, whatever links say.

    A folder that is named like a clip is given as if it were one.
    """
    stat = folder.stat()
    if (stat.st_dev, stat.st_ino) in visited:
        return
    visited.add((stat.st_dev, stat.st_ino))
    with os.scandir(folder) as entries:
        ordered = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in ordered:
        if entry.is_dir() and not entry.name.endswith(".skeleton"):
            yield from _files_below(Path(entry.path), visited)
        else:
            yield entry


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"note": f"{path} cannot be read"}
    return dict(note) if isinstance(note, dict) else {"note": str(note)}


class _Task(NamedTuple):
    dataset: str
    keep_gaps: bool
    files: tuple[RawFile, ...]
    work: str

    @property
    def part(self) -> Path:
        content = [_PART_VERSION, self.dataset, self.keep_gaps, [file.identity for file in self.files]]
        return Path(self.work) / f"part-{_digest(content)[:32]}.arrow"


class _Piece(NamedTuple):
    part: str
    files: int
    bad: tuple[BadFile, ...]
    reused: bool


_Failed = tuple[str, str, str]  # clip, reason, detail


def _part_schema(failed: Sequence[_Failed]) -> Any:
    return pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("persons", pa.int32()),
            pa.field("digest", pa.binary(32)),
            pa.field("values", pa.large_list(pa.float32())),
        ],
        metadata={"bad": json.dumps(failed)},
    )


def _prepare_piece(task: _Task) -> _Piece:
    """Make one part, unless a right one is there. Runs in a process of the pool."""
    part = task.part
    path_of = {file.clip: file.path for file in task.files}

    def piece(failed: Sequence[_Failed], reused: bool) -> _Piece:
        bad = tuple(BadFile(path_of[clip], reason, detail) for clip, reason, detail in failed)
        return _Piece(str(part), len(task.files), bad, reused)

    done = _check_part(part)
    if done is not None:
        return piece(done, reused=True)
    failed: list[_Failed] = []
    ids: list[str] = []
    persons: list[int] = []
    digests: list[bytes] = []
    values: list[Any] = []
    for file in task.files:
        try:
            people = clean(parse_skeleton(read_raw(Path(file.path))), keep_gaps=task.keep_gaps)
        except RawFileError as error:
            failed.append((file.clip, error.reason, error.detail))
            continue
        except OSError as error:
            failed.append((file.clip, "unreadable", error.strerror or str(error)))
            continue
        if people.shape[1] == 2 and not people[:, 1].any() and specs.dataset(task.dataset).absent_person == "zeros":
            people = people[:, :1]
        record = _record(file.clip, people)
        ids.append(file.clip)
        persons.append(people.shape[1])
        digests.append(sequence_digest(record))
        values.append(people.reshape(-1))
    offsets = np.cumsum([0, *(len(v) for v in values)], dtype=np.int64)
    flat = np.concatenate(values) if values else np.zeros(0, dtype=np.float32)
    schema = _part_schema(failed)
    batch = pa.record_batch(
        [
            pa.array(ids, pa.string()),
            pa.array(persons, pa.int32()),
            pa.array(digests, pa.binary(32)),
            pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat)),
        ],
        schema=schema,
    )
    with (
        atomic.staging_file(part) as staged,
        pa.OSFile(str(staged), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        writer.write_batch(batch)
    return piece(failed, reused=False)


def read_clips(path: Path, like: Manifest) -> Iterator[Clip]:
    """Read a clip of any name, see ``stdcl.data.clips.ReadClips``."""
    try:
        people = clean(parse_skeleton(read_raw(path)), keep_gaps=bool(like.source.get("keep_gaps", False)))
    except RawFileError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: unreadable: {error.strerror or error}") from None
    if people.shape[1] == 2 and not people[:, 1].any():
        people = people[:, :1]
    yield Clip(path.stem, people, NTU.name)


def _record(clip: str, people: Any) -> Record:
    name: ClipName = parse_name(clip)
    return Record(
        id=clip,
        label=name.label,
        values=people,
        subject=name.performer,
        view=name.camera,
        setup=name.setup,
        replication=name.replication,
    )


def _open_part(part: Path) -> Any:
    return pa.ipc.open_file(pa.memory_map(str(part))).read_all()


def _records_of(table: Any) -> Iterator[tuple[Record, bytes]]:
    """The sequences of a part (views of the mapped file) and their stored digests."""
    for batch in table.to_batches():
        column = batch.column("values")
        values = column.values.to_numpy(zero_copy_only=True)
        offsets = column.offsets.to_numpy(zero_copy_only=True)
        persons = batch.column("persons").to_numpy()
        for row, (clip, digest) in enumerate(
            zip(batch.column("id").to_pylist(), batch.column("digest").to_pylist(), strict=True)
        ):
            flat = values[offsets[row] : offsets[row + 1]]
            yield _record(clip, flat.reshape(-1, int(persons[row]), NTU.num_joints, 3)), digest


def _digests_of(part: Path) -> Iterator[tuple[str, bytes]]:
    table = _open_part(part)
    yield from zip(table.column("id").to_pylist(), table.column("digest").to_pylist(), strict=True)


def _check_part(part: Path) -> list[_Failed] | None:
    """Return the bad clips that a finished part lists, or None if it is absent or damaged."""
    if not part.exists():
        return None
    try:
        table = _open_part(part)
        failed = [(str(c), str(r), str(d)) for c, r, d in json.loads(table.schema.metadata[b"bad"])]
        for record, digest in _records_of(table):
            if sequence_digest(record) != digest:
                return None
    except (pa.ArrowInvalid, OSError, ValueError, KeyError, TypeError, RawFileError):
        return None
    return failed


@dataclass(frozen=True)
class NtuReport:
    """What a preparation did.

    Attributes:
        path: the store.
        manifest: what the store says of itself.
        action: written, replaced, or unchanged (the same store was there).
        listing: what the raw folders held.
        bad: every file that was left out, by path.
        reused_files: files taken over from an interrupted run.
        seconds: wall time.
        workers: processes.
    """

    path: Path
    manifest: Manifest
    action: Action
    listing: Listing
    bad: tuple[BadFile, ...]
    reused_files: int
    seconds: float
    workers: int

    def render(self) -> str:
        """Return the summary as text."""
        manifest = self.manifest
        said = {
            "written": "wrote the store",
            "replaced": "replaced the store that was there",
            "unchanged": "nothing to do: the same store is already there",
        }[self.action]
        files = len(self.listing.files)
        rate = f", {files / self.seconds:,.0f} files/s on {self.workers} processes" if self.seconds else ""
        lines = [
            f"{self.path}: {said} ({files:,} files, {self.seconds:.1f} s{rate})",
            f"  {manifest.dataset}: {manifest.num_sequences:,} sequences of {manifest.num_frames:,} frames,"
            f" {storage_text(manifest)}",
            *(f"  {line}" for line in count_lines(manifest)),
            f"  content hash {manifest.content_hash}",
            *(f"  note: {note}" for note in empty_parts(manifest)),
        ]
        if self.reused_files:
            lines.append(f"  note: {self.reused_files:,} files were taken over from an interrupted run")
        if self.listing.corpus is not None:
            lines.append("  note: a synthetic corpus, made by `stdcl data synth`; it is not NTU RGB+D")
        if self.listing.listed_missing:
            lines.append(
                f"  note: left out {self.listing.listed_missing:,} that the official list of missing skeletons names"
            )
        if self.listing.other_dataset:
            lines.append(f"  note: left out {self.listing.other_dataset:,} that belong to NTU RGB+D 120 only")
        if self.listing.ignored:
            shown = ", ".join(self.listing.ignored[:10]) + (", ..." if len(self.listing.ignored) > 10 else "")
            lines.append(f"  note: ignored {len(self.listing.ignored):,} that are not .skeleton: {shown}")
        return "\n".join(lines + bad_lines(self.bad, self.path))


def count_lines(manifest: Manifest, published: Mapping[str, SplitSpec] | None = None) -> list[str]:
    """Compare the sequences of each protocol with the published numbers (by default the dataset's), a line each."""
    lines = []
    for protocol, part in (published or specs.dataset(manifest.dataset).protocols).items():
        counts, train, test = manifest.counts[protocol], part.num_train, part.num_test
        have = sum(counts["train"]), sum(counts["test"])
        if have == (train, test):
            verdict = "as published"
        elif have[0] > train or have[1] > test:
            verdict = f"MORE than the published {train:,} and {test:,}"
        else:
            share = 100 * sum(have) / (train + test)
            verdict = f"published: {train:,} and {test:,}; this corpus is partial ({share:.1f} %)"
        lines.append(f"{protocol}: {have[0]:,} training and {have[1]:,} test sequences ({verdict})")
    return lines


def storage_text(manifest: Manifest) -> str:
    """Compare the store's size with that of the padded layout of public preparations."""
    padded = manifest.num_sequences * PADDED_FRAMES * 2 * NTU.num_joints * 3 * 4
    share = manifest.data_bytes / padded
    return (
        f"{_size(manifest.data_bytes)}; padded to {PADDED_FRAMES} frames x 2 persons the same sequences would take "
        f"{_size(padded)} (the store is {100 * share:.1f} % of that)"
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def bad_lines(bad: Sequence[BadFile], out: Path | None) -> list[str]:
    """Name the files that were left out, after a count by reason; no line if there are none.

    Args:
        bad: the files.
        out: the store whose manifest lists them all, if it was made; otherwise all are named here.
    """
    if not bad:
        return []
    shown = len(bad) if out is None else _LIST_AT_MOST
    lines = [f"WARNING: {len(bad):,} bad files{' were left out' if out is not None else ''}:"]
    lines += [f"  {count:,} x {reason}" for reason, count in Counter(file.reason for file in bad).most_common()]
    lines += [f"  {file.path}: {file.reason}: {file.detail}" for file in bad[:shown]]
    if len(bad) > shown and out is not None:
        lines.append(f"  ... all of them in {out / 'manifest.json'}, source.bad")
    return lines


def prepare_ntu(
    dataset: str,
    raw: Sequence[Path],
    out: Path,
    *,
    workers: int | None = None,
    progress: Progress = silent,
    force: bool = False,
    strict: bool = False,
    keep_gaps: bool = False,
) -> NtuReport:
    """Prepare NTU RGB+D 60 or 120.

    Bad files are left out, and named in the report and in the manifest (``source.bad``).

    Args:
        dataset: which of the two.
        raw: folders with ``.skeleton`` files, at any depth.
        out: folder of the store.
        workers: processes; None: one per core.
        progress: told how many files are done.
        force: replace another store at ``out``.
        strict: refuse to make a store if any file is bad (finished parts are kept for the next try).
        keep_gaps: leave a body that comes back at its own frames, see :func:`stdcl.data.ntu.clean.tracks_of`.

    Raises:
        UserError: no raw files, none usable, ``strict`` and a bad one, the destination is taken, another
        preparation
            of it is at work, or there is no room on the disk.
    """
    begin = time.perf_counter()
    workers = worker_count(workers)
    out = out.absolute()
    check_destination(out)

    def report(manifest: Manifest, action: Action, bad: tuple[BadFile, ...], reused: int) -> NtuReport:
        return NtuReport(out, manifest, action, listing, bad, reused, time.perf_counter() - begin, workers)

    try:
        listing = list_raw(dataset, raw)
        raw_key = _digest([_PART_VERSION, dataset, keep_gaps, [file.identity for file in listing.files]])
        there = _same_store(out, raw_key)
        if there is not None and not (strict and there.source["bad"]):
            return report(there, "unchanged", tuple(BadFile(**fields) for fields in there.source["bad"]), 0)
        work = out.parent / f".{out.name}.prepare"
        with exclusive(work):
            work.mkdir(exist_ok=True)
            pieces = _make_parts(dataset, listing.files, work, keep_gaps, workers, progress)
            bad = tuple(sorted([*listing.bad, *(file for piece in pieces for file in piece.bad)]))
            if strict and bad:
                raise UserError(
                    "\n".join([f"--strict: no store was made at {out}", *bad_lines(bad, None)])
                    + "\nmend or remove these files and run the same command again: the others are not read twice"
                )
            source = {
                "format": "NTU RGB+D .skeleton",
                "raw": [str(folder) for folder in raw],
                "raw_key": raw_key,
                "files": len(listing.files),
                "corpus": "raw" if listing.corpus is None else "synthetic",
                "made_by": None if listing.corpus is None else listing.corpus.get("made_by"),
                "listed_missing": listing.listed_missing,
                "keep_gaps": keep_gaps,
                "bad": [file._asdict() for file in bad],
            }
            action, manifest = _assemble(dataset, pieces, out, source, bad, force, progress)
            shutil.rmtree(work)
    except OSError as error:
        raise UserError(
            f"{error.filename or out}: {error.strerror or error}; mend this and run the same command again:"
            " finished parts are kept"
        ) from error
    return report(manifest, action, bad, sum(piece.files for piece in pieces if piece.reused))


def prepare(
    dataset: str, out: Path, *, raw: Sequence[Path] = (), force: bool, progress: Progress, **options: Any
) -> NtuReport:
    """Prepare one of the two, see ``stdcl.data.prepare.Prepare``."""
    if not raw:
        raise UserError(f"stdcl data prepare {dataset}: --raw DIR is missing")
    return prepare_ntu(dataset, raw, out, force=force, progress=progress, **options)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode("utf-8")).hexdigest()


def _same_store(out: Path, raw_key: str) -> Manifest | None:
    """Return the manifest of the store at ``out`` if it was made from exactly these raw files, and is
    whole."""
    if not (out / MANIFEST_FILE).exists():
        return None
    try:
        manifest = SequenceStore.open(out).manifest
    except UserError:
        return None
    return manifest if manifest.source.get("raw_key") == raw_key else None


def pieces_of(files: Sequence[RawFile]) -> list[tuple[RawFile, ...]]:
    """Cut the files into pieces of about :data:`PIECE_FILES`, at most four times as many.

    Where a piece begins depends on the clip there, not on how many come before it: a file that is added or
    taken away changes its own piece and leaves the others, and their parts, as they are.
    """
    pieces: list[list[RawFile]] = []
    for file in files:
        if not pieces or crc32(file.clip.encode()) % PIECE_FILES == 0 or len(pieces[-1]) == 4 * PIECE_FILES:
            pieces.append([])
        pieces[-1].append(file)
    return [tuple(piece) for piece in pieces]


def _make_parts(
    dataset: str,
    files: tuple[RawFile, ...],
    work: Path,
    keep_gaps: bool,
    workers: int,
    progress: Progress,
) -> list[_Piece]:
    tasks = [_Task(dataset, keep_gaps, piece, str(work)) for piece in pieces_of(files)]
    pieces = []
    done = 0
    for piece in ordered_map(_prepare_piece, tasks, min(workers, max(len(tasks), 1))):
        pieces.append(piece)
        done += piece.files
        progress("reading", done, len(files))
    return pieces


def _assemble(
    dataset: str,
    pieces: Sequence[_Piece],
    out: Path,
    source: dict[str, Any],
    bad: Sequence[BadFile],
    force: bool,
    progress: Progress,
) -> tuple[Action, Manifest]:
    """Stream the parts into the store, unless the same one is there."""
    spec = specs.dataset(dataset)
    total = sum(piece.files - len(piece.bad) for piece in pieces)
    if total == 0:
        raise UserError("\n".join([f"no usable file for {dataset}; no store was made", *bad_lines(bad, None)]))
    expected = content_hash(
        (pair for piece in pieces for pair in _digests_of(Path(piece.part))),
        dataset=dataset,
        classes=spec.classes,
        skeleton=NTU,
        max_persons=2,
        absent_person=spec.absent_person,
        protocols=official_rules(dataset),
    )
    action = decide_action(out, expected, force=force)
    if action == "unchanged":
        return action, SequenceStore.open(out).manifest
    with StoreWriter(
        out,
        dataset=dataset,
        skeleton=NTU,
        classes=spec.classes,
        source=source,
        max_persons=2,
        absent_person=spec.absent_person,
    ) as writer:
        done = 0
        for piece in pieces:
            for record, _ in _records_of(_open_part(Path(piece.part))):
                writer.add(record)
                done += 1
            progress("writing", done, total)
    return action, writer.manifest
