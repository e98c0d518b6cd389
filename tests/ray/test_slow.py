"""Kills, interruptions, hangs and a search on a real Ray."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from stdcl.config.space import OptunaConfig
from stdcl.results.store import read, read_attempts
from stdcl.sweep.storage import open_storage
from tests.ray.conftest import Start, finish, history, read_until
from tests.sweep.conftest import GRID, SEARCH

pytestmark = pytest.mark.slow

RUN = {**GRID["base"], "resources": {"workers": 2}}
TWO = {**GRID, "grid": {"contrast.temperature": [0.5]}, "seeds": [1]}


def _epochs(sweep: Path) -> list[list[int]]:
    return [[row["epoch"] for row in history(run)] for run in sorted((sweep / "trials").iterdir())]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_driver_goes_on(start: Start, tmp_path: Path, workers: int) -> None:
    storage = tmp_path / "storage"
    process = start("sweep", TWO, storage, f"resources.workers={workers}", seconds=1.0)
    read_until(process, "epoch 2/6")
    process.send_signal(signal.SIGKILL)
    process.wait()
    code, text = finish(start("sweep", TWO, storage, f"resources.workers={workers}"))
    assert code == 0, text
    assert _epochs(storage / "small") == [[0, 1, 2, 3, 4, 5]] * 2
    results = read(storage / "small" / "results")
    assert list(results["status"]) == ["finished"] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_says_how_to_go_on(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    storage = tmp_path / "storage"
    process = start("sweep", TWO, storage, "resources.workers=2", seconds=1.0)
    read_until(process, "epoch 2/6")
    process.send_signal(number)
    code, text = finish(process)
    assert code == 130, text
    assert "to resume from the last checkpoints" in text
    assert "stdcl sweep" in text
    assert read_attempts(storage / "small" / "results").empty, "nothing was finished, nothing failed"
    code, text = finish(start("sweep", TWO, storage, "resources.workers=2"))
    assert code == 0, text
    assert _epochs(storage / "small") == [[0, 1, 2, 3, 4, 5]] * 2


def test_trials_that_run_alone_have_a_process_each(start: Start, tmp_path: Path) -> None:
    code, text = finish(start("sweep", {**GRID, "alone": True}, tmp_path / "storage", seconds=0.2))
    assert code == 0, text
    assert "; 1 trial(s) at a time" in text
    runs = [history(run) for run in (tmp_path / "storage" / "small" / "trials").iterdir()]
    assert all(len({row["pid"] for row in rows}) == 1 for rows in runs)
    assert len({rows[0]["pid"] for rows in runs}) == len(runs) == 6


def test_two_drivers_on_one_sweep_are_refused(start: Start, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    first = start("sweep", TWO, storage, seconds=5.0)
    read_until(first, "started")
    code, text = finish(start("sweep", TWO, storage))
    assert code == 2, text
    assert f"the sweep 'small' is in use by process {first.pid}" in text


def test_a_rank_that_stops_answering_ends_the_attempt(start: Start, tmp_path: Path) -> None:
    """The other rank waits in a collective until resources.collective_timeout, then the group is started again."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    process = start("train", RUN, run_dir, "resources.collective_timeout=5", hang=[1, 3])
    code, text = finish(process)
    assert code == 0, text
    rows = history(run_dir)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["value"] == 18.0


def test_user_errors_and_faults_are_not_tried_again(start: Start, tmp_path: Path) -> None:
    run_dir = tmp_path / "refused"
    run_dir.mkdir()
    code, text = finish(start("train", RUN, run_dir, refuse_seeds=[1]))
    assert code == 2, text
    assert "error: seed 1 is refused" in text


def _judged(sweep: Path) -> tuple[list[Any], list[Any]]:
    """What the study holds of each trial, and what the store does."""
    opened, _ = open_storage(OptunaConfig(), sweep / "study")
    trials = optuna.load_study(study_name="searching", storage=opened).trials
    results = read(sweep / "results").sort_values("key")
    return (
        [(t.number, t.state, t.params, t.values, t.intermediate_values, t.user_attrs["trial"]) for t in trials],
        results[["key", "status", "epochs", "accuracy"]].values.tolist(),
    )


def test_a_killed_search_ends_as_an_undisturbed_one(start: Start, tmp_path: Path) -> None:
    """One trial at a time: proposals, decisions and rows equal to the last bit."""
    content = {
        **SEARCH,
        "max_concurrent_trials": 1,
        "optuna": {**SEARCH["optuna"], "trials": 8, "reduction_factor": 2, "grace_epochs": 1},
    }
    storage = tmp_path / "storage"
    for mark in ("[1/8]", "[3/8]", "epoch 4/6", "[6/8]"):
        process = start("sweep", content, storage, seconds=0.3)
        read_until(process, mark)
        process.send_signal(signal.SIGKILL)
        process.wait()
    code, text = finish(start("sweep", content, storage, seconds=0.05))
    assert code == 0, text
    assert "judged before" in text
    code, text = finish(start("sweep", content, tmp_path / "undisturbed"))
    assert code == 0, text
    found, rows = _judged(storage / "searching")
    expected, expected_rows = _judged(tmp_path / "undisturbed" / "searching")
    assert found == expected
    assert rows == expected_rows
    assert {state for _, state, *_ in expected} == {TrialState.COMPLETE, TrialState.PRUNED}


def test_a_search_of_two_trials_at_a_time_loses_and_repeats_none(start: Start, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    content = {**SEARCH, "optuna": {**SEARCH["optuna"], "trials": 8, "reduction_factor": 2}}
    process = start("sweep", content, storage, seconds=0.5)
    read_until(process, "[2/8]")
    process.send_signal(signal.SIGKILL)
    process.wait()
    code, text = finish(start("sweep", content, storage, seconds=0.05))
    assert code == 0, text
    assert "judged before" in text
    sweep = storage / "searching"
    opened, _ = open_storage(OptunaConfig(), sweep / "study")
    study = optuna.load_study(study_name="searching", storage=opened)
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED) == 8
    assert TrialState.RUNNING not in states
    done = [trial for trial in study.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len({trial.params["contrast.temperature"] for trial in done}) == 8, "no draw is repeated"
    for trial in done:
        rows = history(sweep / "trials" / trial.user_attrs["trial"])
        assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
        assert sorted(trial.intermediate_values) == [row["epoch"] - 1 for row in rows]
    results = read(sweep / "results")
    assert set(results["evaluated_on"]) == {"validation"}
    plan = json.loads((sweep / "plan.json").read_text())
    assert {trial["key"] for trial in plan["trials"]} >= {trial.user_attrs["trial"] for trial in done}


def test_a_search_of_two_workers_ends_trials_early_and_keeps_the_group(start: Start, tmp_path: Path) -> None:
    """Ranks that are asked to leave serve the next trial; it ends as after a group of its own."""
    content = {
        **SEARCH,
        "max_concurrent_trials": 1,
        "resources": {"workers": 2},
        "optuna": {**SEARCH["optuna"], "trials": 6, "reduction_factor": 2, "grace_epochs": 1},
    }
    code, text = finish(start("sweep", content, tmp_path / "storage", seconds=0.3))
    assert code == 0, text
    assert "workers lost" not in text
    sweep = tmp_path / "storage" / "searching"
    judged, _ = _judged(sweep)
    assert {state for _, state, *_ in judged} == {TrialState.COMPLETE, TrialState.PRUNED}
    runs = [history(run) for run in (sweep / "trials").iterdir()]
    assert len({row["pid"] for run in runs for row in run}) == 1, "one rank 0 for all of them"
    for run in runs:
        assert [row["epoch"] for row in run] == list(range(1, len(run) + 1))
        assert [row["value"] for row in run] == [3.0 * row["epoch"] for row in run], "two ranks in each epoch"
    # One worker at a time judges the same, but for what two ranks add up to.
    code, text = finish(start("sweep", content, tmp_path / "one", "resources.workers=1"))
    assert code == 0, text
    assert [each[:3] for each in judged] == [each[:3] for each in _judged(tmp_path / "one" / "searching")[0]]
