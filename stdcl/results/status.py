"""The state of each trial of a sweep: the one reader of plan, store of results, run folders and progress files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from stdcl.errors import UserError
from stdcl.results.ask import read_ask
from stdcl.results.heartbeat import Heartbeat, read_heartbeat
from stdcl.results.history import read_history
from stdcl.results.layout import RunFolder, SweepFolder
from stdcl.results.plan import Plan, PlannedTrial, read_plan
from stdcl.results.progress import ACTIVE, RunProgress, read_progress
from stdcl.results.result import RunResult, read_result
from stdcl.results.state import ENDINGS, Ending, State, state_of
from stdcl.results.store import PARAMETER_PREFIX, TrialRow, as_record, attempts_by_name, latest, scan, slug
from stdcl.results.trials import known_trials, search_of

FRESH_SECONDS = 120.0
"""A progress file that says 'training' and is older is of a process that was killed."""


@dataclass
class Attempts:
    """A store of results, read once: what is asked of it afterwards does not depend on its size.

    Attributes:
        latest: key -> the row of the trial's latest attempt, without empty cells; parameters as a dictionary.
        count: key -> number of its next attempt, from 0.
        damaged: files that cannot be read, with the reason.
    """

    latest: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)
    damaged: dict[Path, str] = field(default_factory=dict)

    def add(self, row: TrialRow) -> None:
        """Count an attempt that was appended meanwhile."""
        self.latest[row.key] = _facts(as_record(row))
        self.count[row.key] = row.attempt + 1


def read_attempts_once(directory: Path, leave_out: Collection[str] = ()) -> Attempts:
    """Read a store of results.

    Args:
        directory: the store's folder.
        leave_out: keys of trials whose attempts are counted, not read.

    Raises:
        UserError: a file was written by a newer version of stdcl.
    """
    found = scan(directory, leave_out={slug(key) for key in leave_out})
    rows: dict[str, Mapping[str, Any]] = {
        str(row["key"]): row for row in map(_facts, latest(found.rows).to_dict("records"))
    }
    count = {key: int(row["attempt"]) + 1 for key, row in rows.items()}
    if leave_out:
        named = attempts_by_name(directory)
        count |= {key: named.get(slug(key), 0) for key in leave_out}
    return Attempts(rows, count, found.damaged)


@dataclass(frozen=True)
class TrialStatus:
    """What is known of one trial.

    Attributes:
        state: see ``results.state``.
        row: its latest attempt, as column -> value without empty cells; for a complete run that is not in the store
            yet, what its own result says; empty without either.
        epochs_done: epochs trained so far.
        attempts: attempts that ended.
        progress: what it is doing, while it runs.
        has_folder: whether its run folder is there.
    """

    state: State
    row: Mapping[str, Any]
    epochs_done: int
    attempts: int
    progress: RunProgress | None
    has_folder: bool


def trial_status(
    planned: PlannedTrial,
    folder: RunFolder,
    attempts: Attempts,
    remark: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.time,
    driver: Heartbeat | None = None,
) -> TrialStatus:
    """Return what is known of a planned trial.

    Args:
        planned: the trial.
        folder: its run folder, which need not exist.
        attempts: the sweep's store.
        remark: told what had to be left out.
        clock: seconds since 1970.
        driver: the last beat of the sweep's driver: where it has ended, so have its trials.
    """
    has_folder = folder.root.is_dir()
    progress = read_progress(folder.progress) if has_folder else None
    running = progress is not None and progress.phase in ACTIVE and clock() - progress.updated < FRESH_SECONDS
    running = running and (driver is None or driver.alive(clock))
    row = attempts.latest.get(planned.key, {})
    result = _result(folder, remark) if has_folder else None
    if result is not None and row.get("status") != "finished":
        row = _as_row(result)
    has = row.get("fingerprint")
    if planned.fingerprint and has and planned.fingerprint != has:
        remark(
            f"left out, of another configuration than the plan's: {planned.key} ({has}, planned {planned.fingerprint})"
        )
        row, result = {}, None
    state = state_of(
        ending_of(row),
        complete=result is not None,
        running=running,
        asked=read_ask(folder.ask) if has_folder else None,
        begun=has_folder and (folder.history.exists() or folder.checkpoints.exists()),
    )
    counted_row = state in ("finished", "failed", "pruned") and row.get("epochs") is not None
    epochs = int(row["epochs"]) if counted_row else _epochs_done(folder, remark)
    return TrialStatus(
        state, row, epochs, attempts.count.get(planned.key, 0), progress if running else None, has_folder
    )


@dataclass(frozen=True)
class SweepStatus:
    """What is known of a sweep and of each of its trials.

    Attributes:
        folder: the sweep's.
        plan: as it was written.
        trials: key -> status, in the plan's order; for a search of those proposed so far (``results.trials``).
        driver: the last beat of its driver; None if it never had one.
        remarks: what had to be left out.
    """

    folder: SweepFolder
    plan: Plan
    trials: Mapping[str, TrialStatus]
    driver: Heartbeat | None
    remarks: tuple[str, ...]

    def seconds_left(self, clock: Callable[[], float] = time.time) -> float | None:
        """Estimate of the seconds to the sweep's end, with as many trials at a time as run now; None without a ground.

        The driver's, which knows what each trial has to train. Without one a trial takes as long as the finished ones
        did (their median), else as the running ones will.
        """
        if self.driver is not None and self.driver.alive(clock) and self.driver.seconds_left is not None:
            return max(0.0, self.driver.seconds_left - (clock() - self.driver.updated))
        running = [each.progress for each in self.trials.values() if each.progress is not None]
        todo = sum(each.state in ("not started", "interrupted", "failed") for each in self.trials.values())
        took = [float(each.row["total_seconds"]) for each in self.trials.values() if each.row.get("total_seconds")]
        took = took or [each.updated - each.started + each.seconds_left for each in running if each.seconds_left]
        if not took and (todo or running):
            return None
        each_takes = median(took) if took else 0.0
        left = [each_takes if each.seconds_left is None else each.seconds_left for each in running]
        return (sum(left) + todo * each_takes) / max(1, len(running))


def sweep_status(folder: SweepFolder, clock: Callable[[], float] = time.time) -> SweepStatus:
    """Read the state of every trial of a sweep. Costs the same for each trial, however many there are.

    Raises:
        UserError: it is no sweep's folder, or its plan cannot be read.
    """
    plan = read_plan(folder.plan)
    if plan is None:
        raise UserError(f"{folder.root}: not a sweep's folder (it has no {folder.plan.name})")
    remarks: list[str] = []
    complete = [trial.key for trial in plan.trials if folder.run(trial.key).result.exists()]
    attempts = read_attempts_once(folder.results, leave_out=complete)
    remarks += [f"left out, damaged: {path} ({reason})" for path, reason in attempts.damaged.items()]
    driver = read_heartbeat(folder.driver)
    trials = {
        key: trial_status(trial, folder.run(key), attempts, remarks.append, clock, driver)
        for key, trial in known_trials(plan, search_of(folder, plan), attempts.latest).items()
    }
    return SweepStatus(folder, plan, trials, driver, tuple(remarks))


def ending_of(row: Mapping[str, Any]) -> Ending | None:
    """Return how a row's attempt ended; None for a row that does not say."""
    status = row.get("status")
    return next((ending for ending in ENDINGS if ending == status), None)


def counted(states: Iterable[State], order: Iterable[State]) -> str:
    """Return how many trials are in each state, for example ``2 finished, 1 failed``."""
    found = list(states)
    numbers = {state: found.count(state) for state in order}
    return ", ".join(f"{number} {state}" for state, number in numbers.items() if number)


def _result(folder: RunFolder, remark: Callable[[str], None]) -> RunResult | None:
    try:
        return read_result(folder.result)
    except UserError as error:
        remark(f"left out: {error}")
        return None


def _as_row(result: RunResult) -> dict[str, Any]:
    """A complete training's own result, for a sweep that was killed before its row was in the store."""
    row = result.row
    found = {
        "status": "finished",
        "accuracy": float(row["accuracy"]),
        "num_test": int(row["num_test"]),
        "epochs": row["epoch"],
        **{name: row.get(name) for name in ("best_accuracy", "best_epoch", "total_seconds")},
        **{name: getattr(result, name) for name in ("fingerprint", "code_version", "data_hash", "workers")},
    }
    return {name: value for name, value in found.items() if value not in (None, "")}


def _epochs_done(folder: RunFolder, remark: Callable[[str], None]) -> int:
    try:
        return len(read_history(folder.history))
    except UserError as error:
        remark(str(error))
        return 0


def _facts(record: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of the store without its empty cells and flat copies; parameters as a dict."""
    out: dict[str, Any] = {}
    for name, value in record.items():
        if name.startswith(PARAMETER_PREFIX) or (pd.api.types.is_scalar(value) and pd.isna(value)):
            continue
        out[str(name)] = value.item() if hasattr(value, "item") else value
    for name in ("parameters", "more"):
        out[name] = json.loads(out.get(name) or "{}")
    return out
