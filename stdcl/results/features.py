"""The vectors that a trained encoder's classifier sees, one per evaluated sequence, in one Parquet file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stdcl.atomic import staging_file
from stdcl.errors import UserError
from stdcl.results.metadata import facts_of, with_facts

SCHEMA_VERSION = 1
_PREFIX = "stdcl.features."


@dataclass(frozen=True)
class Features:
    """Vectors of N sequences.

    Attributes:
        ids: the sequences' ids, (N,) strings.
        labels: true class indices, (N,) int64.
        vectors: (N, C) float32.
        classes: class names.
        data_hash: content hash of the store that the sequences were read from.
        fingerprint: of the training.
        checkpoint: name of the checkpoint whose encoder they are of.
    """

    ids: np.ndarray
    labels: np.ndarray
    vectors: np.ndarray
    classes: tuple[str, ...]
    data_hash: str
    fingerprint: str
    checkpoint: str

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.labels.shape != (n,) or self.vectors.ndim != 2 or len(self.vectors) != n:
            raise ValueError(
                f"features: {n} ids, labels of shape {self.labels.shape}, vectors of shape {self.vectors.shape}; "
                "expected (N,), (N,) and (N, C)"
            )
        if not np.isfinite(self.vectors).all():
            raise ValueError("features: numbers that are not finite")


def write_features(path: Path, features: Features) -> None:
    """Write ``path`` atomically: a row per sequence, the facts in the schema's metadata."""
    n, width = features.vectors.shape
    values = pa.array(np.ascontiguousarray(features.vectors, np.float32).reshape(-1), pa.float32())
    columns = {
        "id": pa.array([str(each) for each in features.ids], pa.string()),
        "label": pa.array(features.labels.astype(np.int64)),
        "vector": pa.ListArray.from_arrays(pa.array(np.arange(0, (n + 1) * width, width, dtype=np.int32)), values),
    }
    facts = {
        "version": SCHEMA_VERSION,
        "classes": list(features.classes),
        "data_hash": features.data_hash,
        "fingerprint": features.fingerprint,
        "checkpoint": features.checkpoint,
    }
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in facts.items()}
    with staging_file(path) as part:
        pq.write_table(with_facts(pa.table(columns), _PREFIX, texts), part, write_page_checksum=True)


def read_features(path: Path) -> Features:
    """Read what ``write_features`` wrote.

    Raises:
        UserError: there is no such file, it is damaged, not a file of features, or of a newer version.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; `stdcl evaluate --features` writes a run's features")
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        facts = {name: json.loads(text) for name, text in facts_of(table.schema, _PREFIX).items()}
        if int(facts["version"]) > SCHEMA_VERSION:
            raise UserError(
                f"{path}: written with schema {facts['version']}; this version of stdcl reads up to {SCHEMA_VERSION}"
            )
        return Features(
            ids=np.array(table.column("id").to_pylist(), dtype=object),
            labels=table.column("label").to_numpy(),
            vectors=table.column("vector").combine_chunks().flatten().to_numpy().reshape(len(table), -1),
            classes=tuple(facts["classes"]),
            data_hash=str(facts["data_hash"]),
            fingerprint=str(facts["fingerprint"]),
            checkpoint=str(facts["checkpoint"]),
        )
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a readable file of features ({str(error).splitlines()[0]})") from None
