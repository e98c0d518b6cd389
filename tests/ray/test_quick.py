"""Sweeps on a real Ray: one with a worker group, one in reused processes, and going on after a failure."""

from __future__ import annotations

import signal
from pathlib import Path

from stdcl.results.store import read_attempts
from tests.ray.conftest import Start, finish, history, read_until
from tests.sweep.conftest import GRID

TWO = {**GRID, "grid": {"contrast.temperature": [0.5]}, "baseline": False, "seeds": [1, 2], "resources": {"workers": 2}}


def test_a_group_serves_one_trial_after_another_and_a_killed_worker_costs_nothing(start: Start, tmp_path: Path) -> None:
    """Tune trial -> Ray Train -> two gloo ranks, which train seed 1, then 2; there rank 1 is killed in epoch 3."""
    stub = {"kill": [1, 3], "struck_seeds": [2], "seconds": 0.3}
    code, text = finish(start("sweep", {**TWO, "max_concurrent_trials": 1}, tmp_path / "storage", **stub))
    assert code == 0, text
    assert text.count("workers lost, starting again from the last checkpoint") == 1
    sweep = tmp_path / "storage" / "small"
    first, second = sorted((sweep / "trials").iterdir())
    assert not (first / "accident").exists()
    assert (second / "accident").exists()
    rows, later = history(first), history(second)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["epoch"] for row in later] == [1, 2, 3, 4, 5, 6], "no epoch twice, none missing"
    assert rows[-1]["value"] == later[-1]["value"] == 6 * 3.0, "as undisturbed: each epoch adds 1 + 2 over the ranks"
    pids = [row["pid"] for row in (*rows, *later)]
    assert len(set(pids[:8])) == len(set(pids[8:])) == 1, "the group was kept for the second trial"
    assert pids[7] != pids[8], "and started again there"
    attempts = read_attempts(sweep / "results").to_dict("records")
    assert [(row["status"], row["workers"], row["epochs"]) for row in attempts] == [("finished", 2, 6)] * 2
    assert not list((sweep / "tune" / "train").glob("*")), "Ray Train's files are gone"


def test_failures_are_recorded_and_the_same_command_goes_on(start: Start, tmp_path: Path) -> None:
    """Trials of one worker; those of seed 2 fail in their second epoch until the fault is mended."""
    storage, secret = tmp_path / "storage", "s3cr3t-0123456789"
    environment = {"WANDB_API_KEY": secret}
    code, text = finish(start("sweep", GRID, storage, fail_seeds=[2], environment=environment))
    assert code == 1, text
    assert text.count("FAILED: ValueError: a fault in seed 2") == 3
    assert "3 trial(s) failed" in text
    sweep = storage / "small"
    attempts = read_attempts(sweep / "results")
    assert sorted(attempts["status"]) == ["failed"] * 3 + ["finished"] * 3
    failed = attempts[attempts["status"] == "failed"]
    assert set(failed["error"]) == {"ValueError: a fault in seed 2"}
    pids = {row["pid"] for run in (sweep / "trials").iterdir() for row in history(run)}
    assert len(pids) <= 4, "processes are reused"

    (storage / "mended").touch()
    # Whoever reads goes away, and the terminal with him: the sweep goes on, and its log says the rest.
    process = start("sweep", GRID, storage, "seeds=[1, 2, 3]", fail_seeds=[2], environment=environment)
    assert f"log: {sweep / 'sweep.log'}" in read_until(process, "started")
    assert process.stdout is not None
    process.stdout.close()
    process.send_signal(signal.SIGHUP)
    code, text = process.wait(), (sweep / "sweep.log").read_text()
    assert code == 0, text
    assert text.count("  finished  ") == 3 + 6
    assert "9 trials, 3 finished before" in text
    attempts = read_attempts(sweep / "results")
    assert len(attempts) == 6 + 6
    assert set(attempts[attempts["seed"] == 2]["attempt"]) == {0, 1}
    for run in (sweep / "trials").iterdir():
        assert [row["epoch"] for row in history(run)] == [1, 2, 3, 4, 5, 6], run.name
    for file in storage.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file

    code, text = finish(start("sweep", GRID, storage, "seeds=[1, 2, 3]"))
    assert code == 0, text
    assert "9 trials, 9 finished before" in text
    code, text = finish(start("sweep", GRID, storage, "training.epochs=9"))
    assert code == 2, text
    assert "base.training.epochs: was 6, is 9" in text
