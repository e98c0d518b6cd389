"""What a terminal shows of the trials: counts, an estimate that knows starts from training, and a table that fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from stdcl.results.progress import RunProgress, write_progress
from stdcl.sweep.board import LAST, Board
from stdcl.sweep.workload import Work


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def board(folder: Path, clock: Clock, total: int, before: int = 0) -> Board:
    return Board("tau", total, before, lambda key: folder / key, clock)


def test_a_start_counts_once_a_trial_and_not_once_an_epoch(tmp_path: Path, clock: Clock) -> None:
    """24 s of start-up before a first epoch of 2 s: 2 trials of 15 epochs take 24 + 29 x 2 s more, not 29 x 26."""
    told = board(tmp_path, clock, 2)
    told.begins("a", 15)
    assert told.seconds_left() is None
    clock.now = 26.0
    told.row("a", 15, {"epoch": 1, "seconds": 2.0})
    assert told.seconds_left() == pytest.approx(24 + 29 * 2)
    clock.now = 28.0
    told.row("a", 15, {"epoch": 2, "seconds": 1.5})
    assert told.seconds_left() == pytest.approx(24 + 28 * 2), "evaluation and saving belong to an epoch"


def test_trials_that_run_at_the_same_time_share_what_is_left(tmp_path: Path, clock: Clock) -> None:
    told = board(tmp_path, clock, 10, before=4)
    for key in ("a", "b"):
        told.begins(key, 4)
    clock.now = 10.0
    for key in ("a", "b"):
        told.row(key, 4, {"epoch": 1})
    assert told.seconds_left() == pytest.approx((2 * 3 + 4 * 4) * 10 / 2)
    told.ends("b", "failed", "ValueError: no")
    assert told.seconds_left() == pytest.approx((3 + 4 * 4) * 10)
    told.again("b", "failed")
    assert told.seconds_left() == pytest.approx((3 + 5 * 4) * 10)
    assert told.ended == 4


def test_trials_that_differ_in_length_are_estimated_by_their_work(tmp_path: Path, clock: Clock) -> None:
    """Six short epochs of 3 s say of a trial with 20 epochs of ten times the frames that it takes 600 s, not 60."""
    work = {"short": Work("hcn", 6, 1.0), "long": Work("hcn", 20, 10.0), "other": Work("ctrgcn", 2, 3.0)}
    told = Board("mixed", 3, 0, lambda key: tmp_path / key, clock, work)
    told.begins("short", 6)
    clock.now = 3.0
    told.row("short", 6, {"epoch": 1})
    assert told.seconds_left() == pytest.approx(3 * (5 + 200 + 6)), "a kind that was not seen is like the others"
    for epoch in range(2, 7):
        clock.now += 3.0
        told.row("short", 6, {"epoch": epoch})
    told.ends("short", "finished")
    told.begins("other", 2)
    clock.now = 48.0
    told.row("other", 2, {"epoch": 1})
    assert told.seconds_left() == pytest.approx(30 + 200 * 3)
    told.ends("long", "failed", "its data are gone")
    assert told.seconds_left() == pytest.approx(30)
    told.again("long", "failed")
    assert told.seconds_left() == pytest.approx(30 + 200 * 3)
    told.again("long", None)
    assert told.seconds_left() == pytest.approx(30 + 200 * 3), "it was waited for"


def test_epochs_that_are_behind_a_trial_are_not_left(tmp_path: Path, clock: Clock) -> None:
    """One trial has 60 of 65 epochs from an earlier invocation, the next has none; then one goes on after a pause."""
    work = {"old": Work("hcn", 65, 1.0, at=60), "new": Work("hcn", 65, 1.0)}
    told = Board("again", 2, 0, lambda key: tmp_path / key, clock, work)
    told.begins("old", 65)
    assert told.epochs_done("old") == 60
    clock.now = 2.0
    told.row("old", 65, {"epoch": 61})
    assert told.seconds_left() == pytest.approx(2 * (4 + 65))
    told.ends("old", "paused")
    assert told.seconds_left() == pytest.approx(2 * 65)
    told.again("old", "paused")
    assert told.seconds_left() == pytest.approx(2 * (4 + 65))


def test_a_process_that_died_starts_once_more(tmp_path: Path, clock: Clock) -> None:
    told = board(tmp_path, clock, 1)
    told.begins("a", 4)
    clock.now = 12.0
    told.row("a", 4, {"epoch": 1, "seconds": 2.0})
    clock.now = 13.0
    told.begins("a", 4)
    clock.now = 25.0
    told.row("a", 4, {"epoch": 2, "seconds": 2.0})
    assert told.seconds_left() == pytest.approx(4.0)


def test_what_is_kept_does_not_grow_with_the_trials(tmp_path: Path, clock: Clock) -> None:
    told = board(tmp_path, clock, 2000)
    for number in range(1000):
        told.begins(f"trial={number}", 1)
        told.row(f"trial={number}", 1, {"epoch": 1, "accuracy": 0.5})
        told.ends(f"trial={number}", "finished")
    assert told.running() == {}
    text = told.render(80, 200)
    assert text.startswith("tau: 1000 finished, 1000 to go of 2000")
    assert len(text.splitlines()) == LAST + 2


@pytest.mark.parametrize("running", [0, 1, 2, 12, 200])
@pytest.mark.parametrize("height", [3, 8, 23])
def test_the_table_fits_the_terminal(tmp_path: Path, clock: Clock, running: int, height: int) -> None:
    told = board(tmp_path, clock, 400, before=3)
    for number in range(30):
        told.begins(f"old={number}", 8)
        told.ends(f"old={number}", "failed" if number % 7 == 0 else "finished", f"ValueError: {'long ' * 40}\nmore")
    for number in range(running):
        told.begins(f"contrast.temperature={number / 7},seed=1,{number:08x}{'x' * 60}", 8)
    lines = told.render(79, height).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= 79
    assert lines[0].startswith("tau: 28 finished, 5 failed")
    shown = sum(line.startswith("running") for line in lines)
    hidden = next((int(line.split()[1]) for line in lines if line.startswith("and ")), 0)
    assert shown + hidden == running


def test_what_a_running_trial_says_itself_is_shown(tmp_path: Path, clock: Clock) -> None:
    told = board(tmp_path, clock, 2)
    old = RunProgress("training", 1, 8, 3, 10, 50.0, 9.0, 1.0, 1.0, "old-node")
    write_progress(tmp_path / "a", old)
    told.begins("a", 8)
    assert "50" not in told.render(80, 10), "of an attempt before"
    since = told.since("a")
    assert since is not None
    later = since.timestamp() + 5
    write_progress(tmp_path / "a", RunProgress("training", 1, 8, 3, 10, 6543.2, 125.0, later, later, "node"))
    told.row("a", 8, {"epoch": 1, "accuracy": 0.789})
    _, titles, line = told.render(80, 10).splitlines()
    assert titles.split() == ["state", "epoch", "accuracy", "seq/s", "left", "trial"]
    assert line.split() == ["running", "1/8", "78.90", "%", "6543", "2:05", "a"]
