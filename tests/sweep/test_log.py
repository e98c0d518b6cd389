"""A sweep's log goes on when nobody reads what is shown."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from stdcl.errors import UserError
from stdcl.sweep.log import SweepLog


def _texts(path: Path) -> list[str]:
    return [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", "", line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("error", [BrokenPipeError("closed"), OSError(5, "hung up"), ValueError("closed file")])
def test_a_reader_that_goes_away_ends_nothing(tmp_path: Path, error: Exception) -> None:
    shown: list[str] = []

    def show(text: str) -> None:
        if len(shown) == 2:
            raise error
        shown.append(text)

    log = SweepLog(tmp_path / "sweep.log", show)
    log.begin("stdcl sweep x", "1.0")
    for number in range(4):
        log(f"line {number}")
    assert shown == [f"log: {tmp_path / 'sweep.log'}", "line 0"]
    texts = _texts(tmp_path / "sweep.log")
    assert texts[0].startswith("stdcl sweep x  (stdcl 1.0, Python ")
    assert texts[1:3] == ["line 0", "line 1"]
    assert texts[3].startswith("nobody reads what is shown any more (")
    assert texts[4:] == ["line 2", "line 3"]


def test_a_log_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    shown: list[str] = []
    log = SweepLog(Path("/dev/full") if os.path.exists("/dev/full") else tmp_path / "no" / "folder", shown.append)  # noqa: PTH110
    log("one")
    log("two")
    assert len(shown) == 3
    assert "cannot be written" in shown[0]
    assert shown[1:] == ["one", "two"]


def test_what_ends_a_sweep_is_in_its_log(tmp_path: Path) -> None:
    log = SweepLog(tmp_path / "sweep.log", lambda text: None)
    with pytest.raises(UserError), log.errors():
        raise UserError("the data are missing")
    with pytest.raises(ZeroDivisionError), log.errors():
        print(1 / 0)
    text = (tmp_path / "sweep.log").read_text()
    assert "error: the data are missing" in text
    assert "ZeroDivisionError" in text


def test_logs_of_several_commands_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "sweep.log"
    for command in ("first", "second"):
        SweepLog(path, lambda text: None).begin(command, "1")
    assert [text.split()[0] for text in _texts(path)] == ["first", "second"]
    path.write_bytes(path.read_bytes()[:-3])
    SweepLog(path, lambda text: None).begin("third", "1")
    assert _texts(path)[-1].startswith("third"), "on a line of its own"
