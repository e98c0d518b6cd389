"""The progress file: whole at every moment, readable by anybody, of no harm when it is damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stdcl.results.progress import (
    RunProgress,
    close_progress,
    duration,
    follow_run,
    read_progress,
    reopen_progress,
    write_progress,
)

STEP = RunProgress("training", 2, 10, 40, 100, 123.4, 3725.0, 1000.0, 1010.0)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    assert read_progress(path) is None
    write_progress(path, STEP)
    assert read_progress(path) == STEP
    assert [found.name for found in tmp_path.iterdir()] == ["progress.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"phase": "training"}', "\udc80"])
def test_a_damaged_file_says_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "progress.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert read_progress(path) is None


def test_a_phase_of_another_version_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    write_progress(path, replace(STEP, phase="dreaming"))  # type: ignore[arg-type]
    assert read_progress(path) is None


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (STEP, "epoch 3/10  step 40/100  123 sequences/s  about 1:02:05 left"),
        (replace(STEP, rate=1.2345, seconds_left=None), "epoch 3/10  step 40/100  1.23 sequences/s"),
        (
            replace(STEP, phase="evaluating", done=64, total=464, rate=None),
            "epoch 3/10  evaluation, sequence 64/464  about 1:02:05 left",
        ),
        (replace(STEP, phase="saving", rate=None, seconds_left=None), "epoch 3/10  checkpoint after step 40/100"),
        (replace(STEP, phase="starting", epoch=0), "epoch 1/10  starting"),
        (replace(STEP, phase="finished", epoch=10), "finished after epoch 10/10"),
        (replace(STEP, phase="interrupted"), "interrupted after epoch 2/10"),
    ],
)
def test_the_line(progress: RunProgress, text: str) -> None:
    assert progress.render() == text


def test_durations() -> None:
    assert [duration(s) for s in (0, 59.4, 59.6, 3599.6, 7322)] == ["0:00", "0:59", "1:00", "1:00:00", "2:02:02"]


def test_following_ignores_an_earlier_attempt_and_counts_silence(tmp_path: Path) -> None:
    path, now = tmp_path / "progress.json", [0.0]
    write_progress(path, replace(STEP, phase="interrupted"))
    line = follow_run(path, "starting", clock=lambda: now[0])
    now[0] = 3.0
    assert line() == "starting (0:03)"
    write_progress(path, STEP)
    assert line() == STEP.render()
    now[0] = 62.0
    assert line() == STEP.render()
    now[0] = 63.0
    assert line() == f"{STEP.render()}  (no news for 1:00)"
    path.unlink()
    assert line().startswith(STEP.render())


def test_an_attempt_that_could_not_say_its_end(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    close_progress(path, "interrupted")
    assert not path.exists()
    write_progress(path, STEP)
    close_progress(path, "interrupted", clock=lambda: 2000.0)
    closed = replace(STEP, phase="interrupted", rate=None, seconds_left=None, updated=2000.0)
    assert read_progress(path) == closed
    close_progress(path, "failed")
    assert read_progress(path) == closed


def test_another_attempt_begins_where_there_was_one(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    reopen_progress(path)
    assert not path.exists(), "the first attempt speaks for itself"
    write_progress(path, STEP)
    close_progress(path, "failed")
    reopen_progress(path, clock=lambda: 3000.0)
    found = read_progress(path)
    assert found is not None
    assert (found.phase, found.epoch, found.started, found.updated) == ("starting", STEP.epoch, 3000.0, 3000.0)
    assert (found.rate, found.seconds_left, found.node) == (None, None, "")
