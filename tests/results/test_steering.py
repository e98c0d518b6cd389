"""Seeing and steering a sweep through its folder: requests, answers, held trials, what can go."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stdcl import cli
from stdcl.errors import UserError
from stdcl.results import requests
from stdcl.results.ask import read_ask
from stdcl.results.cleaning import what_can_go
from stdcl.results.heartbeat import first_beat, read_heartbeat, write_heartbeat
from stdcl.results.history import HistoryFile
from stdcl.results.layout import SweepFolder
from stdcl.results.plan import Plan, PlannedTrial, write_plan
from stdcl.results.progress import RunProgress, write_progress
from stdcl.results.requests import request
from stdcl.results.result import RunResult, write_result
from stdcl.results.status import sweep_status
from stdcl.results.steering import find_trial, steer_from_outside
from stdcl.results.store import TrialRow, append
from stdcl.sweep.obedience import Obedience
from stdcl.sweep.stopping import StopRequest

KEYS = ("t=0.5,seed=1,aaaa", "t=0.8,seed=1,bbbb", "t=0.9,seed=1,cccc", "t=1.0,seed=1,dddd")
DONE, FAILED, RUNNING, NEW = KEYS


def row(key: str, status: str, attempt: int = 0, **more: object) -> TrialRow:
    facts = {"accuracy": 0.5, "num_test": 100, "epochs": 4, "total_seconds": 40.0} if status == "finished" else {}
    return TrialRow(
        sweep="s", key=key, attempt=attempt, status=status, arm="grid", seed=1, parameters={}, dataset="nw-ucla",  # type: ignore[arg-type]
        protocol="cross-view", evaluated_on="test", stream="joint", encoder="hcn", strategy="spatial", **facts, **more,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """A sweep with a finished, a failed and a running trial, and one that has not started."""
    monkeypatch.setenv("STDCL_STORAGE", str(tmp_path))
    sweep = SweepFolder(tmp_path / "s")
    write_plan(sweep.plan, Plan("s", "Why?", "grid", ("t",), tuple(PlannedTrial(key, "grid", {}, 1) for key in KEYS)))
    for key in KEYS[:3]:
        run = sweep.run(key)
        HistoryFile(run.history).append({"epoch": 1, "accuracy": 0.25, "num_test": 100, "ce": 1.5})
    write_result(
        sweep.run(DONE).result, RunResult({"epoch": 4, "accuracy": 0.5, "num_test": 100, "total_seconds": 40.0})
    )
    append(sweep.results, row(DONE, "finished"))
    append(sweep.results, row(FAILED, "failed", error="ValueError: no\nmore", more={"trace": "Traceback: here"}))
    now = time.time()
    progress = RunProgress("training", 1, 4, 5, 10, 12.5, 20.0, now - 10, now, "node7")
    write_progress(sweep.run(RUNNING).progress, progress)
    return sweep


@pytest.fixture
def lines() -> list[str]:
    return []


def test_the_status_of_each_trial(folder: SweepFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "s", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["states"] == {"finished": 1, "failed": 1, "running": 1, "not started": 1}
    by_key = {trial["trial"]: trial for trial in said["trials"]}
    assert by_key[RUNNING] == {
        "trial": RUNNING, "state": "running", "epoch": 1, "epochs": 4, "accuracy": 0.25, "sequences_per_second": 12.5,
        "seconds_left": 20.0, "node": "node7", "attempts": 0, "error": None,
    }  # fmt: skip
    failed = by_key[FAILED]
    assert (failed["error"], failed["attempts"], failed["epoch"]) == ("ValueError: no", 1, 1)
    assert (by_key[DONE]["accuracy"], by_key[DONE]["attempts"]) == (0.5, 1)
    # One runs at a time: 20 s of it, and two trials of 40 s as the finished one took.
    assert said["seconds_left"] == pytest.approx(100.0)
    assert cli.main(["status", "s"]) == 0
    text = capsys.readouterr().out
    assert "no driver runs; to go on: stdcl sweep" in " ".join(text.split())
    assert any(line.strip().startswith("stdcl sweep") for line in text.splitlines()), "a command is not broken"
    assert "about 1:40 left" in text
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out.startswith("s  1 finished, 1 failed, 1 running, 1 not started")


def test_the_logs_of_a_trial(folder: SweepFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["logs", "s", "bbbb"]) == 0
    text = capsys.readouterr().out
    assert "attempt 0: failed: ValueError: no" in text
    assert "Traceback: here" in text
    assert "cross-entropy 1.5000  test 25.00 %" in text
    assert cli.main(["logs", "s", "cccc"]) == 0
    assert "now: epoch 2/4  step 5/10  12.5 sequences/s  about 0:20 left  on node7" in capsys.readouterr().out


def test_a_trial_is_named_by_a_part_of_its_name(folder: SweepFolder) -> None:
    status = sweep_status(folder)
    assert find_trial(status, "aaaa") == DONE
    with pytest.raises(UserError, match="part of 4 trials' names"):
        find_trial(status, "seed=1")
    with pytest.raises(UserError, match="no trial 'eeee'"):
        find_trial(status, "eeee")


def test_without_a_driver_trials_are_held_and_released_at_once(folder: SweepFolder) -> None:
    def ask(verb: str, *trials: str) -> str:
        return steer_from_outside(sweep_status(folder), request(verb, trials))

    assert "no driver runs; to continue: stdcl sweep" in ask("stop", NEW)
    ask("pause", FAILED)
    states = {key: trial.state for key, trial in sweep_status(folder).trials.items()}
    assert (states[NEW], states[FAILED]) == ("stopped", "paused")
    assert "1 trial(s) go on" in ask("unpause")
    assert sweep_status(folder).trials[FAILED].state == "failed"
    assert "2 trial(s) are tried again" in ask("retry")
    assert sweep_status(folder).trials[NEW].state == "not started"
    for verb, trial, why in (
        ("stop", DONE, "is finished"),
        ("retry", DONE, "move .* away first"),
        ("unpause", NEW, "is not paused, but not started"),
        ("retry", RUNNING, "nothing to try again"),
    ):
        with pytest.raises(UserError, match=why):
            ask(verb, trial)
    for verb in ("stop", "pause"):
        with pytest.raises(UserError, match="no driver of s runs"):
            ask(verb)


def test_a_finished_trial_whose_folder_is_gone_can_be_trained_again(folder: SweepFolder) -> None:
    shutil.rmtree(folder.run(DONE).root)
    assert sweep_status(folder).trials[DONE].state == "finished"
    steer_from_outside(sweep_status(folder), request("retry", (DONE,)))
    assert sweep_status(folder).trials[DONE].state == "interrupted"


def test_a_driver_obeys_answers_and_says_so(folder: SweepFolder, lines: list[str]) -> None:
    stop = StopRequest()
    driver = Obedience(folder, "stdcl sweep 'a b.yaml'", stop, lines.append)
    driver.active = lambda: [RUNNING]
    with driver.running():
        beat = read_heartbeat(folder.driver)
        assert beat is not None
        assert beat.alive()
        assert "the sweep is paused" in steer_from_outside(sweep_status(folder), request("pause"))
        assert stop.held
        assert read_ask(folder.run(RUNNING).ask) == "paused"
        assert "1 trial(s) go on" in steer_from_outside(sweep_status(folder), request("unpause"))
        assert not stop.held
        assert driver.take_released() == [RUNNING]
        steer_from_outside(sweep_status(folder), request("retry", (FAILED,)))
        assert driver.take_released() == [FAILED]
        assert not stop.requested
        said = steer_from_outside(sweep_status(folder), request("stop"))
        assert "stdcl sweep 'a b.yaml'" in said
        assert stop.requested
    assert [line.split(":")[0] for line in lines] == [
        "asked to pause the sweep", "asked to unpause the sweep", f"asked to retry {FAILED}", "asked to stop the sweep",
    ]  # fmt: skip
    assert not list(folder.requests.iterdir()), "requests and answers are taken away"
    ended = sweep_status(folder).driver
    assert ended is not None
    assert not ended.alive()


def test_a_damaged_request_is_answered_and_gone(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text('{"verb": "dance", "trials": []}')
    (tmp_path / "2.json").write_text("{")
    assert requests.obey(tmp_path, lambda asked: "never") == 2
    assert not list(tmp_path.glob("*.json"))
    assert "not a request" in (tmp_path / "1.answer").read_text()


def test_an_answer_is_waited_for_and_no_longer_than_said(tmp_path: Path) -> None:
    path = requests.ask(tmp_path, request("stop"))
    thread = threading.Thread(target=lambda: requests.obey(tmp_path, lambda asked: "yes"))
    thread.start()
    assert requests.wait_for_answer(path) == "yes"
    thread.join()
    clock = iter(range(100))
    assert requests.wait_for_answer(path, 5.0, sleep=lambda s: None, clock=lambda: float(next(clock))) is None


def test_the_time_that_is_left_is_the_drivers_while_it_lives(folder: SweepFolder) -> None:
    beat = replace(first_beat("stdcl sweep x.yaml", clock=lambda: 1000.0), seconds_left=600.0)
    write_heartbeat(folder.driver, beat, clock=lambda: 1000.0)
    status = sweep_status(folder)
    assert status.seconds_left(clock=lambda: 1010.0) == pytest.approx(590.0)
    assert status.seconds_left(clock=lambda: 1e6) == replace(status, driver=None).seconds_left(), "it has fallen silent"
    known = folder.driver.read_text(encoding="utf-8")
    folder.driver.write_text(known.replace(', "seconds_left": 600.0', ""), encoding="utf-8")
    assert read_heartbeat(folder.driver) == replace(beat, seconds_left=None), "as an earlier version wrote it"


def test_a_driver_that_was_killed_is_not_waited_for(folder: SweepFolder) -> None:
    beat = first_beat("stdcl sweep x.yaml", clock=lambda: 1000.0)
    write_heartbeat(folder.driver, beat, clock=lambda: 1000.0)
    said = steer_from_outside(sweep_status(folder), request("stop", (NEW,)))
    assert "to continue: stdcl sweep x.yaml" in said
    assert sweep_status(folder).trials[RUNNING].state == "interrupted", "what it ran died with it"
    assert beat.alive(clock=lambda: 1020.0)
    assert not replace(beat, ended=True).alive(clock=lambda: 1000.0)


def test_what_can_go(folder: SweepFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    keep = {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file() and path.name != "lock"}
    leftovers = (folder.tune / "x" / "big", folder.run(DONE).root / ".result.json.1.part", folder.trials / "old" / "a")
    for path in leftovers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    checkpoint = folder.run(DONE).checkpoints / "epoch-0004-step-000000" / "state.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"y" * 5000)
    assert sum(part.size for part in what_can_go(sweep_status(folder))) == 3000
    assert sum(part.size for part in what_can_go(sweep_status(folder), checkpoints=True)) == 8000
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert cli.main(["clean", "s"]) == cli.INTERRUPTED
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted; the question was not answered"
    assert all(path.exists() for path in leftovers)
    assert cli.main(["clean", "s", "--yes"]) == 0
    assert "freed" in capsys.readouterr().out
    assert not any(path.exists() for path in leftovers)
    assert checkpoint.exists()
    for path, content in keep.items():
        assert path.read_bytes() == content
    assert cli.main(["clean", "s", "--yes"]) == 0
    assert "can go" in capsys.readouterr().out


def test_a_search_whose_plan_lacks_what_was_added_has_the_trials_with_results(
    folder: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """So are archives of earlier versions."""
    write_plan(folder.plan, Plan("s", "Why?", "optuna", ("t",), ()))
    (folder.trials / "unknown").mkdir()
    assert {key: trial.state for key, trial in sweep_status(folder).trials.items()} == {
        DONE: "finished",
        FAILED: "failed",
    }
    assert cli.main(["logs", "s", "bbbb"]) == 0
    assert "attempt 0: failed: ValueError: no" in capsys.readouterr().out
    assert what_can_go(sweep_status(folder)) == [], "the file of a search names no trial, so none is left over"
    write_plan(folder.plan, Plan("s", "Why?", "grid", ("t",), ()))
    assert sweep_status(folder).trials == {}, "of values that a grid's file no longer names"


def test_a_sweep_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STDCL_STORAGE", str(tmp_path / "none"))
    for words in (["status"], ["status", "x"], ["logs", "x", "y"], ["stop", "x"], ["clean", "x"]):
        assert cli.main(words) == cli.BAD_INPUT
    assert "no such sweep" in capsys.readouterr().err
