"""Trials that are paused, stopped and released, as a trial's process and the driver meet it; without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stdcl.config.sweep import Trial
from stdcl.launch.cluster import Cluster
from stdcl.launch.device import CARDS
from stdcl.launch.worker import TrainingLoop, session_loop
from stdcl.results.ask import forget_ask, write_ask
from stdcl.results.history import read_history
from stdcl.results.layout import RunFolder, SweepFolder
from stdcl.results.progress import read_progress
from stdcl.results.requests import request
from stdcl.results.result import RunResult, write_result
from stdcl.results.status import sweep_status
from stdcl.results.steering import steer_from_outside
from stdcl.sweep import trainables
from stdcl.sweep.driver import _Runner
from stdcl.sweep.log import SweepLog
from stdcl.sweep.progress import Progress
from stdcl.sweep.record import Recorder
from stdcl.sweep.trainables import STATUS, LocalTrial, TrialContext, payload
from tests.sweep.conftest import GRID, MakeSweep
from tests.sweep.test_progress import TuneTrial, Watched
from tests.train.conftest import MakeConfig


class Process:
    """A trial's process, started anew for each attempt."""

    def __init__(self, make_config: MakeConfig, folder: Path, loop: TrainingLoop | None = None) -> None:
        self.trial = Trial("one", "grid", {}, 1, make_config(), "0" * 16)
        self.trial_context = TrialContext("s", folder, folder / "scratch", loop or session_loop(), {})
        self.run = RunFolder(folder / "one")

    def start(self) -> LocalTrial:
        trial: LocalTrial = object.__new__(LocalTrial)
        trial.setup({"trial": payload(self.trial)}, trial_context=self.trial_context)
        return trial


def test_a_trial_leaves_saved_and_goes_on_with_the_same_rows(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainables, "LOOK_SECONDS", 0.0)
    process = Process(make_config, tmp_path)
    trial = process.start()
    assert trial.step()[STATUS] == "running"
    steps: list[int] = []

    def ask_in_the_second_epoch(self: Any, *args: Any) -> None:
        steps.append(1)
        if len(steps) == 2:
            write_ask(process.run.ask, "paused")

    from stdcl.training.callbacks import ShowProgress

    real = ShowProgress.on_step_start
    monkeypatch.setattr(ShowProgress, "on_step_start", ask_in_the_second_epoch)
    last = trial.step()
    assert (last[STATUS], last["done"]) == ("paused", True)
    assert len(steps) == 2, "it left after the step under way"
    progress = read_progress(process.run.progress)
    assert progress is not None
    assert progress.phase == "paused"
    assert (process.run.checkpoints / "epoch-0001-step-000002").is_dir()

    assert process.start().step()[STATUS] == "paused", "a held trial does not begin"
    forget_ask(process.run.ask)
    monkeypatch.setattr(ShowProgress, "on_step_start", real)
    again = process.start()
    assert [again.step()[STATUS] for _ in range(2)] == ["running", "finished"]
    assert [row["epoch"] for row in read_history(process.run.history)] == [1, 2, 3]


def test_a_loop_that_cannot_be_asked_leaves_after_its_epoch(make_config: MakeConfig, tmp_path: Path) -> None:
    closed: list[bool] = []

    def loop(*args: Any, **more: Any) -> Iterator[Any]:
        try:
            for epoch in (1, 2, 3):
                yield {"epoch": epoch, "done": epoch == 3}
        finally:
            closed.append(True)

    process = Process(make_config, tmp_path, loop)
    trial = process.start()
    assert trial.step()[STATUS] == "running"
    write_ask(process.run.ask, "stopped")
    assert (trial.step()[STATUS], closed) == ("stopped", [True])


class Rounds(_Runner):
    """A driver whose experiments are made up; in the first of them, the first trial is paused and then released."""

    rounds: list[list[str]]
    said: list[str]

    @contextmanager
    def _cluster(self, trials: Any) -> Iterator[Any]:
        yield Cluster("local", True, ({"CPU": 2.0},))

    def _fit(self, cluster: Any, progress: Progress, search: Any, trials: int) -> None:
        keys = [search.suggest(f"id {number}")["trial"]["key"] for number in range(trials)]
        assert search.suggest("one more") == "FINISHED"
        self.rounds.append(keys)
        for key in keys:
            trial = TuneTrial(progress.trials[key])
            progress.on_trial_start(0, [], trial)
            pauses = len(self.rounds) == 1 and key == keys[0]
            if pauses:
                steer_from_outside(sweep_status(self._folder), request("pause", (key,)))
            row = {"epoch": 6, "accuracy": 0.5, "num_test": 464, "loss": 1.0, "total_seconds": 1.0}
            trial.last_result = {**row, STATUS: "paused" if pauses else "finished"}
            if not pauses:
                run = self._folder.run(key)
                run.root.mkdir(parents=True, exist_ok=True)
                write_result(run.result, RunResult({"epoch": 6, "accuracy": 0.5, "num_test": 464}))
            progress.on_trial_complete(0, [], trial)
        if len(self.rounds) == 1:
            self.said.append(steer_from_outside(sweep_status(self._folder), request("unpause")))
        progress.close()


def test_the_driver_runs_released_trials_after_the_others(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep, folder, lines = make_sweep(GRID), SweepFolder(tmp_path / "small"), []
    trials = sweep.trials()

    def no_loop(*args: Any, **more: Any) -> Any:
        raise AssertionError

    def runner() -> Rounds:
        command, log = "stdcl sweep small.yaml", SweepLog(folder.log, lines.append)
        recorder = Recorder(folder, "small", command)
        made = Rounds(sweep, folder, command, no_loop, CARDS, log, recorder, quiet=False, on_board=None)
        made.rounds, made.said = [], []
        return made

    stopped = trials[3].key
    write_ask(folder.run(stopped).ask, "stopped")
    one = runner()
    with one.obedience.running():
        outcome = one.run_grid(trials)
    assert one.said == ["1 trial(s) go on"]
    assert one.rounds == [[trial.key for trial in trials if trial.key != stopped], [trials[0].key]]
    assert not outcome.failures
    assert any(line.startswith(f"[0/6] {trials[0].key}  paused on request") for line in lines), lines
    assert any(f"1 trial(s) are left alone, as was asked: {stopped} (stopped)" in line for line in lines)
    states = {key: trial.state for key, trial in sweep_status(folder).trials.items()}
    assert states.pop(stopped) == "stopped"
    assert set(states.values()) == {"finished"}

    steer_from_outside(sweep_status(folder), request("retry", (stopped,)))
    other = runner()
    with other.obedience.running():
        other.run_grid(trials)
    assert other.rounds == [[stopped], [stopped]]


def test_a_trial_that_starts_while_the_sweep_is_paused_is_asked_to_leave(make_sweep: MakeSweep, tmp_path: Path) -> None:
    watched = Watched(make_sweep(GRID), SweepFolder(tmp_path / "small"))
    first, second = (TuneTrial(trial) for trial in watched.trials[:2])
    watched.progress.on_trial_start(0, [], first)
    watched.stop.held = True
    watched.progress.on_trial_start(0, [], second)
    assert watched.recorder.held(watched.trials[0]) is None
    assert watched.recorder.held(watched.trials[1]) == "paused"
