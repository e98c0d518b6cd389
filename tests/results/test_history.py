from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from stdcl.errors import UserError
from stdcl.results.history import HistoryFile, read_history
from stdcl.results.row import EpochRow


def test_rows_come_back_with_their_epoch(tmp_path: Path) -> None:
    sink = HistoryFile(tmp_path / "trial" / "history.jsonl")
    sink.truncate(0)
    row: EpochRow = {"epoch": 1, "loss": 2.5, "accuracy": np.float32(0.5), "correct": np.int64(3)}  # type: ignore[typeddict-item]
    sink.append(row)
    sink.append({"epoch": 2, "loss": math.nan, "ce": -math.inf})
    first, second = read_history(sink.path)
    assert first == {"epoch": 1, "loss": 2.5, "accuracy": 0.5, "correct": 3}
    assert math.isnan(second["loss"])
    assert second["ce"] == -math.inf
    for line in sink.path.read_text().splitlines():  # standard JSON, for other readers
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_each_row_is_on_the_disk_when_the_call_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), real(descriptor))[1])
    sink = HistoryFile(tmp_path / "history.jsonl")
    sink.truncate(0)
    before = len(synced)
    sink.append({"epoch": 1, "loss": 1.0})
    assert len(synced) > before
    assert [row["epoch"] for row in read_history(sink.path)] == [1]


@pytest.mark.parametrize("before", [0, 1, 2, 3, 7])
def test_resume_keeps_what_the_checkpoint_has_seen(tmp_path: Path, before: int) -> None:
    path = tmp_path / "history.jsonl"
    sink = HistoryFile(path)
    sink.truncate(0)
    for epoch in (1, 2, 3):
        sink.append({"epoch": epoch, "loss": 10.0 + epoch})
    again = HistoryFile(path)
    again.truncate(before)
    assert [row["epoch"] for row in read_history(path)] == list(range(1, 1 + min(3, before)))
    again.append({"epoch": before + 1, "loss": 99.0})
    assert read_history(path)[-1] == {"epoch": before + 1, "loss": 99.0}


@pytest.mark.parametrize("cut", range(1, 20, 3))
def test_a_line_that_was_cut_off_is_left_out_and_replaced(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "history.jsonl"
    sink = HistoryFile(path)
    sink.truncate(0)
    sink.append({"epoch": 1, "loss": 1.0})
    sink.append({"epoch": 2, "loss": 2.0})
    path.write_bytes(path.read_bytes()[:-cut])
    assert [row["epoch"] for row in read_history(path)] == ([1, 2] if cut == 1 else [1])
    sink.append({"epoch": 2, "loss": 3.0})
    assert read_history(path) == [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 3.0}]
    sink.truncate(1)
    assert [row["epoch"] for row in read_history(path)] == [1]


def test_a_full_disk_leaves_no_part_of_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = HistoryFile(tmp_path / "history.jsonl")
    sink.truncate(0)
    sink.append({"epoch": 1, "loss": 1.0})
    real = os.write

    def nearly_full(descriptor: int, data: bytes) -> int:
        if len(data) > 4:
            return real(descriptor, data[:4])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", nearly_full)
        with pytest.raises(OSError, match="No space left"):
            sink.append({"epoch": 2, "loss": 2.0})
    assert sink.path.read_bytes().endswith(b"\n")
    sink.append({"epoch": 2, "loss": 2.0})
    assert [row["epoch"] for row in read_history(sink.path)] == [1, 2]


@pytest.mark.parametrize("line", ["{broken", "[1, 2]", "3", '{"loss": 1}', '{"epoch": "one"}', '{"epoch": true}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"epoch": 0}\n' + line + '\n{"epoch": 2}\n')
    with pytest.raises(UserError, match=r"history\.jsonl, line 2"):
        read_history(path)


def test_a_run_without_a_history_has_no_rows(tmp_path: Path) -> None:
    assert read_history(tmp_path / "nowhere.jsonl") == []


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Is a directory"):
        read_history(tmp_path)
