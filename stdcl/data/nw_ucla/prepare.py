"""Preparation of NW-UCLA: its JSON files, verified, become one store."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stdcl.data.nw_ucla import CLASSES
from stdcl.data.nw_ucla import raw as raw_ucla
from stdcl.data.prepare import (
    CORPUS_FILE,
    BadFile,
    BadFilesError,
    Prepared,
    Progress,
    check_destination,
    decide_action,
    silent,
)
from stdcl.data.protocols import official_rules
from stdcl.data.store import (
    Record,
    StoreWriter,
    content_hash,
    read_manifest,
    sequence_digest,
)
from stdcl.errors import UserError
from stdcl.skeleton import NW_UCLA

#: Checked sequences are kept until they are written, up to this many bytes; what is beyond is read a second time.
_KEPT_BYTES = 256 << 20


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
        classes=CLASSES,
        skeleton=NW_UCLA,
        max_persons=1,
        absent_person="zeros",
        protocols=official_rules("nw-ucla"),
    )
    action = decide_action(out, expected, force=force)
    if action == "unchanged":
        return Prepared(out, read_manifest(out), action, time.monotonic() - begun, tuple(notes))
    source: dict[str, Any] = {"format": "NW-UCLA all_sqe JSON", "files": len(files), "corpus": made}
    if corpus is not None:
        source["made_by"] = dict(corpus["made_by"])
    if copies:
        source["test_copies_of_train"] = copies
    with StoreWriter(out, dataset="nw-ucla", skeleton=NW_UCLA, classes=CLASSES, source=source) as writer:
        for done, file in enumerate(files, 1):
            known = kept.get(file.stem)
            writer.add(_read_again(file, digests[file.stem]) if known is None else known)
            progress("writing", done, len(files))
    return Prepared(out, writer.manifest, action, time.monotonic() - begun, tuple(notes))


def prepare(
    dataset: str, out: Path, *, raw: Sequence[Path] = (), force: bool, progress: Progress, allow_partial: bool = False
) -> Prepared:
    """Prepare NW-UCLA, see ``stdcl.data.prepare.Prepare``."""
    if len(raw) != 1:
        what = "give --raw once; its files are in one folder" if raw else "--raw DIR is missing"
        raise UserError(f"stdcl data prepare {dataset}: {what}")
    return prepare_nw_ucla(raw[0], out, force=force, allow_partial=allow_partial, progress=progress)


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
        if any(len(parts[part]) != len(CLASSES) for part in ("train", "test")):
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
                        f"wrong count: class {label} ({CLASSES[label]}) has {counts[label]} {part} files,"
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
