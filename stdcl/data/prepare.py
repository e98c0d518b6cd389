"""Preparation of a dataset: what is checked before anything is written, and what is said afterwards.

Whatever the dataset: raw files are verified first and every bad one is reported by name, all at once; an existing store
is never overwritten by a different one unless asked for; the same store is recognised and left alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from stdcl.data import raw_ucla
from stdcl.data.protocols import RULES
from stdcl.data.store import (
    MANIFEST_FILE,
    Manifest,
    Record,
    SequenceStore,
    StoreWriter,
    content_hash,
    read_manifest,
    sequence_digest,
)
from stdcl.errors import UserError
from stdcl.skeleton import NW_UCLA

#: A synthetic corpus says here, in its folder, what belongs to it.
CORPUS_FILE = "corpus.json"

#: Checked sequences are kept until they are written, up to this many bytes; what is beyond is read a second time.
_KEPT_BYTES = 256 << 20

Action = Literal["written", "replaced", "unchanged"]


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
                *(f"  note: {note}" for note in self.notes),
            ]
        )


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


def check_destination(out: Path) -> None:
    """Refuse, before any work, a destination that holds something other than a store.

    Raises:
        UserError: ``out`` is a file, or a folder with other content.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: a file is in the way; give a folder")
    if out.is_dir() and not (out / MANIFEST_FILE).exists() and any(out.iterdir()):
        raise UserError(f"--out {out}: the folder holds other things; give an empty or a new one")


def settle(out: Path, expected_hash: str, *, force: bool) -> Action:
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


def prepare_nw_ucla(
    raw: Path,
    out: Path,
    *,
    force: bool = False,
    allow_partial: bool = False,
    progress: Progress = silent,
) -> Prepared:
    """Verify NW-UCLA's raw files and write them as a store.

    A folder without ``corpus.json`` claims to be the distributed dataset: exactly its 1,484 sequences must be there
    (1,020 train, 464 test in the cross-view protocol). A synthetic corpus carries a ``corpus.json`` with the sequences
    a class that it must have.

    Args:
        raw: folder of the JSON files.
        out: folder of the store.
        force: replace another store at ``out``.
        allow_partial: accept a subset of the dataset, or other sequences in its format.
        progress: told of each file.

    Raises:
        BadFilesError: files that cannot be used, or that are missing; nothing was written.
        UserError: no raw files, or the destination is taken.
    """
    begun = time.monotonic()
    check_destination(out)
    files, notes = _raw_files(raw)
    corpus = _corpus(raw)
    digests: dict[str, bytes] = {}
    labels: dict[str, tuple[int, int]] = {}
    contents: defaultdict[bytes, list[str]] = defaultdict(list)
    kept: dict[str, Record] = {}
    kept_bytes = 0
    bad: list[BadFile] = []
    for done, file in enumerate(files, 1):
        try:
            record = raw_ucla.read_file(file)
        except raw_ucla.RawFileError as error:
            bad.append(BadFile(file.name, str(error)))
        else:
            if record.id in digests:
                bad.append(BadFile(file.name, f"duplicate: a second file named {record.id}"))
                continue
            if kept_bytes + record.values.nbytes <= _KEPT_BYTES:
                kept[record.id] = record
                kept_bytes += record.values.nbytes
            digests[record.id] = sequence_digest(record)
            labels[record.id] = (record.view, record.label)
            contents[_content_digest(record.values)].append(file.name)
        progress("checking", done, len(files))
    duplicates, copies = _duplicates(contents.values(), distributed=corpus is None)
    bad += duplicates
    if copies:
        notes.append(
            f"{len(copies)} test sequences are exact copies of training sequences in the distributed files"
            f" (camera 3 = camera 2 for actions {', '.join(f'a{code:02d}' for code in raw_ucla.COPIED_ACTIONS)});"
            " they are kept, as every published result has them, and listed in the manifest"
        )
    made = "synthetic"
    if corpus is not None:
        bad += _check_corpus(corpus, labels, bad)
    else:
        absent = _check_official(digests, {Path(name).stem for name, _ in bad})
        made = "partial" if absent else "official"
        if allow_partial:
            notes += [f"{name}: {reason}" for name, reason in absent] if len(absent) < 10 else []
            if absent:
                kinds = Counter(reason.partition(":")[0] for _, reason in absent)
                count = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
                notes.append(f"not the complete dataset: {count} (--allow-partial)")
        else:
            bad += absent
    if bad:
        raise BadFilesError(raw, sorted(bad), _advice(bad, corpus is not None))

    expected = content_hash(
        digests.items(),
        dataset="nw-ucla",
        classes=raw_ucla.CLASSES,
        skeleton=NW_UCLA,
        max_persons=1,
        absent_person="zeros",
        protocols=RULES["nw-ucla"],
    )
    action = settle(out, expected, force=force)
    if action == "unchanged":
        return Prepared(out, read_manifest(out), action, time.monotonic() - begun, tuple(notes))
    source: dict[str, Any] = {"format": "NW-UCLA all_sqe JSON", "files": len(files), "corpus": made}
    if corpus is not None:
        source["made_by"] = dict(corpus["made_by"])
    if copies:
        source["test_copies_of_train"] = copies
    with StoreWriter(out, dataset="nw-ucla", skeleton=NW_UCLA, classes=raw_ucla.CLASSES, source=source) as writer:
        for done, file in enumerate(files, 1):
            known = kept.get(file.stem)
            writer.add(_read_again(file, digests[file.stem]) if known is None else known)
            progress("writing", done, len(files))
    return Prepared(out, writer.manifest, action, time.monotonic() - begun, tuple(notes))


def _read_again(file: Path, digest: bytes) -> Record:
    """Read a file a second time and insist that it is what was checked."""
    try:
        record = raw_ucla.read_file(file)
    except raw_ucla.RawFileError as error:
        raise UserError(f"{file}: changed while it was being prepared ({error}); run again") from error
    if sequence_digest(record) != digest:
        raise UserError(f"{file}: changed while it was being prepared; run again")
    return record


def _content_digest(values: NDArray[np.float32]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(values).data).digest()


def _raw_files(raw: Path) -> tuple[list[Path], list[str]]:
    """Return the JSON files in order of their names, and notes on what is ignored."""
    if not raw.is_dir():
        raise UserError(f"--raw {raw}: {'not a folder' if raw.exists() else 'no such folder'}")
    visible = sorted(p for p in raw.iterdir() if not p.name.startswith(".") and p.name != CORPUS_FILE)
    files = [p for p in visible if p.suffix.lower() == ".json"]
    others = [p.name for p in visible if p.suffix.lower() != ".json"]
    if not files:
        inner = [p for p in visible if p.is_dir() and any(p.glob("a*_s*_e*_v*.json"))]
        hint = f"; the raw files seem to be in {inner[0]}" if inner else ""
        raise UserError(f"--raw {raw}: no .json file here{hint}")
    notes = []
    if others:
        said = ", ".join(others[:10]) + (f" and {len(others) - 10} more" if len(others) > 10 else "")
        notes.append(f"ignored {len(others)} that {'is' if len(others) == 1 else 'are'} not .json: {said}")
    return files, notes


def _corpus(raw: Path) -> Mapping[str, Any] | None:
    """Return a synthetic corpus' own description, or None where there is none."""
    file = raw / CORPUS_FILE
    if not file.exists():
        return None
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        if value["dataset"] != "nw-ucla":
            raise UserError(f"{file}: describes a corpus of '{value['dataset']}', not of nw-ucla")
        parts = value["counts"]["cross-view"]
        dict(value["made_by"])
        if any(len(parts[part]) != len(raw_ucla.CLASSES) for part in ("train", "test")):
            raise ValueError("counts must give 10 classes for train and test")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: cannot be read as a corpus description ({error!r}); make the corpus again") from error
    return dict(value)


def _duplicates(groups: Iterable[list[str]], *, distributed: bool) -> tuple[list[BadFile], list[str]]:
    """Return the files that repeat another's content, and the ids of those that the dataset itself repeats."""
    bad: list[BadFile] = []
    known: list[str] = []
    for group in groups:
        names = [raw_ucla.parse_name(Path(file).stem) for file in group]
        for i, file in enumerate(group[1:], 1):
            if distributed and any(raw_ucla.is_known_copy(names[i], other) for other in names[:i]):
                known.append(Path(file).stem)
            else:
                bad.append(BadFile(file, f"duplicate: the same skeletons as {group[0]}"))
    return bad, sorted(known)


def _check_official(found: Iterable[str], bad: set[str]) -> list[BadFile]:
    """Return the sequences of the distributed dataset that are missing, and those that are not part of it."""
    official = raw_ucla.official_ids()
    here = set(found)
    missing = [BadFile(f"{name}.json", "missing: not in the folder") for name in official - here - bad]
    foreign = [
        BadFile(f"{name}.json", "foreign: not one of the 1,484 sequences of NW-UCLA") for name in here - official
    ]
    return sorted(missing + foreign)


def _check_corpus(
    corpus: Mapping[str, Any], labels: Mapping[str, tuple[int, int]], bad: Sequence[BadFile]
) -> list[BadFile]:
    """Return the classes of a synthetic corpus whose number of files is not what the corpus says."""
    expected = corpus["counts"]["cross-view"]
    out = []
    for part, views in (("train", (1, 2)), ("test", (3,))):
        counts = Counter(label for view, label in labels.values() if view in views)
        for bad_name, _ in bad:
            try:
                name = raw_ucla.parse_name(Path(bad_name).stem)
            except raw_ucla.RawFileError:
                continue
            if name.view in views and Path(bad_name).stem not in labels:
                counts[name.label] += 1
        for label, should in enumerate(expected[part]):
            if counts[label] != should:
                out.append(
                    BadFile(
                        CORPUS_FILE,
                        f"wrong count: class {label} ({raw_ucla.CLASSES[label]}) has {counts[label]} {part} files,"
                        f" {should} are expected",
                    )
                )
    return out


def _advice(bad: Sequence[BadFile], synthetic: bool) -> str:
    kinds = {reason.partition(":")[0] for _, reason in bad}
    if synthetic:
        return "Make the corpus again with `stdcl data synth nw-ucla`."
    if kinds <= {"missing", "foreign"}:
        return "For an incomplete dataset, or other sequences in this format, add --allow-partial."
    return "Fetch these files again; or take them away and add --allow-partial to prepare the rest."


def info(path: Path, *, verify: bool = False) -> dict[str, Any]:
    """Return what a store holds, as plain data for ``stdcl data info --json``.

    Args:
        path: the store.
        verify: also recompute the content hash from the file (reads all of it).

    Raises:
        UserError: no store, or a damaged one.
    """
    store = SequenceStore.open(path)
    if verify:
        store.verify()
    manifest = store.manifest
    frames = store.column("frames")
    persons = store.column("persons")
    longest = int(frames.max())
    joint_bytes = manifest.skeleton.num_joints * 3 * 4
    protocols = {
        name: {
            part: {"sequences": sum(manifest.counts[name][part]), "per_class": list(manifest.counts[name][part])}
            for part in ("train", "test")
        }
        for name in manifest.protocols
    }
    return {
        "path": str(path),
        "dataset": manifest.dataset,
        "schema_version": manifest.schema_version,
        "content_hash": manifest.content_hash,
        "verified": verify,
        "sequences": manifest.num_sequences,
        "classes": list(manifest.classes),
        "per_class": np.bincount(store.labels, minlength=len(manifest.classes)).tolist(),
        "subjects": np.unique(store.column("subject")).tolist(),
        "views": np.unique(store.column("view")).tolist(),
        "setups": np.unique(store.column("setup")).tolist(),
        "skeleton": manifest.skeleton.name,
        "joints": manifest.skeleton.num_joints,
        "persons": {str(n): int((persons == n).sum()) for n in np.unique(persons)},
        "frames": {
            "total": manifest.num_frames,
            "shortest": int(frames.min()),
            "median": float(np.median(frames)),
            "longest": longest,
        },
        "bytes": manifest.data_bytes,
        "values_bytes": int((frames * persons).sum()) * joint_bytes,
        "padded_bytes": manifest.num_sequences * longest * manifest.max_persons * joint_bytes,
        "protocols": protocols,
        "source": dict(manifest.source),
    }


def render_info(value: Mapping[str, Any]) -> str:
    """Return :func:`info` as text."""
    frames = value["frames"]
    size, padded = value["bytes"], value["padded_bytes"]
    lines = [
        f"{value['path']}",
        f"  dataset        {value['dataset']} ({value['sequences']:,} sequences, {len(value['classes'])} classes)",
        f"  content hash   {value['content_hash']}" + (" (verified)" if value["verified"] else ""),
        f"  schema         {value['schema_version']}",
        f"  skeleton       {value['skeleton']}, {value['joints']} joints",
        f"  frames         {frames['total']:,} in all; {frames['shortest']} to {frames['longest']} a sequence,"
        f" median {frames['median']:g}",
        "  persons        " + ", ".join(f"{count:,} sequences with {n}" for n, count in value["persons"].items()),
        f"  size           {size / 1e6:,.1f} MB; padded to {frames['longest']} frames it would be"
        f" {padded / 1e6:,.1f} MB ({size / padded:.0%})",
        f"  subjects       {_ranges(value['subjects'])}",
        f"  views          {_ranges(value['views'])}",
    ]
    if value["setups"] != [0]:
        lines.append(f"  setups         {_ranges(value['setups'])}")
    for name, parts in value["protocols"].items():
        said = ", ".join(f"{part} {content['sequences']:,}" for part, content in parts.items())
        lines.append(f"  protocol       {name}: {said}")
    lines += [f"  source         {line}" for line in _source_lines(value["source"])]
    lines.append("")
    lines += _class_table(value)
    return "\n".join(lines)


def _source_lines(source: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}: {len(item)} ({', '.join(map(str, item[:3]))}, ...)"
        if isinstance(item, list) and len(item) > 5
        else f"{key}: {item}"
        for key, item in source.items()
    ]


def _ranges(numbers: Sequence[int]) -> str:
    """Return 1, 2, 3, 7 as ``1-3, 7``."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def _class_table(value: Mapping[str, Any]) -> list[str]:
    columns = [("all", value["per_class"])]
    for name, parts in value["protocols"].items():
        columns += [(f"{name} {part}", content["per_class"]) for part, content in parts.items()]
    widths = [max(len(title), 5) for title, _ in columns]
    first = max(len("class"), *(len(name) + 5 for name in value["classes"]))
    head = "  " + "class".ljust(first) + "".join(f"  {t:>{w}}" for (t, _), w in zip(columns, widths, strict=True))
    rows = [
        "  "
        + f"{label:>3}  {name}".ljust(first)
        + "".join(f"  {counts[label]:>{w}}" for (_, counts), w in zip(columns, widths, strict=True))
        for label, name in enumerate(value["classes"])
    ]
    return [head, *rows]
