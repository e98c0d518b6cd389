"""What a sweep's trials are doing, as text and as plain values: ``stdcl status``, ``stdcl logs``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from stdcl.results.history import read_history
from stdcl.results.progress import duration
from stdcl.results.state import STATES
from stdcl.results.status import SweepStatus, TrialStatus, counted
from stdcl.results.steering import command_of
from stdcl.results.store import scan
from stdcl.results.wording import describe_epoch, describe_result

_LONGEST_ERROR = 100


def trial_values(status: SweepStatus, key: str) -> dict[str, Any]:
    """Return what a line of the status says of a trial; None for what is not known."""
    trial = status.trials[key]
    progress = trial.progress
    row = _latest_row(status, key, trial)
    error = str(trial.row.get("error") or "").strip() if trial.state == "failed" else ""
    return {
        "trial": key,
        "state": trial.state,
        "epoch": trial.epochs_done,
        "epochs": progress.epochs if progress is not None else None,
        "accuracy": row.get("accuracy"),
        "sequences_per_second": progress.rate if progress is not None else trial.row.get("throughput"),
        "seconds_left": progress.seconds_left if progress is not None else None,
        "node": progress.node if progress is not None else None,
        "attempts": trial.attempts,
        "error": error.splitlines()[0] if error else None,
    }


def status_json(status: SweepStatus, clock: Callable[[], float] = time.time) -> dict[str, Any]:
    """Return a sweep's status as plain values."""
    beat = status.driver
    return {
        **_summary(status, clock),
        "folder": str(status.folder.root),
        "driver": None if beat is None else {"host": beat.host, "pid": beat.pid, "command": beat.command},
        "trials": [trial_values(status, key) for key in status.trials],
        "remarks": list(status.remarks),
    }


def sweeps_json(found: Sequence[SweepStatus], clock: Callable[[], float] = time.time) -> list[dict[str, Any]]:
    """Return the status of several sweeps, without their trials, as plain values."""
    return [{**_summary(status, clock), "folder": str(status.folder.root)} for status in found]


def render_status(status: SweepStatus, clock: Callable[[], float] = time.time) -> str:
    """One line per trial, below what the sweep as a whole does."""
    lines = [f"{status.plan.sweep}: {status.plan.question}", _whole(status, clock), f"folder: {status.folder.root}", ""]
    header = ("state", "epoch", "accuracy", "seq/s", "left", "node", "attempts", "trial")
    rows = [header]
    errors = []
    for key in status.trials:
        said = trial_values(status, key)
        of = f"/{said['epochs']}" if said["epochs"] else ""
        rows.append(
            (
                said["state"],
                f"{said['epoch']}{of}" if said["epoch"] or of else "-",
                "-" if said["accuracy"] is None else f"{100 * said['accuracy']:.2f} %",
                "-" if said["sequences_per_second"] is None else f"{said['sequences_per_second']:.3g}",
                "-" if said["seconds_left"] is None else duration(said["seconds_left"]),
                said["node"] or "-",
                str(said["attempts"]),
                key,
            )
        )
        errors.append(said["error"])
    widths = [max(len(row[place]) for row in rows) for place in range(len(header))]
    for row, error in zip(rows, [None, *errors], strict=True):
        cells = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        lines.append(f"{cells.rstrip()}{f'  {error[:_LONGEST_ERROR]}' if error else ''}")
    lines += [f"! {remark}" for remark in status.remarks]
    return "\n".join(lines)


def render_sweeps(found: Sequence[SweepStatus], clock: Callable[[], float] = time.time) -> str:
    """One line per sweep."""
    width = max(len(status.folder.root.name) for status in found)
    return "\n".join(f"{status.folder.root.name:<{width}}  {_whole(status, clock)}" for status in found)


def render_trial(status: SweepStatus, key: str) -> str:
    """Everything that is known of one trial: attempts, errors with their traces, epochs, what it does now."""
    trial, run = status.trials[key], status.folder.run(key)
    lines = [f"{key}: {trial.state}", f"folder: {run.root}"]
    attempts = scan(status.folder.results, key).rows.to_dict("records")
    for row in attempts:
        when = row.get("finished")
        at = f" at {when:%Y-%m-%d %H:%M:%S} UTC" if isinstance(when, datetime) and when == when else ""
        error = row.get("error")
        lines.append(f"attempt {row['attempt']}: {row['status']}{at}{f': {error}' if isinstance(error, str) else ''}")
        trace = _trace(row.get("more"))
        lines += [f"    {line}" for line in trace.splitlines()]
    for epoch in read_history(run.history):
        lines.append(f"epoch {epoch['epoch']:>3}  {describe_epoch(epoch)}")
    if trial.state == "finished":
        lines.append(f"finished  {describe_result(trial.row)}")
    if trial.progress is not None:
        lines.append(f"now: {trial.progress.render()}{f'  on {trial.progress.node}' if trial.progress.node else ''}")
    return "\n".join(lines)


def _trace(more: Any) -> str:
    return str(json.loads(more).get("trace", "")) if isinstance(more, str) and more else ""


def _summary(status: SweepStatus, clock: Callable[[], float]) -> dict[str, Any]:
    states = [trial.state for trial in status.trials.values()]
    beat = status.driver
    return {
        "sweep": status.plan.sweep,
        "running": beat is not None and beat.alive(clock),
        "paused": beat is not None and beat.alive(clock) and beat.paused,
        "states": {state: states.count(state) for state in STATES if state in states},
        "seconds_left": status.seconds_left(),
    }


def _whole(status: SweepStatus, clock: Callable[[], float]) -> str:
    beat = status.driver
    if beat is None or not beat.alive(clock):
        driver = "no driver runs"
        if beat is not None and not beat.ended:
            driver = f"its driver (process {beat.pid} on {beat.host}) has not been heard of since {_time(beat.updated)}"
    else:
        paused = ", paused (stdcl unpause)" if beat.paused else ""
        driver = f"driver: process {beat.pid} on {beat.host} since {_time(beat.started)}{paused}"
    said = counted((trial.state for trial in status.trials.values()), STATES) or "no trial"
    left = status.seconds_left()
    running = any(trial.state == "running" for trial in status.trials.values())
    estimate = f"; about {duration(left)} left" if left and running else ""
    go_on = ""
    if not (beat is not None and beat.alive(clock)) and any(
        trial.state in ("not started", "interrupted", "failed") for trial in status.trials.values()
    ):
        go_on = f"; to go on: {command_of(status)}"
    return f"{said}{estimate}; {driver}{go_on}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _latest_row(status: SweepStatus, key: str, trial: TrialStatus) -> dict[str, Any]:
    """The numbers of a trial's last evaluated epoch."""
    if trial.state in ("finished", "pruned") or not trial.has_folder:
        return dict(trial.row)
    rows = [row for row in read_history(status.folder.run(key).history) if row.get("accuracy") is not None]
    return dict(rows[-1]) if rows else {}
