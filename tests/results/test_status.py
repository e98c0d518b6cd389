"""The state of a trial, from each thing that a sweep leaves behind, alone and together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stdcl.results.ask import forget_ask, read_ask, write_ask
from stdcl.results.history import HistoryFile
from stdcl.results.layout import RunFolder, SweepFolder
from stdcl.results.plan import PlannedTrial
from stdcl.results.progress import RunProgress, write_progress
from stdcl.results.result import RunResult, write_result
from stdcl.results.state import ENDINGS, HELD, STATES, Ending, state_of
from stdcl.results.status import TrialStatus, read_attempts_once, trial_status
from stdcl.results.store import TrialRow, append

PLANNED = PlannedTrial("temperature=0.5,seed=1", "grid", {"contrast.temperature": 0.5}, 1, "aaaa")
NOW = 5000.0
STEP = RunProgress("training", 2, 10, 40, 100, 123.4, 60.0, NOW - 50, NOW - 1)


def row(status: Any, attempt: int = 0, **more: Any) -> TrialRow:
    accuracy = {"accuracy": 0.5, "num_test": 100, "epochs": 10} if status == "finished" else {}
    return TrialRow(
        sweep="s", key=PLANNED.key, attempt=attempt, status=status, arm="grid", seed=1, parameters=PLANNED.parameters,
        dataset="nw-ucla", protocol="cross-view", evaluated_on="test", stream="joint", encoder="hcn",
        strategy="spatial", **{"fingerprint": "aaaa", **accuracy, **more},
    )  # fmt: skip


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "s")


@pytest.fixture
def run(sweep: SweepFolder) -> RunFolder:
    return sweep.run(PLANNED.key)


def status_of(sweep: SweepFolder, remark: Callable[[str], None] = lambda text: None) -> TrialStatus:
    attempts = read_attempts_once(sweep.results)
    return trial_status(PLANNED, sweep.run(PLANNED.key), attempts, remark, clock=lambda: NOW)


def begin(run: RunFolder, progress: RunProgress = STEP) -> None:
    HistoryFile(run.history).append({"epoch": 1})
    HistoryFile(run.history).append({"epoch": 2})
    write_progress(run.progress, progress)


def test_nothing_is_not_started(sweep: SweepFolder) -> None:
    assert status_of(sweep) == TrialStatus("not started", {}, 0, 0, None, has_folder=False)


def test_a_run_under_way(sweep: SweepFolder, run: RunFolder) -> None:
    begin(run)
    found = status_of(sweep)
    assert (found.state, found.epochs_done, found.progress) == ("running", 2, STEP)


def test_a_process_that_was_killed_leaves_an_interrupted_trial(sweep: SweepFolder, run: RunFolder) -> None:
    begin(run, replace(STEP, updated=NOW - 1000))
    found = status_of(sweep)
    assert (found.state, found.epochs_done, found.progress) == ("interrupted", 2, None)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_latest_attempt_speaks(sweep: SweepFolder, run: RunFolder, ending: Ending) -> None:
    begin(run, replace(STEP, phase="interrupted"))
    append(sweep.results, row("failed"))
    append(sweep.results, row(ending, 1))
    if ending in HELD:
        assert status_of(sweep).state == "interrupted", "it was held, and is not any more"
        write_ask(run.ask, ending)
    found = status_of(sweep)
    assert (found.state, found.attempts) == (ending, 2)


def test_a_trial_that_failed_and_is_tried_again_runs(sweep: SweepFolder, run: RunFolder) -> None:
    append(sweep.results, row("failed", error="no"))
    begin(run)
    assert status_of(sweep).state == "running"


def test_a_result_without_its_row_is_finished(sweep: SweepFolder, run: RunFolder) -> None:
    append(sweep.results, row("interrupted"))
    run.root.mkdir(parents=True)
    write_result(run.result, RunResult({"epoch": 10, "accuracy": 0.75, "num_test": 4}, fingerprint="aaaa"))
    found = status_of(sweep)
    assert (found.state, found.epochs_done, found.row["accuracy"]) == ("finished", 10, 0.75)


def test_of_another_configuration_nothing_counts(sweep: SweepFolder, run: RunFolder) -> None:
    append(sweep.results, row("finished", fingerprint="bbbb"))
    said: list[str] = []
    assert status_of(sweep, said.append).state == "not started"
    assert "of another configuration" in said[0]


def test_every_state_can_be_reached() -> None:
    """A word that nobody can come to is not of the vocabulary."""
    found = {state_of(ending, complete=False, running=False, begun=True) for ending in (*ENDINGS, None)}
    found |= {state_of(None, complete=False, running=False, begun=False, asked=asked) for asked in HELD}
    found.add(state_of(None, complete=False, running=True, begun=True))
    found.add(state_of(None, complete=False, running=False, begun=False))
    assert found == set(STATES)
    assert state_of("failed", complete=True, running=True, begun=True) == "finished"


def test_what_is_asked_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "run" / "ask"
    assert read_ask(path) is None
    write_ask(path, "paused")
    assert read_ask(path) == "paused"
    path.write_text("dance\n")
    assert read_ask(path) is None
    forget_ask(path)
    forget_ask(path)
    assert not path.exists()
