"""Per-sequence scores of one trained encoder on one split, in one Parquet file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stdcl.atomic import staging_file
from stdcl.errors import UserError

SCHEMA_VERSION = 1

_COLUMNS = pa.schema([("id", pa.string()), ("label", pa.int64()), ("logits", pa.list_(pa.float32()))])
_PREFIX = "stdcl.scores."
_FACTS = ("dataset", "protocol", "evaluated_on", "data_hash", "stream", "encoder", "run")


@dataclass(frozen=True)
class Scores:
    """Logits of N sequences over K classes, with what they are scores of.

    Attributes:
        ids: the sequences' ids, (N,) strings, unique.
        labels: true class indices, (N,) int64.
        logits: raw scores before any softmax, (N, K) float32.
        dataset, protocol, evaluated_on: which sequences: data set, split, and ``test`` or ``validation``.
        data_hash: content hash of the store that they were read from.
        stream, encoder: what was trained.
        run: where the scores come from, for messages.
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

    @property
    def correct(self) -> np.ndarray:
        """(N,) bool: whether the highest score is the true class's (of equal scores the first class counts)."""
        return np.asarray(self.logits.argmax(axis=1) == self.labels)

    @property
    def accuracy(self) -> float:
        """Share of sequences that are classified rightly."""
        return float(self.correct.mean())


def per_class_accuracy(scores: Scores) -> np.ndarray:
    """(K,) float64: share of each class's sequences that are classified rightly; NaN for a class without any."""
    classes = scores.logits.shape[1]
    totals = np.bincount(scores.labels, minlength=classes)
    hits = np.bincount(scores.labels[scores.correct], minlength=classes)
    with np.errstate(invalid="ignore"):
        return np.asarray(hits / totals)


def write_scores(path: Path, scores: Scores) -> None:
    """Write ``path`` atomically: columns id, label, logits; the facts in the schema's metadata."""
    table = pa.Table.from_arrays(
        [
            pa.array([str(each) for each in scores.ids], pa.string()),
            pa.array(scores.labels.astype(np.int64)),
            pa.array(list(scores.logits.astype(np.float32)), _COLUMNS.field("logits").type),
        ],
        schema=_COLUMNS,
    )
    facts = {_PREFIX + "version": str(SCHEMA_VERSION)} | {_PREFIX + name: str(getattr(scores, name)) for name in _FACTS}
    table = table.replace_schema_metadata(facts)
    with staging_file(path) as part:
        pq.write_table(table, part)


SCORES_FILE = "scores.parquet"


def read_run(path: Path) -> Scores:
    """Read the scores of a run's folder, or a file of scores."""
    return read_scores(path / SCORES_FILE if path.is_dir() else path)


def read_scores(path: Path) -> Scores:
    """Read what ``write_scores`` wrote.

    Raises:
        UserError: there is no such file, it is damaged, not a file of scores, or of a newer version.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; `stdcl evaluate` writes a run's scores")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    version = metadata.get(_PREFIX + "version", "")
    missing = [each.name for each in _COLUMNS if each.name not in table.column_names]
    missing += [name for name in _FACTS if _PREFIX + name not in metadata]
    if missing or not version.isdigit():
        raise UserError(f"{path}: not a file of scores (without {', '.join(missing or ['version'])})")
    if int(version) > SCHEMA_VERSION:
        raise UserError(f"{path}: written with schema {version}; this version of stdcl reads up to {SCHEMA_VERSION}")
    lists = table.column("logits").combine_chunks()
    lengths = set(lists.value_lengths().to_pylist())
    if len(lengths) > 1 or None in lengths:
        raise UserError(f"{path}: rows of different numbers of classes")
    facts = {name: metadata[_PREFIX + name] for name in _FACTS}
    try:
        return Scores(
            ids=np.array(table.column("id").to_pylist(), dtype=object),
            labels=table.column("label").to_numpy(),
            logits=lists.flatten().to_numpy().reshape(len(table), -1),
            **{**facts, "run": facts["run"] or str(path.parent)},
        )
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
