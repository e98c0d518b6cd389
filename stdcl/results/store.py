"""The append-only store of a sweep's results: one small Parquet file an attempt, never changed afterwards.

Appending needs no lock and no reader: each attempt writes its own file, whole or not at all, so any number of trials
on any number of machines may append at once. A file that is damaged later costs that attempt alone, and is named.
Reading thousands of them takes seconds, so a driver copies their rows into one file now and then (``pack``), from which
readers take the rows of the files that are still there. It can be deleted at any moment.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stdcl.atomic import staging_file
from stdcl.config.arms import present_name
from stdcl.config.contrast import long_key, long_keys
from stdcl.errors import UserError, nearest
from stdcl.results.state import ENDINGS, Ending

SCHEMA_VERSION = 2
PARAMETER_PREFIX = "parameter."
"""Before the dotted key, in the name of a varied parameter's own column."""

PART = "part-*.parquet"
"""The store's files: one per attempt."""
PACKED = "packed.parquet"
"""A copy of their rows."""
PACK_FROM = 100
"""Files that are in no copy yet, from which on another one is worth its writing."""
_FILE = "file"
"""The column of the copy that names the file of a row."""
_PART_NAME = re.compile(r"part-\d{8}T\d{12}-(.+)-a(\d+)-[0-9a-f]{8}\.parquet$")
_VERSION_KEY = b"stdcl.results.version"


@dataclass(frozen=True)
class TrialRow:
    """One attempt of one trial.

    Names, units and counting are those of an epoch's row (``results.row``): accuracies are fractions of ``num_test``
    (0.9483, not 94.83), epochs count from 1, memory is in MiB; throughput in training sequences per second, all workers
    together; times are UTC. Nothing names the machine or the account.
    """

    sweep: str
    key: str
    """The trial's key: one configuration and one seed."""
    attempt: int
    """0 for the first launch of the trial, and one more for each launch after it."""
    status: Ending
    """How the attempt ended."""
    arm: str
    """Name of the line of the sweep's comparison that the trial belongs to."""
    seed: int
    parameters: Mapping[str, Any]
    """Dotted key -> value, of what the sweep varies."""
    dataset: str
    protocol: str
    evaluated_on: Literal["test", "validation"]
    stream: str
    encoder: str
    strategy: str
    fingerprint: str = ""
    """Of the configuration."""
    code_version: str = ""
    """Commit or package version."""
    data_hash: str = ""
    """Content hash of the store that was trained on."""
    synthetic: bool = False
    """Whether the data are made up; such a result is never compared with published numbers."""
    error: str | None = None
    epochs: int | None = None
    """Epochs trained, over all attempts."""
    accuracy: float | None = None
    """After the last epoch: the headline."""
    best_accuracy: float | None = None
    """The best epoch's, chosen on the evaluated sequences themselves: for comparison with published numbers only."""
    best_epoch: int | None = None
    num_test: int | None = None
    """Evaluated sequences, each counted once."""
    total_seconds: float | None = None
    seconds_per_epoch: float | None = None
    throughput: float | None = None
    peak_memory_mib: float | None = None
    workers: int | None = None
    started: datetime | None = None
    finished: datetime | None = None
    wandb_id: str | None = None
    command: str | None = None
    """What repeats the trial."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further facts, of JSON values."""

    def __post_init__(self) -> None:
        if self.status not in ENDINGS:
            raise ValueError(
                f"TrialRow.status is '{self.status}'{nearest(self.status, ENDINGS)}; allowed: {', '.join(ENDINGS)}"
            )
        if not self.arm:
            raise ValueError("TrialRow.arm is empty; every trial belongs to an arm")
        if self.attempt < 0:
            raise ValueError(f"TrialRow.attempt is {self.attempt}; the first is 0")
        for name in ("accuracy", "best_accuracy"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(f"TrialRow.{name} is {value}; an accuracy is a fraction between 0 and 1")
        if self.status == "finished" and (self.accuracy is None or not self.num_test):
            raise ValueError(f"trial {self.key} is finished, but has no accuracy or no num_test")
        for name in ("started", "finished"):
            value = getattr(self, name)
            if value is not None and value.utcoffset() is None:
                raise ValueError(f"TrialRow.{name} has no time zone; use datetime.now(UTC)")


_TIME = pa.timestamp("us", tz="UTC")
_COLUMNS = pa.schema(
    [
        ("sweep", pa.string()),
        ("key", pa.string()),
        ("attempt", pa.int64()),
        ("status", pa.string()),
        ("arm", pa.string()),
        ("seed", pa.int64()),
        ("parameters", pa.string()),
        ("dataset", pa.string()),
        ("protocol", pa.string()),
        ("evaluated_on", pa.string()),
        ("stream", pa.string()),
        ("encoder", pa.string()),
        ("strategy", pa.string()),
        ("fingerprint", pa.string()),
        ("code_version", pa.string()),
        ("data_hash", pa.string()),
        ("synthetic", pa.bool_()),
        ("error", pa.string()),
        ("epochs", pa.int64()),
        ("accuracy", pa.float64()),
        ("best_accuracy", pa.float64()),
        ("best_epoch", pa.int64()),
        ("num_test", pa.int64()),
        ("total_seconds", pa.float64()),
        ("seconds_per_epoch", pa.float64()),
        ("throughput", pa.float64()),
        ("peak_memory_mib", pa.float64()),
        ("workers", pa.int64()),
        ("started", _TIME),
        ("finished", _TIME),
        ("wandb_id", pa.string()),
        ("command", pa.string()),
        ("more", pa.string()),
    ]
)
# Rows of one attempt: what it came to says more than that it was cut off.
_STATUS_ORDER = {"failed": 1, "pruned": 2, "finished": 3}


def append(directory: Path, row: TrialRow) -> Path:
    """Write one row as a new file ``part-*.parquet``, atomically; returns the file.

    Args:
        directory: the store's folder; made when it is not there.
        row: what happened.
    """
    parameters = {name: _plain(value) for name, value in row.parameters.items()}
    table = pa.Table.from_pylist([as_record(row)], schema=_COLUMNS)
    for name, value in sorted(_columns_of(parameters).items()):
        table = table.append_column(name, pa.array([value]))
    table = table.replace_schema_metadata({_VERSION_KEY: str(SCHEMA_VERSION).encode()})
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    path = directory / f"part-{stamp}-{slug(row.key)}-a{row.attempt}-{os.urandom(4).hex()}.parquet"
    with staging_file(path) as part:
        pq.write_table(table, part, write_page_checksum=True)
    return path


def as_record(row: TrialRow) -> dict[str, Any]:
    """Return a row as its columns hold it: parameters and further facts as JSON texts."""
    values = asdict(row)
    parameters = {name: _plain(value) for name, value in row.parameters.items()}
    values["parameters"] = json.dumps(parameters, sort_keys=True, ensure_ascii=False)
    values["more"] = json.dumps({name: _plain(value) for name, value in row.more.items()}, ensure_ascii=False)
    return values


@dataclass(frozen=True)
class Scan:
    """Everything that a store's folder holds."""

    rows: pd.DataFrame
    """Every row of every attempt, oldest first."""
    damaged: dict[Path, str]
    """Files that cannot be read, with the reason."""


def attempts_by_name(directory: Path) -> dict[str, int]:
    """Slug of a trial's key -> number of its next attempt, from the names of the files alone."""
    out: dict[str, int] = {}
    for path in directory.glob(PART):
        if match := _PART_NAME.match(path.name):
            out[match[1]] = max(out.get(match[1], 0), int(match[2]) + 1)
    return out


def scan(directory: Path, key: str | None = None, leave_out: Collection[str] = ()) -> Scan:
    """Read every file of a store, keeping account of the damaged ones.

    Args:
        directory: the store's folder.
        key: read the attempts of this trial alone.
        leave_out: slugs (``slug``) of trials whose attempts are not read.

    Raises:
        UserError: a file was written by a newer version of stdcl.
    """
    rows: list[dict[str, Any]] = []
    damaged: dict[Path, str] = {}
    wanted = []
    for path in sorted(directory.glob(PART)):
        if key is not None and f"-{slug(key)}-a" not in path.name:
            continue
        if leave_out and (match := _PART_NAME.match(path.name)) and match[1] in leave_out:
            continue
        wanted.append(path)
    packed = _packed(directory) if len(wanted) > 1 else {}
    for path in wanted:
        try:
            rows += [packed[path.name]] if path.name in packed else _rows_of(path)
        except ValueError as error:
            damaged[path] = str(error).split("\n")[0]
    return Scan(_frame([row for row in rows if key is None or row["key"] == key]), damaged)


def _rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of one file, with today's names and units.

    Raises:
        UserError: it was written by a newer version of stdcl.
        ValueError: it is damaged.
    """
    try:
        # From memory and without threads: several times faster than read_table for thousands of small files.
        content = pa.BufferReader(path.read_bytes())
        table = pq.ParquetFile(content, page_checksum_verification=True).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error)) from None
    version = (table.schema.metadata or {}).get(_VERSION_KEY)
    if version is None or not version.isdigit():
        raise ValueError("not a file of a results store")
    if int(version) > SCHEMA_VERSION:
        raise UserError(
            f"{path}: written with schema {int(version)}; this version of stdcl reads up to {SCHEMA_VERSION}"
        )
    if missing := [name for name in ("key", "attempt", "status") if name not in table.column_names]:
        raise ValueError(f"lacks the columns {', '.join(missing)}")
    return [_upgraded(row, int(version)) for row in table.to_pylist()]


def pack(directory: Path) -> None:
    """Copy the rows of the store's files into one file, if many are in none yet. One process at a time may do so.

    Left out are files that are damaged, and those of other versions whose columns are not today's.
    """
    packed, paths = _packed(directory), sorted(directory.glob(PART))
    if sum(path.name not in packed for path in paths) < PACK_FROM:
        return
    rows = []
    for path in paths:
        try:
            found = [packed[path.name]] if path.name in packed else _rows_of(path)
        except (ValueError, UserError):
            continue
        if len(found) == 1 and found[0].keys() == {*_COLUMNS.names, *_own_columns(found[0])}:
            rows.append({**found[0], _FILE: path.name})
    table = pa.Table.from_pylist(rows, schema=_COLUMNS.append(pa.field(_FILE, pa.string())))
    table = table.replace_schema_metadata({_VERSION_KEY: str(SCHEMA_VERSION).encode()})
    with staging_file(directory / PACKED) as part:
        pq.write_table(table, part, write_page_checksum=True)


def _packed(directory: Path) -> dict[str, dict[str, Any]]:
    """Name of a file -> its row, as far as the copy has them; nothing where there is none, or none of this version."""
    try:
        content = pa.BufferReader((directory / PACKED).read_bytes())
        table = pq.ParquetFile(content, page_checksum_verification=True).read(use_threads=False)
    except (pa.ArrowException, OSError):
        return {}
    if (table.schema.metadata or {}).get(_VERSION_KEY) != str(SCHEMA_VERSION).encode():
        return {}
    rows = table.to_pylist()
    return {str(row.pop(_FILE)): {**row, **_own_columns(row)} for row in rows}


def _own_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    return _columns_of(json.loads(row.get("parameters") or "{}"))


def _columns_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The varied parameters' own columns."""
    return {
        PARAMETER_PREFIX + name: value
        if isinstance(value, bool | int | float | str) or value is None
        else json.dumps(value)
        for name, value in parameters.items()
    }


def read_attempts(directory: Path) -> pd.DataFrame:
    """Every row of every attempt, oldest first; ``started`` and ``finished`` are UTC.

    Raises:
        UserError: files of the store are damaged; all are named.
    """
    found = scan(directory)
    if found.damaged:
        listed = "\n".join(f"  {path}: {reason}" for path, reason in found.damaged.items())
        raise UserError(
            f"{len(found.damaged)} file(s) of the results store are damaged:\n{listed}\n"
            "Move them away to go on without these attempts; the trials' own result.json files are beside them."
        )
    return found.rows


def read(directory: Path) -> pd.DataFrame:
    """One row a trial: that of its latest attempt. A store without rows gives an empty frame with all columns.

    Raises:
        UserError: as ``read_attempts``.
    """
    return latest(read_attempts(directory))


def next_attempt(directory: Path, key: str) -> int:
    """The number of a trial's next attempt: 0 where the store has none of it."""
    attempts = scan(directory, key).rows["attempt"]
    return 0 if attempts.empty else int(attempts.max()) + 1


def latest(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per trial: its latest attempt, and of that the row of its end rather than of its interruption."""
    if rows.empty:
        return rows
    order = rows.assign(_status=rows["status"].map(_STATUS_ORDER).fillna(0), _age=range(len(rows)))
    order = order.sort_values(["attempt", "_status", "_age"], kind="stable")
    kept = order.drop_duplicates("key", keep="last").sort_values("_age")
    return kept.drop(columns=["_status", "_age"]).reset_index(drop=True)


def _upgraded(row: dict[str, Any], version: int) -> dict[str, Any]:
    """A row with today's names and units. Release 0.1 counted epochs from 0 and memory in megabytes (10^6 bytes)."""
    if version == 1:
        row["accuracy"] = row.pop("last_accuracy", None)
        memory = row.pop("peak_memory_mb", None)
        row["peak_memory_mib"] = None if memory is None else memory * 1e6 / 2**20
        if row.get("best_epoch") is not None:
            row["best_epoch"] += 1
    parameters = long_keys(json.loads(row.get("parameters") or "{}"))
    row["parameters"] = json.dumps(parameters, ensure_ascii=False)
    row["arm"] = present_name(str(row["arm"]), parameters, str(row.get("strategy") or ""))
    own = {name: name.removeprefix(PARAMETER_PREFIX) for name in row if name.startswith(PARAMETER_PREFIX)}
    return {PARAMETER_PREFIX + long_key(own[name]) if name in own else name: value for name, value in row.items()}


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a table; columns of one name and different types become their common type, as pandas sees it."""
    if not rows:
        empty: pd.DataFrame = _COLUMNS.empty_table().to_pandas(types_mapper=_pandas_type)
        return empty
    extra = sorted({name for row in rows for name in row} - set(_COLUMNS.names))
    columns = {each.name: pa.array([row.get(each.name) for row in rows], each.type) for each in _COLUMNS}
    frame: pd.DataFrame = pa.table(columns).to_pandas(types_mapper=_pandas_type)
    flat = {name: pd.Series([row.get(name) for row in rows]) for name in extra}
    return pd.concat([frame, pd.DataFrame(flat, index=frame.index)], axis=1) if flat else frame


def _pandas_type(kind: pa.DataType) -> Any:
    """Nullable integers, so that a failed trial does not turn its neighbours' counts into floats."""
    return pd.Int64Dtype() if pa.types.is_int64(kind) else None


def slug(key: str) -> str:
    """A trial's key as names of files have it."""
    return re.sub(r"[^A-Za-z0-9.=+-]+", "_", key)[-80:]


def _plain(value: Any) -> Any:
    """A JSON value of a parameter (tuples become lists, NumPy scalars Python numbers)."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    return value
