from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stdcl.errors import UserError
from stdcl.tracking.sink import JsonLines, Sinks, read_history


def test_rows_come_back_with_their_epoch(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "trial" / "history.jsonl")
    sink.start({}, {})
    sink.log_epoch({"loss": 2.5, "accuracy": np.float32(0.5), "step": np.int64(3)}, 0)
    sink.log_epoch({"loss": math.nan, "norm": -math.inf}, 1)
    sink.finish({}, "finished")
    first, second = read_history(sink.path)
    assert first == {"epoch": 0, "loss": 2.5, "accuracy": 0.5, "step": 3}
    assert math.isnan(second["loss"])
    assert second["norm"] == -math.inf
    for line in sink.path.read_text().splitlines():  # standard JSON, for other readers
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_each_row_is_on_the_disk_when_the_call_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), real(descriptor))[1])
    sink = JsonLines(tmp_path / "history.jsonl")
    sink.start({}, {})
    before = len(synced)
    sink.log_epoch({"loss": 1.0}, 0)
    assert len(synced) > before
    assert [row["epoch"] for row in read_history(sink.path)] == [0]


@pytest.mark.parametrize("resume_epoch", [0, 1, 2, 3, 7])
def test_resume_keeps_what_the_checkpoint_has_seen(tmp_path: Path, resume_epoch: int) -> None:
    path = tmp_path / "history.jsonl"
    sink = JsonLines(path)
    sink.start({}, {})
    for epoch in range(3):
        sink.log_epoch({"loss": 10.0 + epoch}, epoch)
    again = JsonLines(path)
    again.start({}, {"resume_epoch": resume_epoch})
    assert [row["epoch"] for row in read_history(path)] == list(range(min(3, resume_epoch)))
    again.log_epoch({"loss": 99.0}, resume_epoch)
    assert read_history(path)[-1] == {"epoch": resume_epoch, "loss": 99.0}


@pytest.mark.parametrize("cut", range(1, 20, 3))
def test_a_line_that_was_cut_off_is_left_out_and_replaced(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "history.jsonl"
    sink = JsonLines(path)
    sink.start({}, {})
    sink.log_epoch({"loss": 1.0}, 0)
    sink.log_epoch({"loss": 2.0}, 1)
    path.write_bytes(path.read_bytes()[:-cut])
    assert [row["epoch"] for row in read_history(path)] == ([0, 1] if cut == 1 else [0])
    sink.log_epoch({"loss": 3.0}, 1)
    assert read_history(path) == [{"epoch": 0, "loss": 1.0}, {"epoch": 1, "loss": 3.0}]
    sink.start({}, {"resume_epoch": 1})
    assert [row["epoch"] for row in read_history(path)] == [0]


def test_a_full_disk_leaves_no_part_of_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = JsonLines(tmp_path / "history.jsonl")
    sink.start({}, {})
    sink.log_epoch({"loss": 1.0}, 0)
    real = os.write

    def nearly_full(descriptor: int, data: bytes) -> int:
        if len(data) > 4:
            return real(descriptor, data[:4])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", nearly_full)
        with pytest.raises(OSError, match="No space left"):
            sink.log_epoch({"loss": 2.0}, 1)
    assert sink.path.read_bytes().endswith(b"\n")
    sink.log_epoch({"loss": 2.0}, 1)
    assert [row["epoch"] for row in read_history(sink.path)] == [0, 1]


@pytest.mark.parametrize("line", ["{broken", "[1, 2]", "3", '{"loss": 1}', '{"epoch": "one"}', '{"epoch": true}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"epoch": 0}\n' + line + '\n{"epoch": 2}\n')
    with pytest.raises(UserError, match=r"history\.jsonl, line 2"):
        read_history(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.jsonl"):
        read_history(tmp_path / "nowhere.jsonl")


class _Recorder:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self, config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        self.calls.append("start")

    def log_epoch(self, row: Mapping[str, float | int], epoch: int) -> None:
        self.calls.append(f"epoch {epoch}")

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        self.calls.append(status)

    def take_notices(self) -> list[str]:
        return []


class _Broken(_Recorder):
    def log_epoch(self, row: Mapping[str, float | int], epoch: int) -> None:
        super().log_epoch(row, epoch)
        raise ConnectionError("the line is dead")


def test_a_failing_sink_is_reported_once_and_stops_nothing() -> None:
    broken, well = _Broken(), _Recorder()
    sinks = Sinks([broken, well])
    sinks.start({}, {})
    for epoch in range(3):
        sinks.log_epoch({"loss": 1.0}, epoch)
    sinks.finish({}, "finished")
    expected = ["start", "epoch 0", "epoch 1", "epoch 2", "finished"]
    assert well.calls == expected
    assert broken.calls == expected
    (told,) = sinks.take_notices()
    assert "_Broken" in told
    assert "the line is dead" in told
    assert sinks.take_notices() == []
    assert sinks.failures == {"_Broken": 3}


def test_the_training_may_be_interrupted_through_a_sink() -> None:
    class Interrupted(_Recorder):
        def log_epoch(self, row: Mapping[str, float | int], epoch: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Sinks([Interrupted()]).log_epoch({}, 0)
