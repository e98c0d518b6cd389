"""A reader of W&B's offline run files, and an environment without the machine's own account."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_FILE_HEADER = 7  # ":W&B", then a magic number and a version
_BLOCK = 32 * 1024  # records are framed in blocks, as in LevelDB's log
_RECORD_HEADER = struct.Struct("<IHB")  # checksum, length, fragment kind
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """What one offline run file says."""

    identity: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    step_metrics: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    host: str = ""
    environment: list[str] = field(default_factory=list)  # the names of what is recorded of the machine
    exit_code: int | None = None


def _payloads(data: bytes) -> Iterator[bytes]:
    """The whole records of a file; a record that was cut off at the end is left out."""
    assert data[:4] == b":W&B", "not a W&B run file"
    position, collected = _FILE_HEADER, b""
    while position + _RECORD_HEADER.size <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _RECORD_HEADER.size:
            position += left
            continue
        _, length, kind = _RECORD_HEADER.unpack_from(data, position)
        position += _RECORD_HEADER.size
        fragment = data[position : position + length]
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or len(fragment) < length:
            return
        position += length
        collected = fragment if kind in (_FULL, _FIRST) else collected + fragment
        if kind in (_FULL, _LAST):
            yield collected


def _items(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def _read(path: Path) -> OfflineRun:
    from wandb.proto import wandb_internal_pb2

    run = OfflineRun()
    for payload in _payloads(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(payload)
        match record.WhichOneof("record_type"):
            case "run":
                run.identity = {
                    "id": record.run.run_id,
                    "name": record.run.display_name,
                    "group": record.run.run_group,
                    "project": record.run.project,
                    "entity": record.run.entity,
                    "job_type": record.run.job_type,
                }
                run.tags = list(record.run.tags)
                run.host = record.run.host
                run.config.update(_items(record.run.config.update))
            case "config":
                run.config.update(_items(record.config.update))
            case "history":
                run.history.append(_items(record.history.item))
            case "summary":
                run.summary.update(_items(record.summary.update))
            case "metric":
                name = record.metric.name or record.metric.glob_name
                run.step_metrics[name] = record.metric.step_metric
            case "environment":
                run.environment += [name.name for name, _ in record.environment.ListFields()]
            case "exit":
                run.exit_code = record.exit.exit_code
    run.config.pop("_wandb", None)
    return run


@pytest.fixture
def offline_runs() -> Callable[[Path], list[OfflineRun]]:
    """Reads the offline runs under a folder, in the order in which they were started."""

    def read(directory: Path) -> list[OfflineRun]:
        return [_read(path) for path in sorted(directory.glob("wandb/offline-run-*/run-*.wandb"))]

    return read


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No account, no proxy and no W&B variable of the machine; its files go to the test's folder."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield
    if "wandb" in sys.modules:  # it reads the environment once, and must read it again in the next test
        sys.modules["wandb"].teardown()
