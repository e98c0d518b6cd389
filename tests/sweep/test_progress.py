"""What a sweep says and writes while it runs, without Ray: the hooks are called as Tune calls them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError, RayTaskError

from stdcl.config.sweep import Sweep, Trial
from stdcl.errors import UserError
from stdcl.results.ask import read_ask
from stdcl.results.layout import SweepFolder
from stdcl.results.result import RunResult, write_result
from stdcl.results.row import EpochRow
from stdcl.results.status import Attempts, read_attempts_once
from stdcl.results.store import read_attempts
from stdcl.sweep.board import Board
from stdcl.sweep.progress import Progress, duration
from stdcl.sweep.record import Recorder
from stdcl.sweep.stopping import StopRequest
from stdcl.sweep.trainables import EPOCHS_DONE, ERROR, EVENT, SETUP_FAILED, STATUS, payload
from tests.sweep.conftest import GRID, MakeSweep


class TuneTrial:
    """As much of Tune's trial as the hooks use."""

    def __init__(self, trial: Trial) -> None:
        self.config = {"trial": payload(trial)}
        self.last_result: dict[str, Any] = {}
        self.error_file: str | None = None
        self.pickled_error_file: str | None = None

    def dies(self, folder: Path, error: Exception) -> TuneTrial:
        """Leave what Tune leaves of a trial whose process died."""
        folder.mkdir(exist_ok=True)
        pickled = folder / "error.pkl"
        pickled.write_bytes(cloudpickle.dumps(error))
        self.pickled_error_file, self.error_file = str(pickled), str(folder / "error.txt")
        (folder / "error.txt").write_text(f"Failure # 1 (occurred at 2026-01-01)\n{error}\n")
        return self


class Watched:
    """A sweep whose progress is recorded."""

    def __init__(self, sweep: Sweep, folder: SweepFolder) -> None:
        self.trials = sweep.trials()
        self.lines: list[str] = []
        self.stop = StopRequest()
        self.recorder = Recorder(folder, "small", "stdcl sweep small.yaml")
        by_key = {trial.key: trial for trial in self.trials}
        self.board = Board("small", len(self.trials), 0, lambda key: folder.run(key).progress, lambda: time.monotonic())
        self.progress = Progress(by_key, self.board, len(self.trials), self.recorder, self.lines.append, self.stop)

    def row(self, trial: TuneTrial, epoch: int, status: str = "running", **more: Any) -> None:
        row = {"epoch": epoch, "accuracy": 0.5, "num_test": 464, "loss": 1.5, "total_seconds": 2.0 * epoch}
        result = {**row, STATUS: status, **more}
        self.progress.on_trial_result(0, [], trial, result)
        trial.last_result = result


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "small")


@pytest.fixture
def watched(make_sweep: MakeSweep, folder: SweepFolder) -> Watched:
    return Watched(make_sweep(GRID), folder)


def test_each_ending_becomes_a_row_and_a_line(watched: Watched, folder: SweepFolder) -> None:
    done, stopped, failed, diverged, dead = (TuneTrial(trial) for trial in watched.trials[:5])
    for trial in (done, stopped, failed, diverged, dead):
        watched.progress.on_trial_start(0, [], trial)
        watched.row(trial, 1)
    watched.row(done, 6, "finished", best_accuracy=0.6, best_epoch=3, peak_memory_mib=100.0, sequences_per_second=50.0)
    watched.progress.on_trial_complete(0, [], done)
    watched.progress.on_trial_complete(0, [], stopped)
    watched.row(failed, 1, "failed", **{ERROR: "ValueError: no", "trace": "Traceback ..."})
    watched.progress.on_trial_complete(0, [], failed)
    watched.row(diverged, 1, "diverged", **{ERROR: "Diverged: the loss is nan"})
    watched.progress.on_trial_complete(0, [], diverged)
    watched.progress.on_trial_error(0, [], dead)
    assert watched.stop.error is None

    rows = read_attempts(folder.results).set_index("key")
    assert list(rows["status"]) == ["finished", "pruned", "failed", "failed", "failed"]
    first = rows.loc[watched.trials[0].key]
    assert first["accuracy"] == 0.5
    assert first["best_accuracy"] == 0.6
    assert first["epochs"] == 6
    assert first["seconds_per_epoch"] == pytest.approx(2.0)
    assert first["peak_memory_mib"] == 100.0
    assert first["command"] == "stdcl sweep small.yaml"
    assert first["fingerprint"] == watched.trials[0].fingerprint
    assert rows.loc[watched.trials[2].key, "error"] == "ValueError: no"
    assert "Traceback" in rows.loc[watched.trials[2].key, "more"]
    assert set(watched.progress.failures) == {trial.key for trial in watched.trials[2:5]}
    text = "\n".join(watched.lines)
    assert f"[1/6] {watched.trials[0].key}  finished  accuracy 50.00 %  best (epoch 3) 60.00 %" in text
    assert f"[2/6] {watched.trials[1].key}  stopped early after epoch 1: others were better" in text
    assert f"[3/6] {watched.trials[2].key}  FAILED: ValueError: no" in text


def test_the_time_left_is_that_of_the_epochs_left(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("stdcl.sweep.progress.time.monotonic", lambda: clock[0])
    trial = TuneTrial(watched.trials[0])
    watched.progress.on_trial_start(0, [], trial)
    clock[0] += 10.0
    watched.row(trial, 1)
    # 6 trials of 6 epochs, one epoch in 10 seconds: 35 epochs are left.
    assert watched.lines[-1].endswith("about 5:50 left")


def test_lost_workers_are_told(watched: Watched) -> None:
    trial = TuneTrial(watched.trials[0])
    watched.progress.on_trial_result(0, [], trial, {STATUS: "running", EVENT: "workers lost (rank 1: killed)"})
    assert watched.lines == [f"[0/6] {watched.trials[0].key}  workers lost (rank 1: killed)"]


def test_what_a_sweep_waits_for_is_said_now_and_then(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("stdcl.sweep.progress.time.monotonic", lambda: clock[0])
    news = [["node b is lost"]]
    progress = Progress(
        {trial.key: trial for trial in watched.trials}, watched.board, 6, watched.recorder, watched.lines.append,
        watched.stop,
        news=lambda: news.pop() if news else [], waiting=lambda: "waiting for 2 CPU",
    )  # fmt: skip

    def pass_time(seconds: float) -> None:
        for _ in range(int(seconds)):
            clock[0] += 1
            progress.on_step_end(0, [])

    pass_time(14)
    assert watched.lines == ["node b is lost"]
    pass_time(3)
    assert watched.lines[1:] == ["waiting for 2 CPU"]
    pass_time(599)
    assert len(watched.lines) == 2
    pass_time(3)
    assert watched.lines[2:] == ["waiting for 2 CPU"]
    trial = TuneTrial(watched.trials[0])
    progress.on_trial_start(0, [], trial)
    pass_time(1000)
    assert len(watched.lines) == 4, "it runs"
    progress.on_trial_recover(0, [], trial)
    pass_time(17)
    assert watched.lines[-1] == "waiting for 2 CPU"


def test_a_row_that_cannot_be_written_costs_no_other_trial(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stdcl.sweep.record.append", full)
    trial = TuneTrial(watched.trials[0])
    watched.row(trial, 6, "finished")
    watched.progress.on_trial_complete(0, [], trial)
    assert not watched.stop.stop_all(), "the other trials die of a full disk"
    assert watched.stop.error is None
    text = "\n".join(watched.lines)
    assert "its row: not written to (No space left on device); make room" in text
    assert "finished" in text


def test_a_finished_run_without_its_row_gets_it_once(watched: Watched, folder: SweepFolder) -> None:
    trial = watched.trials[0]
    assert not watched.recorder.complete(trial)
    run = folder.run(trial.key).root
    run.mkdir(parents=True)
    row = '{"schema": 2, "epoch": 6, "accuracy": 0.5, "num_test": 464}'
    (run / "result.json").write_text(f'{{"row": {row}, "fingerprint": "{trial.fingerprint}", "data_hash": "abc"}}')
    assert watched.recorder.status(trial).state == "finished"
    assert read_attempts(folder.results).empty
    assert watched.recorder.complete(trial)
    assert watched.recorder.complete(trial)
    (only,) = read_attempts(folder.results).to_dict("records")
    assert only["status"] == "finished"
    assert only["data_hash"] == "abc"


def test_a_run_folder_of_another_configuration_is_refused(watched: Watched, folder: SweepFolder) -> None:
    trial = watched.trials[0]
    run = folder.run(trial.key).root
    run.mkdir(parents=True)
    row = '{"schema": 2, "epoch": 6, "accuracy": 0.5, "num_test": 464}'
    (run / "result.json").write_text(f'{{"row": {row}, "fingerprint": "0000"}}')
    with pytest.raises(UserError, match="another configuration"):
        watched.recorder.status(trial)
    (run / "result.json").write_text("{")
    with pytest.raises(UserError, match="not the result of a run"):
        watched.recorder.status(trial)


def test_trials_that_were_cut_off_are_on_record(watched: Watched, folder: SweepFolder) -> None:
    """Whoever ends the sweep, the attempt under way has a row, and the next one another number."""
    cut, done = (TuneTrial(trial) for trial in watched.trials[:2])
    for trial in (cut, done):
        watched.progress.on_trial_start(0, [], trial)
    watched.row(cut, 2)
    watched.row(done, 6, "finished")
    watched.progress.on_trial_complete(0, [], done)
    watched.progress.close()
    assert watched.stop.error is None
    rows = read_attempts(folder.results).set_index("key")
    assert dict(rows["status"]) == {watched.trials[1].key: "finished", watched.trials[0].key: "interrupted"}
    assert rows.loc[watched.trials[0].key, "epochs"] == 2
    again = Recorder(folder, "small", "")
    assert again.status(watched.trials[0]).state == "interrupted"
    assert again.record(watched.trials[0], "failed", {}, error="no").attempt == 1


def test_a_pruned_trial_is_told_before_its_process_ends(watched: Watched, folder: SweepFolder) -> None:
    trial = TuneTrial(watched.trials[0])
    watched.row(trial, 2)
    watched.progress.on_trial_complete(0, [], trial)
    assert read_ask(folder.run(watched.trials[0].key).ask) == "pruned"


def test_a_trial_whose_folder_was_deleted_stays_finished(watched: Watched, folder: SweepFolder) -> None:
    """As its table says: its row is on record, and computing it again is nothing that a deleted folder asks for."""
    trial = watched.trials[0]
    watched.recorder.record(trial, "finished", {"epoch": 6, "accuracy": 0.5, "num_test": 464})
    assert not folder.run(trial.key).root.exists()
    again = Recorder(folder, "small", "")
    assert again.complete(trial)
    status = again.status(trial)
    assert (status.state, status.has_folder, status.epochs_done) == ("finished", False, 6)
    assert len(read_attempts(folder.results)) == 1


def test_the_store_is_read_once(watched: Watched, folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing per trial grows with the number of trials."""
    for trial in watched.trials:
        watched.recorder.record(trial, "finished", {"epoch": 6, "accuracy": 0.5, "num_test": 464})
    reads: list[Path] = []

    def counting(directory: Path) -> Attempts:
        reads.append(directory)
        return read_attempts_once(directory)

    monkeypatch.setattr("stdcl.sweep.record.read_attempts_once", counting)
    again = Recorder(folder, "small", "")
    assert all(again.complete(trial) for trial in watched.trials)
    assert {again.status(trial).state for trial in watched.trials} == {"finished"}
    again.record(watched.trials[0], "failed", {}, error="no")
    assert again.status(watched.trials[0]).attempts == 2
    assert len(reads) == 1


CANNOT_CONNECT = {ERROR: "the workers cannot connect to each other (no route)", SETUP_FAILED: True}


def test_two_trials_in_a_row_that_the_cluster_could_not_start_stop_the_sweep(watched: Watched) -> None:
    for number in range(2):
        assert not watched.stop.stop_all()
        trial = TuneTrial(watched.trials[number])
        trial.last_result = {STATUS: "failed", **CANNOT_CONNECT}
        watched.progress.on_trial_complete(0, [], trial)
    assert watched.stop.stop_all()
    assert watched.stop.error is None
    expected = "the cluster could not start 2 trials in a row: the workers cannot connect to each other (no route)"
    assert watched.stop.reason == expected
    assert watched.lines[-1].endswith("FAILED: the workers cannot connect to each other (no route)")


@pytest.mark.parametrize("between", ["a finished trial", "a trial that failed by itself", "a row of a running trial"])
def test_trials_that_the_cluster_could_not_start_count_only_in_a_row(watched: Watched, between: str) -> None:
    first, middle, last = (TuneTrial(trial) for trial in watched.trials[:3])
    for trial in (first, last):
        trial.last_result = {STATUS: "failed", **CANNOT_CONNECT}
    watched.progress.on_trial_complete(0, [], first)
    if between == "a row of a running trial":
        watched.row(middle, 1)
    else:
        middle.last_result = {STATUS: "failed", ERROR: "ValueError: no"}
        if between == "a finished trial":
            middle.last_result = {"epoch": 5, "accuracy": 0.5, "num_test": 464, EPOCHS_DONE: 6, STATUS: "finished"}
        watched.progress.on_trial_complete(0, [], middle)
    assert watched.stop.error is None
    watched.progress.on_trial_complete(0, [], last)
    assert not watched.stop.stop_all()


def _in_creation(error: Exception) -> ActorDiedError:
    text = f"Traceback (most recent call last):\n  File 'x.py', line 1, in <module>\n{type(error).__name__}: {error}"
    return ActorDiedError(RayTaskError("ImplicitFunc.__init__", text, error, proctitle="ray::ImplicitFunc"))


def test_a_dead_process_is_reported_with_its_cause(watched: Watched, tmp_path: Path) -> None:
    killed = TuneTrial(watched.trials[0]).dies(tmp_path / "a", ActorDiedError())
    watched.progress.on_trial_error(0, [], killed)
    expected = "FAILED: the trial's process died: The actor died unexpectedly before finishing this task."
    assert watched.lines[-1].endswith(expected)
    assert not watched.stop.stop_all()
    missing = ModuleNotFoundError("No module named 'stdcl.data'")
    for number in (1, 2):
        trial = TuneTrial(watched.trials[number]).dies(tmp_path / str(number), _in_creation(missing))
        watched.progress.on_trial_error(0, [], trial)
        expected = "FAILED: the trial's process did not start: ModuleNotFoundError: No module named 'stdcl.data'"
        assert watched.lines[-1].endswith(expected)
    assert watched.stop.stop_all(), "the processes of the next trials would not start either"


def test_duration() -> None:
    assert duration(59.6) == "1:00"
    assert duration(3723.0) == "1:02:03"


def test_data_that_were_prepared_again_are_refused_before_the_start(
    watched: Watched, folder: SweepFolder, tmp_path: Path
) -> None:
    trial = watched.trials[0]
    run = folder.run(trial.key)
    run.root.mkdir(parents=True)
    row: EpochRow = {"epoch": 6, "accuracy": 0.5, "num_test": 464}
    machine = {"processor": "A card", "precision": "float32", "driver": "570.86"}
    write_result(run.result, RunResult(row, trial.fingerprint, data_hash="a" * 64, **machine))
    assert watched.recorder.complete(trial)
    more = json.loads(read_attempts(folder.results)["more"].iloc[0])
    assert machine.items() <= more.items()
    assert "tf32" not in more, "what is not known is left out"
    watched.recorder.check_data(watched.trials, "", lambda path: "a" * 64)
    with pytest.raises(UserError, match="prepared again") as caught:
        Recorder(folder, "small", "").check_data(watched.trials, "", lambda path: "b" * 64)
    assert "--set name=" in str(caught.value)
    with pytest.raises(UserError, match="prepared again"):  # a search knows no trials beforehand
        watched.recorder.check_data([], "somewhere", lambda path: "b" * 64)
