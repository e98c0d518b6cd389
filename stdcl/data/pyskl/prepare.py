"""Annotation pickles of PYSKL and MMAction2 as a store.

The pickle holds ``annotations``, a list of dictionaries with ``frame_dir`` (the clip's name), ``label``,
``total_frames`` and ``keypoint`` (persons x frames x joints x 2 or 3), with ``keypoint_score`` (persons x frames x
joints) in the plane; and ``split``, lists of names such as ``xsub_train`` and ``xsub_val``. The store holds the numbers
as they are: clips are moved to their origin when they are read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stdcl.data.augment import to_origin
from stdcl.data.foreign import SKELETONS, class_names, one_file, store_name, write_store
from stdcl.data.missing import missing
from stdcl.data.ntu.raw import RawFileError, parse_name
from stdcl.data.plain_pickle import read_plain_pickle
from stdcl.data.prepare import BadFile, BadFilesError, Prepared, Progress
from stdcl.data.protocols import SplitRule
from stdcl.data.raw_file import FARTHEST
from stdcl.data.store import Clip, Manifest, Record
from stdcl.errors import UserError, nearest
from stdcl.skeleton import NTU

Scores = Literal["drop", "keep"]
MEMORY = 2.5
"""Memory that preparing takes, as a multiple of the file's size (measured: 2.1 for pickle protocol 2, 1.3 for 4)."""

MOST_CLASSES = 1 << 16
"""More cannot be meant: every label up to the largest is a class with a name and a row of the classifier."""

HEIGHT = 1.7
"""What poses in pixels are scaled to: the mean over clips of a body's larger extent in its first frame."""

_LOG = logging.getLogger("stdcl.data")


class _BadClipError(Exception):
    """An annotation that cannot be used."""


def prepare(
    dataset: str,
    out: Path,
    *,
    raw: Sequence[Path] = (),
    classes: Path | None = None,
    scores: str | None = None,
    force: bool,
    progress: Progress,
) -> Prepared:
    """Prepare an annotation pickle, see ``stdcl.data.prepare.Prepare``."""
    if scores is not None and scores not in get_args(Scores):
        raise UserError(f"--scores {scores}{nearest(scores, get_args(Scores))}; allowed: {', '.join(get_args(Scores))}")
    file = one_file(dataset, raw, ".pkl")
    size = file.stat().st_size
    _LOG.info("%s: %.1f MB; reading it takes up to %.1f MB of memory", file, size / 1e6, MEMORY * size / 1e6)
    with file.open("rb") as stream:
        content = read_plain_pickle(stream, str(file))
    annotations, split = _parts(content, file)
    keep = scores == "keep"
    bad: list[BadFile] = []
    faults: dict[int, str] = {}
    seen: dict[str, int] = {}
    extents: list[float] = []
    images: set[tuple[int, int] | None] = set()
    persons = label = joints = gone = points = flat = scored = 0
    for index, annotation in enumerate(annotations):
        try:
            record = _record(annotation, keep)
            if record.id in seen:
                raise _BadClipError(f"duplicate: the name is also that of annotation {seen[record.id]}")
            if joints not in (0, record.values.shape[2]):
                raise _BadClipError(f"wrong joint count: {record.values.shape[2]} joints, others have {joints}")
        except _BadClipError as error:
            faults[index] = str(error)
            bad.append(BadFile(f"annotation {index}{_name_of(annotation)}", str(error)))
            continue
        seen[record.id] = index
        joints = record.values.shape[2]
        flat += np.shape(annotation["keypoint"])[-1] == 2
        scored += "keypoint_score" in annotation
        images.add(_image(annotation))
        extents.append(_extent(record.values))
        persons, label = max(persons, record.values.shape[1]), max(label, record.label)
        there = record.values.any(axis=(2, 3))
        gone += int(np.count_nonzero(missing(record.values)))
        points += int(np.count_nonzero(there)) * joints
    if not bad and flat not in (0, len(annotations)):
        bad = [BadFile(str(file), f"mixed: {flat} of {len(annotations)} annotations are two-dimensional")]
    if bad:
        raise BadFilesError(file, bad)
    if keep and not flat:
        raise UserError("--scores keep: these poses have three coordinates; there is no room for a score")
    skeleton = SKELETONS.get(joints)
    if skeleton is None:
        known = ", ".join(f"{number} ({each.name})" for number, each in SKELETONS.items())
        raise UserError(f"--raw {file}: {joints} joints; known are {known}. `stdcl data prepare custom` reads any")
    protocols, names, remarks = _protocols(split, seen, file)
    titles, naming = class_names(label + 1, classes)
    notes = [*remarks, *naming]
    if scored and not keep:
        notes.append("the detector's scores are not kept; `--scores keep` keeps them as third number of a joint")
    image = images.pop() if len(images) == 1 else None
    if images:
        notes.append("the pictures' sizes (img_shape) differ and are not kept; `stdcl data export` writes none")
    if gone:
        notes.append(
            f"not detected: {gone:,} of {points:,} joints ({gone / points:.2%}), by a score of 0; they stay missing"
        )
    return write_store(
        out,
        lambda: (_record(annotation, keep) for annotation in annotations),
        dataset=store_name(file),
        skeleton=skeleton,
        classes=titles,
        max_persons=persons,
        protocols=protocols,
        source={
            "format": "pyskl",
            "file": str(file.absolute()),
            "split": names,
            "dimensions": 2 if flat else 3,
            **({"image": list(image)} if image else {}),
            "dtype": str(np.asarray(annotations[0]["keypoint"]).dtype),
        },
        notes=lambda: notes,
        force=force,
        progress=progress,
        total=len(annotations),
        centred=False,
        scale=HEIGHT / max(float(np.mean(extents)), 1e-6) if flat else 1.0,
        third="score" if keep else "coordinate",
    )


def read_clips(path: Path, like: Manifest) -> Iterator[Clip]:
    """Read the clips of an annotation pickle, see ``stdcl.data.clips.ReadClips``; labels are not needed."""
    with path.open("rb") as stream:
        content = read_plain_pickle(stream, str(path))
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(annotations, list | tuple):
        raise UserError(f"{path}: not an annotation file of PYSKL ('annotations' is needed)")
    dimensions = 2 if like.third == "score" else int(like.source.get("dimensions", 3))
    for index, annotation in enumerate(annotations):
        try:
            labelled = {"label": 0, **annotation} if isinstance(annotation, Mapping) else annotation
            record = _record(labelled, like.third == "score")
            skeleton = SKELETONS.get(record.values.shape[2])
            values, found = record.values, np.shape(annotation["keypoint"])[-1]
            if skeleton == like.skeleton and found != dimensions:
                raise _BadClipError(f"joints have {found} coordinates; the network was trained on {dimensions}")
        except _BadClipError as error:
            raise UserError(f"{path}: annotation {index}{_name_of(annotation)}: {error}") from None
        if skeleton == like.skeleton and like.centred:
            values = to_origin(values, skeleton.origin)
        yield Clip(record.id, values, skeleton.name if skeleton else f"{record.values.shape[2]} joints")


def _parts(content: Any, file: Path) -> tuple[list[Any], dict[str, list[str]]]:
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list | tuple):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise UserError(
            f"{file}: not an annotation file of PYSKL (lists 'annotations' and 'split' are needed; it has: {found})"
        )
    split = content.get("split")
    if not isinstance(split, dict) or not split:
        raise UserError(f"{file}: 'split' is missing: lists of names, such as xsub_train and xsub_val")
    if not content["annotations"]:
        raise UserError(f"{file}: no annotation in it")
    for name, ids in split.items():
        listed = isinstance(ids, list | tuple | set | frozenset) or (isinstance(ids, np.ndarray) and ids.ndim == 1)
        if not listed or not all(isinstance(each, str) for each in ids):
            raise UserError(f"{file}: split '{name}' is not a list of names (frame_dir of annotations)")
    return list(content["annotations"]), {str(name): [str(each) for each in ids] for name, ids in split.items()}


def _name_of(annotation: Any) -> str:
    name = annotation.get("frame_dir") if isinstance(annotation, Mapping) else None
    return f" ({name})" if isinstance(name, str) else ""


def _record(annotation: Any, keep_scores: bool) -> Record:
    """Return one annotation as a sequence; joints with a score of 0 are missing."""
    if not isinstance(annotation, Mapping):
        raise _BadClipError("wrong content: an annotation is a dictionary")
    for key in ("frame_dir", "label", "keypoint"):
        if key not in annotation:
            raise _BadClipError(f"missing key: there is no '{key}'")
    name, label = annotation["frame_dir"], annotation["label"]
    if not isinstance(name, str) or not name:
        raise _BadClipError("wrong name: frame_dir must be a text")
    if not isinstance(label, int) or not 0 <= label < MOST_CLASSES:
        raise _BadClipError(f"wrong label: {label!r}; a whole number from 0 to {MOST_CLASSES - 1} is needed")
    values = annotation["keypoint"]
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise _BadClipError("non-numeric: keypoint must be an array of numbers")
    if values.ndim != 4 or values.shape[3] not in (2, 3) or 0 in values.shape:
        raise _BadClipError(f"wrong shape: keypoint is {values.shape}; persons x frames x joints x 2 or 3 is needed")
    frames = annotation.get("total_frames", values.shape[1])
    if frames != values.shape[1]:
        raise _BadClipError(f"wrong length: {values.shape[1]} frames, but total_frames is {frames}")
    with np.errstate(over="ignore"):  # infinite then: missing in the plane, refused in space
        x = values.astype(np.float32).transpose(1, 0, 2, 3)
    if x.shape[3] == 2:
        score = _scores(annotation.get("keypoint_score"), values.shape[:3])
        absent = score == 0
        third = score if keep_scores else np.zeros_like(score)
        x = np.concatenate([x, third[..., None]], axis=-1)
        absent |= ~np.isfinite(x[..., :2]).all(axis=-1)
        x[absent] = np.nan
        nobody = absent.all(axis=2)
        x[nobody] = 0.0
    there = x.any(axis=(2, 3))
    if not np.isfinite(x[~missing(x)]).all() or (x.shape[3] == 3 and values.shape[3] == 3 and np.isnan(x).any()):
        raise _BadClipError("not finite: keypoint holds values that are no numbers")
    if (np.abs(x) > FARTHEST).any():
        raise _BadClipError(f"out of range: coordinates up to {FARTHEST:g} are accepted")
    if not there.any():
        raise _BadClipError("no body: nobody was detected in any frame")
    last = int(np.flatnonzero(there.any(axis=0))[-1])
    numbers = _numbers(name) if x.shape[2] in (NTU.num_joints, 17) else {}
    return Record(id=name, label=label, values=np.ascontiguousarray(x[:, : last + 1]), **numbers)


def _image(annotation: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return height and width of the picture in which the poses were found, where the annotation says them."""
    match annotation.get("img_shape"):
        case (int(height), int(width)):
            return height, width
        case _:
            return None


def _extent(x: NDArray[np.float32]) -> float:
    """Return the larger extent, in the first two coordinates, of the first person in its first frame."""
    frame, person = np.argwhere(np.any(x, axis=(2, 3)))[0]
    body = x[frame, person, :, :2]
    return float((np.nanmax(body, axis=0) - np.nanmin(body, axis=0)).max())


def _scores(score: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if score is None:
        return np.ones((shape[1], shape[0], shape[2]), dtype=np.float32)
    if not isinstance(score, np.ndarray) or score.dtype.kind not in "fiu" or score.shape != shape:
        raise _BadClipError(f"wrong shape: keypoint_score must be an array of {shape}")
    if not np.isfinite(score).all() or (score < 0).any():
        raise _BadClipError("wrong score: numbers from 0 are needed")
    return np.asarray(score, dtype=np.float32).transpose(1, 0, 2)


def _numbers(name: str) -> dict[str, int]:
    """Return subject, view, setup and replication of a clip that is named as NTU's are."""
    try:
        known = parse_name(name)
    except RawFileError:
        return {}
    return {
        "subject": known.performer,
        "view": known.camera,
        "setup": known.setup,
        "replication": known.replication,
    }


def _protocols(
    split: Mapping[str, Sequence[str]], known: Mapping[str, int], file: Path
) -> tuple[dict[str, SplitRule], dict[str, list[str]], list[str]]:
    """Pair lists such as ``xsub_train`` and ``xsub_val``; return rules, the lists' names by protocol, and notes."""
    rules: dict[str, SplitRule] = {}
    names: dict[str, list[str]] = {}
    notes = []
    for train in split:
        if "train" not in train:
            continue
        base = train.replace("train", "").strip("_-")
        others = [other for word in ("val", "test") if (other := train.replace("train", word)) in split]
        for other in others:
            protocol = f"split{base}" if not base or base.isdigit() else base
            protocol += f"-{other.replace(base, '').strip('_-')}" if protocol in rules else ""
            parts = [frozenset(split[name]) & known.keys() for name in (train, other)]
            if both := sorted(parts[0] & parts[1]):
                raise UserError(f"{file}: {len(both)} names are in both '{train}' and '{other}', such as '{both[0]}'")
            for name, part in zip((train, other), parts, strict=True):
                if not part:
                    raise UserError(f"{file}: split '{name}' names no annotation of this file")
                if len(part) < len(set(split[name])):
                    notes.append(f"{name}: {len(set(split[name])) - len(part):,} names have no annotation")
            rules[protocol] = SplitRule("id", parts[0], parts[1])
            names[protocol] = [train, other]
    if not rules:
        raise UserError(
            f"{file}: no pair of a training and a test list in 'split' (it has {', '.join(split)});"
            " NAME_train goes with NAME_val or NAME_test"
        )
    return rules, names, notes
