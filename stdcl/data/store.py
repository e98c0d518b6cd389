"""One Arrow file of variable-length sequences and its manifest: written as a stream, read by memory map.

A store is a folder with two files:

``sequences.arrow``
    an uncompressed Arrow IPC file, one row per sequence: ``id``, ``label``, ``subject``, ``view``, ``setup``,
        ``replication``,
    ``frames``, ``persons`` and ``values``, a large list of frames x persons x joints x 3 float32 (metres). Sequences
    keep their own length and only the persons that are there. A joint that was not detected is NaN in all three.
``manifest.json``
    dataset, schema version, skeleton, classes, protocols, counts per class and split, a summary of the
    source, and the content hash.

Reading maps the file: nothing is copied, pages are shared by every process of a node, and opening costs
milliseconds. The content hash covers the sequences in the order of their ids, so it depends neither on the
order of writing nor on time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stdcl import atomic
from stdcl.config.paths import also_looked_at
from stdcl.data.missing import missing
from stdcl.data.protocols import SplitRule, class_counts, official_rules, rule_from_json
from stdcl.data.raw_file import FARTHEST
from stdcl.errors import UserError
from stdcl.skeleton import Skeleton

SCHEMA_VERSION = 1
DATA_FILE = "sequences.arrow"
MANIFEST_FILE = "manifest.json"
INT_COLUMNS = ("label", "subject", "view", "setup", "replication", "frames", "persons")

#: What fills the second person of a clip with one: nothing (NTU60), or the first person again (NTU120).
AbsentPerson = Literal["zeros", "copy"]

Third = Literal["coordinate", "score"]

_BATCH_BYTES = 8 << 20

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


def _schema() -> Any:
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            *(pa.field(name, pa.int32(), nullable=False) for name in INT_COLUMNS),
            pa.field("values", pa.large_list(pa.field("item", pa.float32(), nullable=False)), nullable=False),
        ]
    )


class Record(NamedTuple):
    """One sequence to be stored.

    Attributes:
        id: unique name, for example ``a01_s01_e00_v01``.
        label: class index from 0.
        values: (F, M, V, 3) float32, metres; M persons that are really there.
        subject, view, setup, replication: numbers from the file's name; 0 where a dataset has none.
    """

    id: str
    label: int
    values: FloatArray
    subject: int = 0
    view: int = 0
    setup: int = 0
    replication: int = 0


class Clip(NamedTuple):
    """A clip without a label, as a store would hold it.

    Attributes:
        name: of the clip.
        values: (F, M, V, 3) float32.
        skeleton: name of its joint tree.
    """

    name: str
    values: FloatArray
    skeleton: str


@dataclass(frozen=True)
class Manifest:
    """What a store says of itself.

    Attributes:
        dataset: ``nw-ucla``, ``ntu60``, ``ntu120`` or a name of one's own.
        schema_version: version of the file layout.
        content_hash: SHA-256 over the sequences in the order of their ids, the classes, the skeleton and the
            protocols.
        classes: class names; the index is the label.
        skeleton: the joint tree.
        max_persons: persons a clip is laid out with (M of the encoder's input).
        absent_person: what fills the persons that a clip lacks.
        num_sequences, num_frames: totals (a frame of two persons counts once).
        protocols: split rules by name.
        counts: protocol -> part -> sequences a class.
        source: what the store was made from, as given by the command that prepared it.
        data_bytes: size of the Arrow file.
        missing_joints: joints that were not detected, summed over frames and persons.
        centred: whether clips are at their origin; if not, they are moved there when they are read.
        scale: what coordinates of clips that are not centred are multiplied with then (pixels).
        third: the third number of a joint: a coordinate, or the ``score`` that a detector gave it.
    """

    dataset: str
    schema_version: int
    content_hash: str
    classes: tuple[str, ...]
    skeleton: Skeleton
    max_persons: int
    absent_person: AbsentPerson
    num_sequences: int
    num_frames: int
    protocols: Mapping[str, SplitRule]
    counts: Mapping[str, Mapping[str, Sequence[int]]]
    source: Mapping[str, Any]
    data_bytes: int
    missing_joints: int = 0
    centred: bool = True
    scale: float = 1.0
    third: Third = "coordinate"

    def to_json(self) -> dict[str, Any]:
        """Return plain data for ``manifest.json``."""
        return {
            "dataset": self.dataset,
            "schema_version": self.schema_version,
            "content_hash": self.content_hash,
            "classes": list(self.classes),
            "skeleton": asdict(self.skeleton),
            "max_persons": self.max_persons,
            "absent_person": self.absent_person,
            "num_sequences": self.num_sequences,
            "num_frames": self.num_frames,
            "protocols": {name: rule.to_json() for name, rule in self.protocols.items()},
            "counts": {name: {part: list(n) for part, n in parts.items()} for name, parts in self.counts.items()},
            "source": dict(self.source),
            "data_bytes": self.data_bytes,
            "missing_joints": self.missing_joints,
            "centred": self.centred,
            "scale": self.scale,
            "third": self.third,
        }


def _skeleton_from_json(value: Mapping[str, Any]) -> Skeleton:
    def tree(key: str) -> tuple[int, ...] | None:
        return None if value.get(key) is None else tuple(value[key])

    return Skeleton(
        name=value["name"],
        joint_names=tuple(value["joint_names"]),
        parents=tuple(value["parents"]),
        centre=value["centre"],
        origin=value["origin"],
        hyperedges={name: tuple(groups) for name, groups in value["hyperedges"].items()},
        hand_parents=tree("hand_parents"),
        relative_parents=tree("relative_parents"),
    )


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the store in folder ``path``.

    Raises:
        UserError: no store is there, its manifest cannot be read, or it has another schema version.
    """
    file = path / MANIFEST_FILE
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        elsewhere = "".join(f", nor in {place}" for place in also_looked_at(path))
        raise UserError(
            f"{path}: no prepared data here ({MANIFEST_FILE} is missing){elsewhere};"
            " make it with `stdcl data prepare DATASET --raw DIR --out DIR`"
        ) from None
    except NotADirectoryError:
        raise UserError(f"{path}: this is a file; a folder made by `stdcl data prepare` is needed") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{file}: cannot be read as a manifest ({error}); prepare the data again") from error
    if not isinstance(value, dict) or "schema_version" not in value:
        raise UserError(f"{file}: this is not a manifest of `stdcl data prepare` (no schema_version)")
    if value["schema_version"] != SCHEMA_VERSION:
        raise UserError(
            f"{file}: schema version {value['schema_version']}, but this version of stdcl reads"
            f" {SCHEMA_VERSION}; prepare the data again"
        )
    try:
        return Manifest(
            dataset=value["dataset"],
            schema_version=value["schema_version"],
            content_hash=value["content_hash"],
            classes=tuple(value["classes"]),
            skeleton=_skeleton_from_json(value["skeleton"]),
            max_persons=value["max_persons"],
            absent_person=value["absent_person"],
            num_sequences=value["num_sequences"],
            num_frames=value["num_frames"],
            protocols={name: rule_from_json(rule) for name, rule in value["protocols"].items()},
            counts=value["counts"],
            source=value["source"],
            data_bytes=value["data_bytes"],
            missing_joints=value.get("missing_joints", 0),
            centred=value.get("centred", True),
            scale=value.get("scale", 1.0),
            third=value.get("third", "coordinate"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: incomplete manifest ({error!r}); prepare the data again") from error


def sequence_digest(record: Record) -> bytes:
    """Return the SHA-256 of one sequence: its id, numbers, shape and values."""
    digest = hashlib.sha256()
    name = record.id.encode("utf-8")
    digest.update(struct.pack("<q", len(name)) + name)
    frames, persons = record.values.shape[:2]
    digest.update(
        struct.pack(
            "<7q",
            record.label,
            record.subject,
            record.view,
            record.setup,
            record.replication,
            frames,
            persons,
        )
    )
    digest.update(np.ascontiguousarray(record.values, dtype="<f4").data)
    return digest.digest()


def content_hash(
    digests: Iterable[tuple[str, bytes]],
    *,
    dataset: str,
    classes: Sequence[str],
    skeleton: Skeleton,
    max_persons: int,
    absent_person: AbsentPerson,
    protocols: Mapping[str, SplitRule],
) -> str:
    """Return the store's hash from its sequences' (id, digest) pairs, in any order."""
    head = {
        "schema_version": SCHEMA_VERSION,
        "dataset": dataset,
        "classes": list(classes),
        "skeleton": asdict(skeleton),
        "max_persons": max_persons,
        "absent_person": absent_person,
        "protocols": {name: rule.to_json() for name, rule in protocols.items()},
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode("utf-8"))
    for _, part in sorted(digests):
        digest.update(part)
    return digest.hexdigest()


@contextmanager
def exclusive(final: Path) -> Iterator[None]:
    """Hold the right to write the store ``final`` and clear what a killed writer left beside it.

    Raises:
        UserError: another process is writing the same store.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    lock = final.parent / f".{final.name}.lock"
    with lock.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another writer may have finished, and removed the file, between the opening and the lock.
            current = lock.exists() and os.path.samestat(os.fstat(stream.fileno()), lock.stat())
        except BlockingIOError:
            current = False
        if not current:
            raise UserError(f"{final}: another process is preparing this store; wait for it") from None
        try:
            for part in final.parent.glob(f".{final.name}.*.part"):
                shutil.rmtree(part, ignore_errors=True)
            yield
        finally:
            lock.unlink(missing_ok=True)


@dataclass
class _Columns:
    """The columns of the rows written so far (a few dozen bytes a row)."""

    ids: list[str] = field(default_factory=list)
    numbers: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in INT_COLUMNS})

    def column(self, name: str) -> IntArray:
        return np.asarray(self.numbers[name], dtype=np.int64)

    @property
    def labels(self) -> IntArray:
        return self.column("label")


class StoreWriter:
    """Write a store as a stream, in bounded memory; the folder appears whole when the block ends without an error.

    Use as a context manager::

        with StoreWriter(out, dataset="nw-ucla", skeleton=NW_UCLA, classes=CLASSES, source=...) as writer:
            for record in records:
                writer.add(record)
        writer.manifest  # after the block

    An error (or a kill) leaves what was at ``final`` before. An existing folder at ``final`` is replaced:
    whether that is wanted is decided by the caller before (see :func:`stdcl.data.prepare.decide_action`).
    """

    manifest: Manifest

    def __init__(
        self,
        final: Path,
        *,
        dataset: str,
        skeleton: Skeleton,
        classes: Sequence[str],
        source: Mapping[str, Any],
        max_persons: int = 1,
        absent_person: AbsentPerson = "zeros",
        protocols: Mapping[str, SplitRule] | None = None,
        gaps: bool = False,
        centred: bool = True,
        scale: float = 1.0,
        third: Third = "coordinate",
        batch_bytes: int = _BATCH_BYTES,
    ) -> None:
        """Describe the store.

        Args:
            final: folder to make.
            dataset: its name.
            skeleton: the joint tree; its number of joints is V.
            classes: class names in the order of the labels.
            source: plain data on where the sequences came from; shown by ``stdcl data info``, not part of the
                hash.
            max_persons: M of the encoder's input.
            absent_person: what fills the persons that a clip lacks.
            protocols: split rules; None means those of the benchmark named ``dataset``.
            gaps: whether joints may be missing (NaN in all three coordinates).
            centred, scale, third: as in :class:`Manifest`.
            batch_bytes: values buffered before they are written.
        """
        self._final = final
        self._dataset = dataset
        self._skeleton = skeleton
        self._classes = tuple(classes)
        self._source = dict(source)
        self._max_persons = max_persons
        self._absent_person: AbsentPerson = absent_person
        self._protocols = official_rules(dataset) if protocols is None else dict(protocols)
        self._gaps = gaps
        self._missing_joints = 0
        self._centred = centred
        self._scale = scale
        self._third: Third = third
        self._batch_bytes = batch_bytes
        self._columns = _Columns()
        self._digests: list[tuple[str, bytes]] = []
        self._seen: set[str] = set()
        self._pending: list[FloatArray] = []
        self._pending_bytes = 0
        self._written = 0
        self._stack = ExitStack()

    def __enter__(self) -> StoreWriter:
        self._stack.enter_context(exclusive(self._final))
        try:
            self._folder = self._stack.enter_context(atomic.staging_dir(self._final))
            self._sink = self._stack.enter_context(pa.OSFile(str(self._folder / DATA_FILE), "wb"))
            self._writer = pa.ipc.new_file(self._sink, _schema())
        except BaseException:
            self._stack.close()
            raise
        return self

    def add(self, record: Record) -> None:
        """Append one sequence.

        Raises:
            UserError: the id was already written, the label or the shape does not fit, or a value is not
                finite.
        """
        values = np.ascontiguousarray(record.values, dtype=np.float32)
        self._check(record, values)
        frames, persons = values.shape[:2]
        self._seen.add(record.id)
        self._digests.append((record.id, sequence_digest(record._replace(values=values))))
        self._columns.ids.append(record.id)
        numbers = {
            "label": record.label,
            "subject": record.subject,
            "view": record.view,
            "setup": record.setup,
            "replication": record.replication,
            "frames": frames,
            "persons": persons,
        }
        for name, number in numbers.items():
            self._columns.numbers[name].append(int(number))
        self._pending.append(values.reshape(-1))
        self._pending_bytes += values.nbytes
        if self._pending_bytes >= self._batch_bytes:
            self._flush()

    def _check(self, record: Record, values: FloatArray) -> None:
        where = f"sequence '{record.id}'"
        if record.id in self._seen:
            raise UserError(f"{where}: written twice; ids must be unique")
        if not 0 <= record.label < len(self._classes):
            raise UserError(f"{where}: label {record.label}; allowed are 0 to {len(self._classes) - 1}")
        joints = self._skeleton.num_joints
        if values.ndim != 4 or values.shape[2:] != (joints, 3):
            raise UserError(f"{where}: shape {values.shape}; (frames, persons, {joints}, 3) is needed")
        if values.shape[0] < 1 or not 1 <= values.shape[1] <= self._max_persons:
            raise UserError(
                f"{where}: {values.shape[0]} frames, {values.shape[1]} persons;"
                f" at least 1 frame and 1 to {self._max_persons} persons are needed"
            )
        finite = np.isfinite(values)
        if finite.all() and float(np.abs(values).max()) <= FARTHEST:
            return
        if (np.abs(values) > FARTHEST).any():
            raise UserError(f"{where}: has coordinates beyond {FARTHEST:g}")
        gone = missing(values)
        if not self._gaps or (finite.any(axis=-1) & gone).any() or not finite[~gone].all():
            raise UserError(f"{where}: has values that are not finite")
        self._missing_joints += int(np.count_nonzero(gone))

    def _flush(self) -> None:
        if not self._pending:
            return
        rows = slice(self._written, self._written + len(self._pending))
        sizes = np.array([len(v) for v in self._pending], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        values = pa.LargeListArray.from_arrays(
            pa.array(offsets, pa.int64()),
            pa.array(np.concatenate(self._pending)),
            type=_schema().field("values").type,
        )
        arrays = [
            pa.array(self._columns.ids[rows], pa.string()),
            *(pa.array(self._columns.numbers[name][rows], pa.int32()) for name in INT_COLUMNS),
            values,
        ]
        self._writer.write_batch(pa.record_batch(arrays, schema=_schema()))
        self._written += len(self._pending)
        self._pending = []
        self._pending_bytes = 0

    def _finish(self) -> None:
        if not self._digests:
            raise UserError(f"{self._final}: not one sequence to write")
        self._flush()
        self._writer.close()
        self._sink.close()
        self.manifest = Manifest(
            dataset=self._dataset,
            schema_version=SCHEMA_VERSION,
            content_hash=content_hash(
                self._digests,
                dataset=self._dataset,
                classes=self._classes,
                skeleton=self._skeleton,
                max_persons=self._max_persons,
                absent_person=self._absent_person,
                protocols=self._protocols,
            ),
            classes=self._classes,
            skeleton=self._skeleton,
            max_persons=self._max_persons,
            absent_person=self._absent_person,
            num_sequences=len(self._digests),
            num_frames=int(self._columns.column("frames").sum()),
            protocols=self._protocols,
            counts={
                name: class_counts(self._columns, rule, len(self._classes)) for name, rule in self._protocols.items()
            },
            source=self._source,
            data_bytes=(self._folder / DATA_FILE).stat().st_size,
            missing_joints=self._missing_joints,
            centred=self._centred,
            scale=self._scale,
            third=self._third,
        )
        atomic.write_json(self._folder / MANIFEST_FILE, self.manifest.to_json())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            try:
                self._finish()
            except BaseException as failure:
                self._stack.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._stack.__exit__(kind, error, trace)


class SequenceStore:
    """A prepared dataset, read by memory map. Immutable; safe to share between threads, cheap to send to a
    process.

    Attributes:
        path: the folder.
        manifest: what the store says of itself.
        table: the Arrow table, columns ``id``, ``label``, ``subject``, ``view``, ``setup``, ``replication``,
            ``frames``, ``persons``, ``values``.
    """

    def __init__(self, path: Path, manifest: Manifest, table: Any) -> None:
        self.path = path
        self.manifest = manifest
        self.table = table
        self._chunks: list[FloatArray] = []
        starts: list[IntArray] = []
        owners: list[IntArray] = []
        for number, chunk in enumerate(table.column("values").chunks):
            offsets = chunk.offsets.to_numpy(zero_copy_only=True)
            self._chunks.append(chunk.values.to_numpy(zero_copy_only=True))
            starts.append(offsets[:-1])
            owners.append(np.full(len(chunk), number, dtype=np.int64))
        self._start = np.concatenate(starts)
        self._owner = np.concatenate(owners)

    @classmethod
    def open(cls, path: str | Path) -> SequenceStore:
        """Map the store in folder ``path``.

        Raises:
            UserError: there is none, or it is damaged or of another schema version.
        """
        path = Path(path)
        manifest = read_manifest(path)
        file = path / DATA_FILE
        try:
            size = file.stat().st_size
        except FileNotFoundError:
            raise UserError(f"{file}: missing, though the manifest is there; prepare the data again") from None
        if size != manifest.data_bytes:
            raise UserError(
                f"{file}: {size} bytes where the manifest says {manifest.data_bytes} (truncated?);"
                " prepare the data again"
            )
        try:
            table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{file}: not a readable Arrow file ({error}); prepare the data again") from error
        if table.schema != _schema() or table.num_rows != manifest.num_sequences:
            raise UserError(f"{file}: its columns or rows are not those of the manifest; prepare the data again")
        return cls(path, manifest, table)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return SequenceStore.open, (str(self.path),)

    def __len__(self) -> int:
        return self.manifest.num_sequences

    @cached_property
    def ids(self) -> list[str]:
        """Sequence ids, one per row."""
        out: list[str] = self.table.column("id").to_pylist()
        return out

    @cached_property
    def _numbers(self) -> dict[str, IntArray]:
        return {name: self.table.column(name).to_numpy().astype(np.int64) for name in INT_COLUMNS}

    def column(self, name: str) -> IntArray:
        """Return an integer column, one of :data:`INT_COLUMNS`, one entry per row."""
        return self._numbers[name]

    @property
    def labels(self) -> IntArray:
        """Class indices, one per row."""
        return self.column("label")

    @property
    def rules(self) -> Mapping[str, SplitRule]:
        """Split rules by protocol name."""
        return self.manifest.protocols

    @property
    def skeleton(self) -> Skeleton:
        """The joint tree."""
        return self.manifest.skeleton

    def sequence(self, row: int) -> FloatArray:
        """Return the (F, M, V, 3) float32 values of a row: a read-only view of the mapped file, metres."""
        frames = int(self._numbers["frames"][row])
        persons = int(self._numbers["persons"][row])
        joints = self.manifest.skeleton.num_joints
        start = int(self._start[row])
        chunk = self._chunks[int(self._owner[row])]
        return chunk[start : start + frames * persons * joints * 3].reshape(frames, persons, joints, 3)

    def records(self) -> Iterator[Record]:
        """Iterate over all rows as :class:`Record` (values are views)."""
        for row, name in enumerate(self.ids):
            yield Record(
                id=name,
                values=self.sequence(row),
                **{key: int(self._numbers[key][row]) for key in INT_COLUMNS[:5]},
            )

    def verify(self) -> None:
        """Recompute the content hash from the file.

        Raises:
            UserError: it is not the manifest's.
        """
        found = content_hash(
            ((r.id, sequence_digest(r)) for r in self.records()),
            dataset=self.manifest.dataset,
            classes=self.manifest.classes,
            skeleton=self.manifest.skeleton,
            max_persons=self.manifest.max_persons,
            absent_person=self.manifest.absent_person,
            protocols=self.manifest.protocols,
        )
        if found != self.manifest.content_hash:
            raise UserError(
                f"{self.path}: content hash {found[:16]} where the manifest says"
                f" {self.manifest.content_hash[:16]}; the file was changed or damaged: prepare the data again"
            )
