"""Per-sequence scores of one trained encoder on one split, in one Parquet file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stdcl.atomic import staging_file
from stdcl.config.contrast import long_keys
from stdcl.errors import UserError
from stdcl.results.layout import RunFolder, what_else
from stdcl.results.metadata import facts_of, with_facts

SCHEMA_VERSION = 2

_COLUMNS = pa.schema([("id", pa.string()), ("label", pa.int64()), ("logits", pa.list_(pa.float32()))])
_OPTIONAL = ("subject", "copy")
_PREFIX = "stdcl.scores."
_FACTS = ("dataset", "protocol", "evaluated_on", "data_hash", "stream", "encoder", "run")
# Since version 2; a file of version 1 has the defaults.
_LATER = ("seed", "arm", "fingerprint", "code_version", "checkpoint", "classes", "settings")


@dataclass(frozen=True)
class Scores:
    """Logits of N sequences over K classes, with what they are scores of.

    Attributes:
        ids: the sequences' ids, (N,) strings, unique.
        labels: true class indices, (N,) int64.
        logits: raw scores before any softmax, (N, K) float32 or, as a training writes them, float16.
        dataset, protocol, evaluated_on: which sequences: data set, split, and ``test`` or ``validation``.
        data_hash: content hash of the store that they were read from.
        stream, encoder: what was trained.
        run: where the scores come from, for messages.
        subjects: (N,) int64 person of each sequence; None where the data name none.
        copies: (N,) bool, whether a sequence is an exact copy of a training sequence; None where that is not known.
        seed: of the training; None where it is not known.
        arm: the contrast's strategy, ``none`` for a training without; empty where it is not known.
        fingerprint, code_version: of the training; empty where they are not known.
        checkpoint: name of the checkpoint that was scored; empty for a training's own last evaluation.
        classes: K class names; empty where they are not known.
        settings: dotted key -> value of the configuration, of what can change a result; empty where it is not known.
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    dataset: str
    protocol: str
    data_hash: str
    stream: str
    encoder: str
    evaluated_on: str = "test"
    run: str = ""
    subjects: np.ndarray | None = None
    copies: np.ndarray | None = None
    seed: int | None = None
    arm: str = ""
    fingerprint: str = ""
    code_version: str = ""
    checkpoint: str = ""
    classes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.ids)
        where = self.run or "scores"
        if self.labels.shape != (n,) or self.logits.ndim != 2 or len(self.logits) != n:
            raise ValueError(
                f"{where}: {n} ids, labels of shape {self.labels.shape}, logits of shape {self.logits.shape}; "
                "expected (N,), (N,) and (N, K)"
            )
        if n == 0:
            raise ValueError(f"{where}: no sequence")
        unique, counts = np.unique(self.ids, return_counts=True)
        if len(unique) != n:
            repeated = ", ".join(str(each) for each in unique[counts > 1][:5])
            raise ValueError(f"{where}: sequences occur more than once: {repeated}")
        classes = self.logits.shape[1]
        if self.labels.min() < 0 or self.labels.max() >= classes:
            raise ValueError(f"{where}: labels {self.labels.min()} to {self.labels.max()}, but {classes} classes")
        if self.classes and len(self.classes) != classes:
            raise ValueError(f"{where}: {len(self.classes)} class names, but {classes} classes")
        odd = ~np.isfinite(self.logits).all(axis=1)
        if odd.any():
            named = ", ".join(str(each) for each in self.ids[odd][:5])
            raise ValueError(f"{where}: {int(odd.sum())} of {n} sequences have scores that are not finite: {named}")
        for name in ("subjects", "copies"):
            column = getattr(self, name)
            if column is not None and column.shape != (n,):
                raise ValueError(f"{where}: {name} of shape {column.shape}; expected ({n},)")

    @property
    def correct(self) -> np.ndarray:
        """(N,) bool: whether the highest score is the true class's (of equal scores the first class counts)."""
        return np.asarray(self.logits.argmax(axis=1) == self.labels)

    @property
    def accuracy(self) -> float:
        """Share of sequences that are classified rightly."""
        return float(self.correct.mean())

    @property
    def accuracy_without_copies(self) -> tuple[float, int] | None:
        """The same over the sequences that are no copies of training sequences, with their number.

        None where copies are not known, there are none, or nothing else is there.
        """
        if self.copies is None or not self.copies.any() or self.copies.all():
            return None
        kept = self.correct[~self.copies]
        return float(kept.mean()), len(kept)


def per_class_accuracy(scores: Scores) -> np.ndarray:
    """(K,) float64: share of each class's sequences that are classified rightly; NaN for a class without any."""
    classes = scores.logits.shape[1]
    totals = np.bincount(scores.labels, minlength=classes)
    hits = np.bincount(scores.labels[scores.correct], minlength=classes)
    with np.errstate(invalid="ignore"):
        return np.asarray(hits / totals)


def in_half_precision(scores: Scores) -> Scores:
    """The same with float16 logits and the same classifications.

    Where rounding makes another class the highest or an equal one, the highest is raised to the next number. Logits
    beyond float16's range stay as they are.
    """
    logits = np.asarray(scores.logits)
    with np.errstate(over="ignore"):
        half = logits.astype(np.float16)
    if not np.isfinite(half).all():
        return scores
    rows = np.arange(len(half))
    said = logits.argmax(axis=1)
    rest = half.copy()
    rest[rows, said] = -np.inf
    highest = rest.max(axis=1)
    close = half[rows, said] <= highest
    with np.errstate(over="ignore"):
        raised = np.nextafter(highest[close], np.float16(np.inf))
    if not np.isfinite(raised).all():
        return scores
    half[rows[close], said[close]] = raised
    return replace(scores, logits=half)


def write_scores(path: Path, scores: Scores) -> None:
    """Write ``path`` atomically: a row per sequence, the facts in the schema's metadata."""
    half = scores.logits.dtype == np.float16
    kind = pa.float16() if half else pa.float32()
    n, classes = scores.logits.shape
    values = pa.array(np.ascontiguousarray(scores.logits, np.float16 if half else np.float32).reshape(-1), kind)
    offsets = pa.array(np.arange(0, (n + 1) * classes, classes, dtype=np.int32))
    columns = {
        "id": pa.array([str(each) for each in scores.ids], pa.string()),
        "label": pa.array(scores.labels.astype(np.int64)),
        "logits": pa.ListArray.from_arrays(offsets, values),
        "right": pa.array(scores.correct),
    }
    if scores.subjects is not None:
        columns["subject"] = pa.array(scores.subjects.astype(np.int64))
    if scores.copies is not None:
        columns["copy"] = pa.array(scores.copies.astype(bool))
    facts = {"version": str(SCHEMA_VERSION)} | {name: str(getattr(scores, name)) for name in _FACTS}
    later = {name: getattr(scores, name) for name in _LATER}
    later["settings"] = dict(scores.settings)
    facts |= {name: json.dumps(value, sort_keys=True, ensure_ascii=False) for name, value in later.items()}
    with staging_file(path) as part:
        pq.write_table(with_facts(pa.table(columns), _PREFIX, facts), part, write_page_checksum=True)


def read_run(path: Path) -> Scores:
    """Read the scores of a run's folder, or a file of scores."""
    if not path.is_dir():
        return read_scores(path)
    file = RunFolder(path).scores()
    if not file.exists() and (other := what_else(path, "run")):
        raise UserError(f"{path}: {other}")
    return read_scores(file)


def read_runs(paths: Sequence[Path]) -> list[Scores]:
    """Read several runs as ``read_run``; where two have the same name, their paths tell them apart."""
    runs = [read_run(path) for path in paths]
    names = [run.run for run in runs]
    return [
        replace(run, run=str(path)) if names.count(run.run) > 1 else run for run, path in zip(runs, paths, strict=True)
    ]


@dataclass(frozen=True)
class Answers:
    """Which of N sequences a run classifies rightly: all that statistics need of its scores.

    Attributes:
        ids: (N,) sequence ids, in ascending order.
        right: (N,) bool.
        subjects, copies: (N,) as in :class:`Scores`, or None.
        fingerprint, data_hash: of the training and its data; the fingerprint is empty where it is not known.
    """

    ids: np.ndarray
    right: np.ndarray
    subjects: np.ndarray | None
    copies: np.ndarray | None
    fingerprint: str
    data_hash: str

    @property
    def accuracy(self) -> float:
        """Share of sequences that are classified rightly."""
        return float(self.right.mean())


def read_answers(path: Path) -> Answers:
    """Read which sequences are right, without the logits where the file says it; raises as ``read_scores``."""
    wanted = ("id", "right", *_OPTIONAL)
    try:
        schema = pq.read_schema(path)
        said = facts_of(schema, _PREFIX)
        if "right" not in schema.names or int(said.get("version", 0)) > SCHEMA_VERSION:
            return _answers(read_scores(path))
        known = [name for name in wanted if name in schema.names]
        table = pq.read_table(path, columns=known, page_checksum_verification=True)
        facts = {name: said[name] for name in ("fingerprint", "data_hash")}
        facts["fingerprint"] = json.loads(facts["fingerprint"])
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return _answers(read_scores(path))  # which says what is wrong
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    order = np.argsort(columns["id"], kind="stable")
    found = {name: values[order] for name, values in columns.items()}
    return Answers(found["id"], found["right"].astype(bool), found.get("subject"), found.get("copy"), **facts)


def _answers(scores: Scores) -> Answers:
    order = np.argsort(scores.ids, kind="stable")
    parts = [None if each is None else each[order] for each in (scores.subjects, scores.copies)]
    return Answers(scores.ids[order], scores.correct[order], parts[0], parts[1], scores.fingerprint, scores.data_hash)


def read_scores(path: Path) -> Scores:
    """Read what ``write_scores`` wrote, in this version or an earlier one.

    Raises:
        UserError: there is no such file, it is damaged, not a file of scores, or of a newer version.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; `stdcl evaluate` writes a run's scores")
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
    said = facts_of(table.schema, _PREFIX)
    version = said.get("version", "")
    missing = [each.name for each in _COLUMNS if each.name not in table.column_names]
    missing += [name for name in _FACTS if name not in said]
    if missing or not version.isdigit():
        raise UserError(f"{path}: not a file of scores (without {', '.join(missing or ['version'])})")
    if int(version) > SCHEMA_VERSION:
        raise UserError(f"{path}: written with schema {version}; this version of stdcl reads up to {SCHEMA_VERSION}")
    lists = table.column("logits").combine_chunks()
    lengths = set(lists.value_lengths().to_pylist())
    if len(lengths) > 1 or None in lengths:
        raise UserError(f"{path}: rows of different numbers of classes")
    facts: dict[str, Any] = {name: said[name] for name in _FACTS}
    try:
        facts |= {name: json.loads(said[name]) for name in _LATER if name in said}
        facts["classes"] = tuple(facts.get("classes", ()))
        facts["settings"] = long_keys(facts.get("settings", {}))
        present = {name: table.column(name).to_numpy() for name in _OPTIONAL if name in table.column_names}
        return Scores(
            ids=np.array(table.column("id").to_pylist(), dtype=object),
            labels=table.column("label").to_numpy(),
            logits=lists.flatten().to_numpy().reshape(len(table), -1),
            subjects=present.get("subject"),
            copies=present.get("copy"),
            **{**facts, "run": facts["run"] or str(path.parent)},
        )
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: {error}") from None
