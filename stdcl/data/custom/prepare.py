"""A dataset of one's own: a YAML description of joints, classes, files and splits, and its preparation into
a store.

The description (see ``docs/custom_dataset.md``) is checked as a whole before any data file is opened, and
all data files before anything is written. The store carries the skeleton, so that every encoder trains on
it without further settings.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from stdcl.config.explain import Origin
from stdcl.config.load import check_kind, read_located, validate_fragment
from stdcl.config.section import Positive, Section
from stdcl.data.detection import Detection, Mark, NobodyThere, Tally, detect
from stdcl.data.prepare import BadFile, BadFilesError, Prepared, Progress, check_destination, decide_action, silent
from stdcl.data.protocols import SplitRule, class_counts, official_rules
from stdcl.data.raw_file import FARTHEST, check_regular, read_raw
from stdcl.data.store import Clip, Manifest, Record, StoreWriter, content_hash, read_manifest, sequence_digest
from stdcl.errors import NPZ_ERRORS, UserError, nearest
from stdcl.skeleton import Skeleton

_NUMBERS = ("subject", "view", "setup", "replication")
_FIELDS = ("values", "confidence", "label", "id", *_NUMBERS)
_NPZ_FIELDS = (*_FIELDS, "lengths")
_PARQUET_FIELDS = (*_FIELDS, "persons")
_ROWS_AT_ONCE = 64

Joint = str | int
FloatArray = NDArray[np.float32]


class FileEntry(Section):
    """Data files, and numbers that hold for all their clips unless the files say otherwise."""

    path: str = Field(min_length=1)
    """A ``.npz`` or ``.parquet`` file or a pattern (``**`` goes into folders), relative to the
    description's folder."""
    label: str | int | None = None
    """Class, by name or by number from 0."""
    subject: int | None = None
    view: int | None = None
    setup: int | None = None
    replication: int | None = None


class SplitEntry(Section):
    """A protocol: which values of a column train, and which test."""

    column: Literal["subject", "view", "setup", "replication", "id"]
    train: list[int] | list[str] | str
    """Values, or a text file with one per line."""
    test: list[int] | list[str] | str | None = None
    """As ``train``; without it, every value that does not train tests."""


class CustomSpec(Section):
    """The description of a dataset."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the dataset: letters, digits, ``.``, ``_`` and ``-``."""
    joints: list[str] = Field(min_length=2)
    """Joint names, in the order of the arrays."""
    parents: dict[str, Joint] | list[Joint]
    """Parent of each joint (the root is left out or has itself), as a mapping or a list in the order of the
    joints."""
    centre: Joint | None = None
    """The joint that graphs and bones are rooted at; by default the root of ``parents``."""
    origin: Joint | None = None
    """The joint whose first position becomes the origin; by default the centre."""
    translate: bool = True
    """Move each clip to its origin."""
    hyperedges: dict[str, list[Joint]] | dict[str, dict[str, list[Joint]]] | None = None
    """Groups of joints (Hyperformer), or several groupings by name; by default the branches at the centre."""
    undetected: tuple[Mark, ...] = Field(default=("zeros", "minus-ones"), strict=False)
    """What marks a joint that was not detected, beside NaN and a confidence of 0: all coordinates 0, all -1."""
    missing: Literal["keep", "interpolate"] = "keep"
    """Joints that were not detected stay missing, or are filled by straight lines in time."""
    classes: list[str] = Field(min_length=2)
    """Class names; the position is the label."""
    persons: Positive = 1
    """Most persons in a clip (M of the encoder's input)."""
    absent_person: Literal["zeros", "copy"] = "zeros"
    """What fills the persons that a clip lacks."""
    files: list[Any] = Field(min_length=1)
    """Paths, or mappings as :class:`FileEntry`."""
    splits: dict[str, Any] = Field(min_length=1)
    """Protocols by name, each as :class:`SplitEntry`."""


@dataclass(frozen=True)
class CustomDataset:
    """A checked description.

    Attributes:
        name: of the dataset.
        skeleton: the joint tree, rooted at the centre.
        classes: class names.
        persons: M.
        absent_person: what fills missing persons.
        translate: move clips to their origin.
        undetected: marks of joints that were not detected.
        interpolate: fill such joints.
        files: every data file with its entry.
        rules: split rules by name.
        notes: what was taken by default and a user should know.
    """

    name: str
    skeleton: Skeleton
    classes: tuple[str, ...]
    persons: int
    absent_person: Literal["zeros", "copy"]
    translate: bool
    undetected: tuple[Mark, ...]
    interpolate: bool
    files: tuple[tuple[Path, FileEntry], ...]
    rules: Mapping[str, SplitRule]
    notes: tuple[str, ...]


def load_spec(path: Path) -> CustomDataset:
    """Read and check a description.

    Raises:
        UserError: with a line for each fault of the form; then for joints, files and splits.
    """
    raw, origin = read_located(path)
    check_kind(raw, path, "the description of a dataset")
    where = str(path)
    spec, entries, splits = _validate(raw, origin)
    try:
        return _checked(spec, entries, splits, path.parent)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _checked(
    spec: CustomSpec, entries: Sequence[FileEntry], splits: Mapping[str, SplitEntry], folder: Path
) -> CustomDataset:
    if official_rules(spec.name):
        raise UserError(f"'name' is '{spec.name}', which is a benchmark's; choose another")
    skeleton, notes = _skeleton(spec)
    _unique(spec.classes, "classes")
    files = _expand(entries, folder)
    rules = {
        name: SplitRule(
            column=entry.column,
            train=_split_values(entry.train, entry.column, folder, f"splits.{name}.train"),
            test=None if entry.test is None else _split_values(entry.test, entry.column, folder, f"splits.{name}.test"),
        )
        for name, entry in splits.items()
    }
    return CustomDataset(
        name=spec.name,
        skeleton=skeleton,
        classes=tuple(spec.classes),
        persons=spec.persons,
        absent_person=spec.absent_person,
        translate=spec.translate,
        undetected=spec.undetected,
        interpolate=spec.missing == "interpolate",
        files=files,
        rules=rules,
        notes=notes,
    )


def _validate(raw: Mapping[str, Any], origin: Origin) -> tuple[CustomSpec, list[FileEntry], dict[str, SplitEntry]]:
    """Check the form of the description and of its parts; all faults at once."""
    faults: list[str] = []

    def check(model: type[Section], value: Any, place: str | Origin) -> Any:
        try:
            return validate_fragment(model, value, place)
        except UserError as error:
            faults.append(str(error))
            return None

    spec = check(CustomSpec, raw, origin)
    files, splits = raw.get("files"), raw.get("splits")
    entries = [
        check(
            FileEntry,
            {"path": entry} if isinstance(entry, str) else entry,
            f"{origin.at(('files', index))}: files[{index}]",
        )
        for index, entry in enumerate(files if isinstance(files, list) else [])
    ]
    rules = {
        str(name): check(SplitEntry, entry, f"{origin.at(('splits', name))}: splits.{name}")
        for name, entry in (splits if isinstance(splits, dict) else {}).items()
    }
    if faults:
        raise UserError("\n".join(faults))
    return spec, entries, rules


def _unique(names: Sequence[str], key: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{key}: {', '.join(repr(name) for name in twice)} stands more than once")


def _skeleton(spec: CustomSpec) -> tuple[Skeleton, tuple[str, ...]]:
    joints = spec.joints
    _unique(joints, "joints")

    def number(joint: Joint, key: str) -> int:
        if isinstance(joint, int):
            if not 0 <= joint < len(joints):
                raise UserError(f"{key}: joint {joint}; allowed are 0 to {len(joints) - 1}, or a name")
            return joint
        if joint not in joints:
            raise UserError(f"{key}: there is no joint '{joint}'{nearest(joint, joints)}; allowed: {joints}")
        return joints.index(joint)

    parents = list(range(len(joints)))
    if isinstance(spec.parents, dict):
        for joint, parent in spec.parents.items():
            parents[number(joint, "parents")] = number(parent, f"parents.{joint}")
    else:
        if len(spec.parents) != len(joints):
            raise UserError(f"parents: {len(spec.parents)} entries for {len(joints)} joints")
        parents = [number(parent, "parents") for parent in spec.parents]
    roots = [joint for joint, parent in enumerate(parents) if joint == parent]
    if len(roots) != 1:
        found = ", ".join(f"'{joints[root]}'" for root in roots) or "none (the joints hang in a circle)"
        raise UserError(f"parents: exactly one joint, the root, must be without a parent (or its own); found {found}")
    centre = roots[0] if spec.centre is None else number(spec.centre, "centre")
    origin = centre if spec.origin is None else number(spec.origin, "origin")
    # Check the tree as given before it is turned, so that an error speaks of what the user wrote.
    Skeleton(spec.name, tuple(joints), tuple(parents), centre, origin)
    rooted = reroot(parents, centre)
    notes: tuple[str, ...] = ()
    if spec.hyperedges is None:
        hyperedges = {"default": branches(rooted)}
        groups = max(hyperedges["default"]) + 1
        notes = (f"no hyperedges given: Hyperformer's are the {groups} branches at '{joints[centre]}'",)
    else:
        hyperedges = {}
        for grouping, named in _groupings(spec.hyperedges).items():
            groups_of = {
                name: [number(joint, f"hyperedges.{name}") for joint in members] for name, members in named.items()
            }
            hyperedges[grouping] = _grouping(groups_of, joints)
    return Skeleton(spec.name, tuple(joints), rooted, centre, origin, hyperedges), notes


def reroot(parents: Sequence[int], root: int) -> tuple[int, ...]:
    """Return the same tree with another root: the edges on the way from the old root to the new one are
    turned."""
    turned = list(parents)
    below, joint = root, root
    while True:
        above = parents[joint]
        turned[joint] = below
        if above == joint:
            return tuple(turned)
        below, joint = joint, above


def branches(parents: Sequence[int]) -> tuple[int, ...]:
    """Group the joints by the root's child that they hang on; the root joins its first child's group."""
    root = next(joint for joint, parent in enumerate(parents) if joint == parent)
    heads = [joint for joint, parent in enumerate(parents) if parent == root and joint != root]

    def head(joint: int) -> int:
        while joint not in heads:
            joint = parents[joint]
        return heads.index(joint)

    return tuple(0 if joint == root else head(joint) for joint in range(len(parents)))


def _groupings(
    value: dict[str, list[Joint]] | dict[str, dict[str, list[Joint]]],
) -> dict[str, dict[str, list[Joint]]]:
    nested = {name: groups for name, groups in value.items() if isinstance(groups, dict)}
    flat = {name: groups for name, groups in value.items() if isinstance(groups, list)}
    if flat:
        return {"default": flat}
    if "default" not in nested:
        raise UserError(f"hyperedges: one of the groupings must be named 'default'; found {sorted(nested)}")
    return nested


def _grouping(groups: Mapping[str, Sequence[int]], joints: Sequence[str]) -> tuple[int, ...]:
    out = [-1] * len(joints)
    for group, (name, members) in enumerate(groups.items()):
        if not members:
            raise UserError(f"hyperedges: group '{name}' has no joint")
        for joint in members:
            if out[joint] >= 0:
                raise UserError(f"hyperedges: joint '{joints[joint]}' is in more than one group")
            out[joint] = group
    left = [joints[joint] for joint, group in enumerate(out) if group < 0]
    if left:
        raise UserError(f"hyperedges: each joint must be in a group; in none: {', '.join(left)}")
    return tuple(out)


def _expand(entries: Sequence[FileEntry], folder: Path) -> tuple[tuple[Path, FileEntry], ...]:
    out: dict[Path, FileEntry] = {}
    for index, entry in enumerate(entries):
        pattern = Path(entry.path)
        root = Path(pattern.anchor) if pattern.is_absolute() else folder
        found = sorted(root.glob(str(pattern.relative_to(root) if pattern.is_absolute() else pattern)))
        if not found:
            raise UserError(f"files[{index}]: nothing matches '{entry.path}' in {folder.absolute()}")
        for file in found:
            if file.suffix not in (".npz", ".parquet"):
                raise UserError(f"files[{index}]: {file} is neither .npz nor .parquet")
            if file in out:
                raise UserError(f"files[{index}]: {file} is named twice")
            out[file] = entry
    return tuple(sorted(out.items()))


def _split_values(value: list[int] | list[str] | str, column: str, folder: Path, where: str) -> frozenset[Any]:
    if isinstance(value, str):
        file = folder / value
        try:
            found: list[Any] = read_raw(file).decode("utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{where}: '{value}' must be a list or a readable text file: {error}") from error
        found = [line.strip() for line in found if line.strip()]
        if column != "id":
            wrong = [line for line in found if not line.lstrip("-").isdigit()]
            if wrong:
                raise UserError(f"{where}: {file}: '{wrong[0]}' is not a whole number, as column '{column}' needs")
            found = [int(line) for line in found]
    else:
        found = list(value)
        kind: type = str if column == "id" else int
        for item in found:
            if not isinstance(item, kind):
                raise UserError(
                    f"{where}: {item!r} does not fit column '{column}', which holds "
                    + ("ids (text)" if column == "id" else "whole numbers")
                )
    return frozenset(found)


class _Clip(NamedTuple):
    """One clip as its file has it; None where the file says nothing."""

    values: Any
    id: Any
    label: Any
    numbers: Mapping[str, Any]
    confidence: Any = None


class Read(NamedTuple):
    """A clip that can be used, and what was done about its joints that were not detected."""

    record: Record
    detection: Detection


class _BadClipError(Exception):
    """A clip, or a whole file, that cannot be used."""


def read_clips(dataset: CustomDataset, file: Path, entry: FileEntry) -> Iterator[Read | BadFile]:
    """Yield a file's clips in order, and in their place what is wrong with those that cannot be used."""
    name = str(file)
    try:
        check_regular(file)
        for index, clip in enumerate(_read_npz(file) if file.suffix == ".npz" else _read_parquet(file)):
            where = name if clip is None or clip.id is None else f"{name} ({clip.id})"
            try:
                yield _read(dataset, file, entry, index, clip)
            except _BadClipError as error:
                yield BadFile(where, str(error))
    except _BadClipError as error:
        yield BadFile(name, str(error))
    except (*NPZ_ERRORS, pa.ArrowInvalid) as error:
        # NumPy's own text on pickled content advises to load it unsafely.
        pickled = "pickle" in str(error)
        yield BadFile(name, f"unreadable: {'not numbers (pickled objects are never read)' if pickled else error}")


def _unknown(fields: Sequence[str], allowed: Sequence[str], what: str) -> None:
    for field in fields:
        if field not in allowed:
            raise _BadClipError(f"unknown {what}: '{field}'{nearest(field, allowed)}; allowed: {', '.join(allowed)}")
    if "values" not in fields:
        raise _BadClipError(f"missing {what}: 'values'")


def _read_npz(file: Path) -> Iterator[_Clip]:
    with file.open("rb") as stream:
        archive = np.load(stream, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise _BadClipError("unreadable: not an .npz archive")
        with archive:
            _unknown(archive.files, _NPZ_FIELDS, "array")
            arrays = {name: archive[name] for name in archive.files}
    values = arrays.pop("values")
    confidence = arrays.pop("confidence", None)
    lengths = arrays.pop("lengths", None)
    if lengths is None:
        single = {name: _scalar(name, array) for name, array in arrays.items()}
        yield _Clip(values, single.get("id"), single.get("label"), {n: single.get(n) for n in _NUMBERS}, confidence)
        return
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 1).any() or lengths.sum() != len(values):
        raise _BadClipError(
            "wrong lengths: array 'lengths' must hold frames per clip, whole numbers above 0 that add up to the "
            f"{len(values)} frames"
        )
    if confidence is not None and len(confidence) != len(values):
        raise _BadClipError(f"wrong shape: array 'confidence' has {len(confidence)} frames for {len(values)}")
    for name, array in arrays.items():
        if array.shape != lengths.shape:
            raise _BadClipError(
                f"wrong shape: array '{name}' has shape {array.shape}; one entry per clip, {lengths.shape}, is needed"
            )
    start = 0
    for row, length in enumerate(lengths.tolist()):
        one = {name: array[row].item() for name, array in arrays.items()}
        part = slice(start, start + length)
        yield _Clip(
            values[part],
            one.get("id", row),
            one.get("label"),
            {n: one.get(n) for n in _NUMBERS},
            None if confidence is None else confidence[part],
        )
        start += length


def _scalar(name: str, array: NDArray[Any]) -> Any:
    if array.size != 1:
        raise _BadClipError(
            f"wrong shape: array '{name}' has {array.size} entries; give one, or 'lengths' for several clips per file"
        )
    return array.reshape(-1)[0].item()


def _read_parquet(file: Path) -> Iterator[_Clip]:
    with pq.ParquetFile(file) as source:
        _unknown(source.schema_arrow.names, _PARQUET_FIELDS, "column")
        row = 0
        for batch in source.iter_batches(batch_size=_ROWS_AT_ONCE):
            values = batch.column("values")
            sure = batch.column("confidence") if "confidence" in batch.schema.names else None
            rest = batch.drop_columns(["values"] if sure is None else ["values", "confidence"]).to_pylist()
            for index, one in enumerate(rest if rest else [{}] * len(batch)):
                persons = one.get("persons")
                clip: Any
                confidence = None
                try:
                    clip = _array(values[index])
                    confidence = None if sure is None or not sure[index].is_valid else _array(sure[index])
                except _BadClipError as error:
                    clip = error  # raised where the clip is looked at, so that the others are still read
                else:
                    clip = _Flat(clip, 1 if persons is None else persons) if clip.ndim == 1 else clip
                yield _Clip(clip, one.get("id", row), one.get("label"), {n: one.get(n) for n in _NUMBERS}, confidence)
                row += 1


def _array(cell: Any) -> NDArray[Any]:
    """Return a (nested) list cell of a Parquet file as an array; an empty one if it is ragged or holds nulls."""
    ragged = np.zeros((0, 0, 0))
    if not _is_list(cell.type):
        raise _BadClipError(
            f"non-numeric: a column of coordinates or confidences is of type {cell.type}; lists of numbers are needed"
        )
    values = cell.values
    if values is None:
        raise _BadClipError("empty: values are null")
    shape = [len(values)]
    while _is_list(values.type):
        if values.null_count:
            return ragged
        sizes = np.unique(pc.list_value_length(values).to_numpy(zero_copy_only=False))
        if len(sizes) != 1:
            return ragged
        shape.append(int(sizes[0]))
        values = values.flatten()
    if values.null_count:
        raise _BadClipError("empty: values have null entries")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)


class _Flat(NamedTuple):
    """Values in one row, to be cut into frames x persons x joints x 3."""

    values: NDArray[Any]
    persons: Any


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _read(dataset: CustomDataset, file: Path, entry: FileEntry, index: int, clip: _Clip) -> Read:
    x = _shape(clip.values, dataset)
    values, detection = _settle(x, _confidence(clip.confidence, x), dataset)
    numbers = {}
    for name in _NUMBERS:
        value = clip.numbers[name] if clip.numbers[name] is not None else getattr(entry, name)
        if value is None:
            value = 0
        if not isinstance(value, int) or not -(2**31) <= value < 2**31:
            raise _BadClipError(f"wrong {name}: {value!r}; a whole number is needed")
        numbers[name] = value
    label = clip.label if clip.label is not None else entry.label
    clip_id = file.stem if clip.id is None else f"{file.stem}-{index:06d}" if isinstance(clip.id, int) else clip.id
    if not isinstance(clip_id, str) or not clip_id:
        raise _BadClipError(f"wrong id: {clip_id!r}; a text is needed")
    return Read(Record(id=clip_id, label=_label(label, dataset.classes), values=values, **numbers), detection)


def _label(label: Any, classes: Sequence[str]) -> int:
    if label is None:
        raise _BadClipError("missing label: give it in the file, or with the file in the description")
    if isinstance(label, str):
        if label not in classes:
            raise _BadClipError(
                f"wrong label: '{label}' is not a class{nearest(label, classes)}; allowed: {', '.join(classes)}"
            )
        return classes.index(label)
    if not isinstance(label, int) or not 0 <= label < len(classes):
        raise _BadClipError(f"wrong label: {label!r}; allowed are 0 to {len(classes) - 1}, or a class name")
    return label


def _shape(values: Any, dataset: CustomDataset) -> FloatArray:
    """Return (F, M, V, 3) float32, as the file has them; NaN where a coordinate is NaN."""
    joints = dataset.skeleton.num_joints
    if isinstance(values, _BadClipError):
        raise values
    if isinstance(values, _Flat):
        flat, persons = values
        if not isinstance(persons, int) or not 1 <= persons <= dataset.persons:
            raise _BadClipError(f"wrong persons: {persons!r}; allowed are 1 to {dataset.persons}")
        if len(flat) == 0 or len(flat) % (persons * joints * 3):
            raise _BadClipError(
                f"wrong shape: {len(flat)} values, not a multiple of {persons} persons x {joints} joints x 3 numbers"
            )
        values = flat.reshape(-1, persons, joints, 3)  # a flat row does not say whether it has two coordinates
    if values.dtype.kind not in "fiu":
        raise _BadClipError(f"non-numeric: values are of type {values.dtype}; numbers are needed")
    shape = values.shape
    if values.ndim == 3:
        values = values[:, None]
    if values.ndim != 4 or values.shape[2:] not in ((joints, 3), (joints, 2)) or len(values) == 0:
        raise _BadClipError(
            f"wrong shape: values have shape {shape}; (frames, {joints}, 3) or (frames, persons, {joints}, 3) is"
            " needed, with 2 in place of 3 for two-dimensional data"
        )
    if values.shape[1] > dataset.persons:
        raise _BadClipError(f"too many persons: {values.shape[1]} persons; the description allows {dataset.persons}")
    with np.errstate(over="ignore"):
        x = values.astype(np.float32)
    if x.shape[-1] == 2:
        x = np.concatenate([x, np.where(np.isnan(x[..., :1]), np.float32(np.nan), np.float32(0.0))], axis=-1)
    far = np.abs(x) > FARTHEST
    if far.any():
        where = np.argwhere(far)[0]
        raise _BadClipError(
            f"out of range: {values[tuple(np.minimum(where, np.array(values.shape) - 1))]:g} in frame {where[0]}, joint"
            f" '{dataset.skeleton.joint_names[where[2]]}' ({np.count_nonzero(far)} such); coordinates up to"
            f" {FARTHEST:g} are accepted"
        )
    return np.asarray(x)


def _confidence(value: Any, x: FloatArray) -> NDArray[Any] | None:
    """Return (F, M, V) confidences of joints, or None where the file has none."""
    if value is None:
        return None
    if value.dtype.kind not in "fiu" or np.isnan(value).any() or (value < 0).any():
        raise _BadClipError("wrong confidence: numbers from 0 are needed")
    confidence: NDArray[Any] = value[:, None] if value.ndim == 2 else value
    if value.ndim == 1 and value.size == x[..., 0].size:
        confidence = value.reshape(x.shape[:3])
    if confidence.shape != x.shape[:3]:
        raise _BadClipError(
            f"wrong shape: array 'confidence' has shape {value.shape}; one number per joint, {x.shape[:3]}, is needed"
        )
    return confidence


def _settle(x: FloatArray, confidence: NDArray[Any] | None, dataset: CustomDataset) -> tuple[FloatArray, Detection]:
    """Return the clip with undetected joints as NaN (or filled), moved to its origin, and what was found.

    Args:
        x: (F, M, V, 3) as the file has them.
        confidence: (F, M, V) or None.
        dataset: the description.
    """
    try:
        found = detect(
            x,
            marks=dataset.undetected,
            origin=dataset.skeleton.origin,
            confidence=confidence,
            interpolate=dataset.interpolate,
            translate=dataset.translate,
        )
    except NobodyThere:
        raise _BadClipError("no body: not one joint of the first person was detected") from None
    return found.values, found.detection


class _Columns:
    """The columns of the records read, as split rules see them."""

    def __init__(self, records: Mapping[str, Record]) -> None:
        self._records = list(records.values())

    @property
    def ids(self) -> list[str]:
        return [record.id for record in self._records]

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.column("label")

    def column(self, name: str) -> NDArray[np.int64]:
        return np.array([getattr(record, name) for record in self._records], dtype=np.int64)


def read_new_clips(path: Path, like: Manifest) -> Iterator[Clip]:
    """Read clips as a description's files hold them, see ``stdcl.data.clips.ReadClips``; labels are not needed."""
    source = like.source
    dataset = CustomDataset(
        name=like.dataset,
        skeleton=like.skeleton,
        classes=like.classes,
        persons=like.max_persons,
        absent_person=like.absent_person,
        translate=bool(source.get("translate", like.centred)),
        undetected=tuple(source.get("undetected", ("zeros", "minus-ones"))),
        interpolate=source.get("missing") == "interpolate",
        files=(),
        rules={},
        notes=(),
    )
    for read in read_clips(dataset, path, FileEntry(path=str(path), label=0)):
        if isinstance(read, BadFile):
            raise UserError(f"{read.name}: {read.reason}")
        yield Clip(read.record.id, read.record.values, like.skeleton.name)


def prepare(dataset: str, out: Path, *, spec: Path | None = None, force: bool, progress: Progress) -> Prepared:
    """Prepare a dataset of one's own, see ``stdcl.data.prepare.Prepare``."""
    if spec is None:
        raise UserError(f"stdcl data prepare {dataset}: --spec FILE.yaml is missing")
    return prepare_custom(spec, out, force=force, progress=progress)


def prepare_custom(spec: Path, out: Path, *, force: bool = False, progress: Progress = silent) -> Prepared:
    """Prepare the dataset that a description names.

    Args:
        spec: the description, YAML.
        out: folder of the store.
        force: replace another store at ``out``.
        progress: told of each file.

    Raises:
        UserError: the description is faulty, a split leaves a part empty, or the destination is taken.
        BadFilesError: clips that cannot be used, all of them by name; nothing was written.
    """
    begun = time.monotonic()
    dataset = load_spec(spec)
    check_destination(out)
    empty = np.zeros((0, 1, 1, 3), dtype=np.float32)
    seen: dict[str, Record] = {}
    origin: dict[str, str] = {}
    digests: dict[str, bytes] = {}
    bad: list[BadFile] = []
    tally = Tally(dataset.skeleton.joint_names)
    for done, (file, entry) in enumerate(dataset.files, 1):
        for read in read_clips(dataset, file, entry):
            if isinstance(read, BadFile):
                bad.append(read)
                continue
            record = read.record
            tally.add(read.detection)
            if record.id in seen:
                bad.append(BadFile(f"{file} ({record.id})", f"duplicate: the id is also in {origin[record.id]}"))
            else:
                seen[record.id] = record._replace(values=empty)
                origin[record.id] = str(file)
                digests[record.id] = sequence_digest(record)
        progress("checking", done, len(dataset.files))
    if bad:
        raise BadFilesError(spec, bad)
    notes = [
        *dataset.notes,
        *tally.notes(dataset.skeleton.origin, dataset.interpolate),
        *_check_splits(dataset, _Columns(seen), str(spec)),
    ]
    expected = content_hash(
        digests.items(),
        dataset=dataset.name,
        classes=dataset.classes,
        skeleton=dataset.skeleton,
        max_persons=dataset.persons,
        absent_person=dataset.absent_person,
        protocols=dataset.rules,
    )
    action = decide_action(out, expected, force=force)
    if action == "unchanged":
        return Prepared(out, read_manifest(out), action, time.monotonic() - begun, tuple(notes))
    with StoreWriter(
        out,
        dataset=dataset.name,
        skeleton=dataset.skeleton,
        classes=dataset.classes,
        source={
            "format": "custom",
            "spec": str(spec.absolute()),
            "files": len(dataset.files),
            "translate": dataset.translate,
            "undetected": list(dataset.undetected),
            "missing": "interpolate" if dataset.interpolate else "keep",
        },
        max_persons=dataset.persons,
        absent_person=dataset.absent_person,
        protocols=dataset.rules,
        gaps=True,
    ) as writer:
        for done, (file, entry) in enumerate(dataset.files, 1):
            for read in read_clips(dataset, file, entry):
                if isinstance(read, BadFile):
                    raise UserError(f"{read.name}: changed while it was being prepared; run again")
                if sequence_digest(read.record) != digests.get(read.record.id):
                    raise UserError(f"{file}: changed while it was being prepared; run again")
                writer.add(read.record)
            progress("writing", done, len(dataset.files))
    return Prepared(out, writer.manifest, action, time.monotonic() - begun, tuple(notes))


def _check_splits(dataset: CustomDataset, columns: _Columns, where: str) -> list[str]:
    """Refuse splits with an empty part or unknown values; return notes on classes without sequences."""
    notes = []
    for name, rule in dataset.rules.items():
        known = set(columns.ids) if rule.column == "id" else set(columns.column(rule.column).tolist())
        for part, values in (("train", rule.train), ("test", rule.test or frozenset())):
            absent = sorted(values - known)
            if absent:
                raise UserError(
                    f"{where}: splits.{name}.{part}: no clip has {rule.column} {absent[0]!r}"
                    + (f" (nor {len(absent) - 1} others)" if len(absent) > 1 else "")
                    + nearest(str(absent[0]), [str(value) for value in known])
                )
        counts = class_counts(columns, rule, len(dataset.classes))
        for part, per_class in counts.items():
            if not sum(per_class):
                raise UserError(f"{where}: splits.{name}: the {part} part is empty")
            without = [dataset.classes[label] for label, count in enumerate(per_class) if not count]
            if without:
                notes.append(f"{name}: no {part} sequence of {', '.join(without[:10])}")
        left = len(columns.ids) - sum(map(sum, counts.values()))
        if left:
            notes.append(f"{name}: {left} sequences are in neither part")
    return notes
