"""Drivers killed at random moments, again and again: what the sweep comes to is what it would have been.

``pytest -m slow -s tests/ray/test_random_kills.py`` prints the measured numbers of ``docs/results/kill_matrix.md``. A
short version: ``KILLS=3 KILL_TRIALS=12`` before it. ``KILL_SEED`` draws other moments.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from stdcl.config.sweep import OptunaConfig
from stdcl.report.table import sweep_table
from stdcl.report.wording import display
from stdcl.results.layout import SweepFolder
from stdcl.results.plan import PlannedTrial, read_plan
from stdcl.results.store import PART, read, read_attempts
from stdcl.sweep.storage import open_storage
from tests.ray.conftest import Start, finish, history
from tests.sweep.conftest import GRID, SEARCH

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KILLS", "20"))
TRIALS = int(os.environ.get("KILL_TRIALS", "100"))
SEED = int(os.environ.get("KILL_SEED", "1"))

IN_THE_START = 0.25
"""Of the kills, this part comes before the driver has started a trial."""
SECONDS = 0.03
"""Of an epoch."""

OF_ATTEMPTS = ["attempt", "command", "started", "finished", "wandb_id"]
"""Of a row: what tells how often a trial was begun, when, and by which command."""

SWEEPS: dict[str, dict[str, Any]] = {
    "grid": {
        **GRID,
        "grid": {"contrast.temperature": [round(0.2 + 0.01 * number, 2) for number in range(TRIALS // 2)]},
        "baseline": False,
    },
    "search": {
        **SEARCH,
        "name": "small",
        "base": {**SEARCH["base"], "training": {**SEARCH["base"]["training"], "epochs": 9}},
        "optuna": {"trials": TRIALS, "startup_trials": 10, "grace_epochs": 1, "reduction_factor": 3},
    },
}


def _ended(folder: SweepFolder) -> int:
    """Trials that are on record."""
    return len(list(folder.results.glob(PART)))


def _starts(folder: SweepFolder) -> int:
    return folder.log.read_text().count("  started") if folder.log.exists() else 0


def _until(process: subprocess.Popen[str], folder: SweepFolder, starts: int) -> bool:
    """Wait until the log has so many starts of trials; whether it has."""
    while _starts(folder) < starts and process.poll() is None:
        time.sleep(0.02)
    return process.poll() is None


class Killer:
    """Starts a sweep and kills its driver, until as many kills have come.

    Args:
        start: starts a driver.
        kind: of the sweep.
        at_a_time: trials.
        storage: folder of its results.
    """

    def __init__(self, start: Start, kind: str, at_a_time: int, storage: Path) -> None:
        self._start, self._content, self._storage = start, SWEEPS[kind], storage
        self._overrides = [f"max_concurrent_trials={at_a_time}"]
        self._random = random.Random(f"{SEED} {kind} {at_a_time}")
        self.folder = SweepFolder(storage / "small")
        self.kills = self.in_the_start = 0

    def begin(self) -> subprocess.Popen[str]:
        """Start the driver."""
        return self._start("sweep", self._content, self._storage, *self._overrides, seconds=SECONDS)

    def run(self, start_seconds: float, trial_seconds: float, look: Any = lambda: None) -> None:
        """Kill it ``KILLS`` times and let it end.

        Args:
            start_seconds: from a driver's beginning to its first trial.
            trial_seconds: from one trial's end to the next one's.
            look: called between two drivers.
        """
        while self.kills < KILLS:
            before = _starts(self.folder)
            process = self.begin()
            if self._random.random() < IN_THE_START:
                time.sleep(self._random.uniform(0, start_seconds))
                self.in_the_start += 1
            elif _until(process, self.folder, before + 1):
                left = (TRIALS - _ended(self.folder)) * trial_seconds
                time.sleep(self._random.uniform(0, 1.5 * left / (KILLS - self.kills + 1)))
            process.kill()
            process.wait()
            self.kills += 1
            look()
        code, text = finish(self.begin())
        assert code == 0, text


def _undisturbed(start: Start, kind: str, storage: Path) -> tuple[SweepFolder, float, float]:
    """Run a sweep to its end; return its folder, and the seconds to its first trial and of a trial."""
    killer = Killer(start, kind, 1, storage)
    begin = time.monotonic()
    process = killer.begin()
    assert _until(process, killer.folder, 1)
    first = time.monotonic()
    code, text = finish(process)
    assert code == 0, text
    return killer.folder, first - begin, (time.monotonic() - first) / TRIALS


def _table(folder: SweepFolder) -> Any:
    shown = display(sweep_table(folder.root))
    return shown.columns, shown.rows


def _rows(folder: SweepFolder) -> list[dict[str, Any]]:
    rows = read(folder.results).drop(columns=[*OF_ATTEMPTS, "more"])
    return list(rows.sort_values("key").astype(object).where(rows.notna(), None).to_dict("records"))


def _planned(folder: SweepFolder) -> tuple[PlannedTrial, ...]:
    plan = read_plan(folder.plan)
    assert plan is not None
    return plan.trials


def _epochs(folder: SweepFolder) -> dict[str, dict[int, float]]:
    """Trial -> epoch -> state after it. (The stub can write an epoch twice; never with another state.)"""
    found: dict[str, dict[int, float]] = {}
    for run in sorted(folder.trials.iterdir()):
        for row in history(run) if (run / "history.jsonl").exists() else ():
            known = found.setdefault(run.name, {}).setdefault(row["epoch"], row["value"])
            assert known == row["value"], run.name
    return found


def _study(folder: SweepFolder) -> list[FrozenTrial]:
    import optuna

    storage, _ = open_storage(OptunaConfig(trials=1), folder.study)
    return list(optuna.load_study(storage=storage, study_name="small").get_trials())


def _content(trials: list[FrozenTrial]) -> list[tuple[Any, ...]]:
    return [(t.number, t.state, t.params, t.values, t.intermediate_values, t.user_attrs) for t in trials]


def _say(kind: str, at_a_time: int, killer: Killer, said: str) -> None:
    rows = read_attempts(killer.folder.results)
    counts = ", ".join(f"{number} {status}" for status, number in rows["status"].value_counts().items())
    kills = f"{killer.kills} kills, {killer.in_the_start} of them before the first trial"
    print(f"\nMEASURED {kind}, {TRIALS} trials, {at_a_time} at a time | {kills} | {counts} | {said}", flush=True)


def _check_records(killer: Killer) -> None:
    """Every trial has one row, of its end."""
    rows = read_attempts(killer.folder.results)
    assert len(rows) == rows["key"].nunique() == TRIALS
    assert set(rows["status"]) <= {"finished", "pruned"}


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_a_grid(start: Start, tmp_path: Path, at_a_time: int) -> None:
    whole, start_seconds, trial_seconds = _undisturbed(start, "grid", tmp_path / "undisturbed")
    killer = Killer(start, "grid", at_a_time, tmp_path / "killed")
    killer.run(start_seconds, trial_seconds / at_a_time)
    _check_records(killer)
    assert _planned(killer.folder) == _planned(whole)
    assert _table(killer.folder) == _table(whole)
    assert _rows(killer.folder) == _rows(whole)
    assert _epochs(killer.folder) == _epochs(whole)
    _say("grid", at_a_time, killer, "table, rows, epochs as undisturbed")


def test_a_search(start: Start, tmp_path: Path) -> None:
    whole, start_seconds, trial_seconds = _undisturbed(start, "search", tmp_path / "undisturbed")
    killer = Killer(start, "search", 1, tmp_path / "killed")
    killer.run(start_seconds, trial_seconds)
    _check_records(killer)
    assert _content(_study(killer.folder)) == _content(_study(whole))
    assert _planned(killer.folder) == _planned(whole)
    assert _table(killer.folder) == _table(whole)
    assert _rows(killer.folder) == _rows(whole)
    assert _epochs(killer.folder) == _epochs(whole)
    _say("ASHA search", 1, killer, "study, decisions, table, rows, epochs as undisturbed")


def test_a_search_of_two_trials_at_a_time(start: Start, tmp_path: Path) -> None:
    """What is judged stays as it is, and everything is judged once."""
    killer = Killer(start, "search", 2, tmp_path / "killed")
    judged: dict[int, tuple[Any, ...]] = {}
    trained: dict[str, dict[int, float]] = {}

    def look() -> None:
        if not killer.folder.study.exists():
            return
        content = {each[0]: each for each in _content(_study(killer.folder))}
        for number, known in judged.items():
            assert content[number] == known, "judged again"
        epochs = _epochs(killer.folder)
        for key, known in trained.items():
            assert epochs[key] == known, "trained after it was judged"
        for number, each in content.items():
            if each[1].is_finished() and "trial" in each[5]:
                judged[number] = each
                trained[each[5]["trial"]] = epochs[each[5]["trial"]]

    killer.run(3.0, 9 * SECONDS, look)
    look()
    _check_records(killer)
    study = _study(killer.folder)
    assert [trial.number for trial in study] == list(range(TRIALS)), "no trial was left out or asked for again"
    assert {trial.state for trial in study} <= {TrialState.COMPLETE, TrialState.PRUNED}
    rows = {str(row["key"]): row for row in _rows(killer.folder)}
    epochs = _epochs(killer.folder)
    for trial in study:
        row = rows[trial.user_attrs["trial"]]
        decisions = {name: value for name, value in trial.user_attrs.items() if name.startswith("after epoch")}
        if trial.state == TrialState.COMPLETE:
            assert (row["status"], row["epochs"], decisions) == ("finished", 9, {})
        else:
            assert decisions == {f"after epoch {row['epochs']}": "stopped"}
            assert row["status"] == "pruned"
        assert list(epochs[row["key"]]) == list(range(1, row["epochs"] + 1))
        assert [step + 1 for step in trial.intermediate_values] == list(range(1, row["epochs"] + 1))
    _say("ASHA search", 2, killer, "everything judged once, nothing trained afterwards, every decision on record")
