"""What a sweep's trials are doing, as text and as plain values: ``stdcl status``, ``stdcl logs``."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from stdcl.results.history import read_history
from stdcl.results.progress import duration
from stdcl.results.state import STATES, State
from stdcl.results.status import SweepStatus, TrialStatus, counted
from stdcl.results.steering import command_of
from stdcl.results.store import scan
from stdcl.results.wording import describe_epoch, describe_result

_LONGEST_ERROR = 100
_PLAIN_RATE = 1000.0
"""Sequences per second, from which on a rate has no decimals or powers of ten."""
_HEAD_LINES = 2
TO_GO_ON = "to go on:"
"""Before the command, where no driver runs."""
_TITLES = ("state", "epoch", "accuracy", "seq/s", "left", "node", "attempts", "trial")


@dataclass(frozen=True)
class TrialLine:
    """What a line says of a trial; None for what is not known.

    Attributes:
        trial: its key.
        state: see ``results.state``.
        epoch: epochs that it has done.
        epochs: of the whole training.
        accuracy: of its last evaluated epoch, a fraction.
        sequences_per_second: at which it trains now, or has trained.
        seconds_left: estimate for the rest of the training.
        node: the machine of rank 0, while it runs.
        attempts: attempts that ended; None where nobody counts them.
        error: the first line of the last error of a trial that failed.
    """

    trial: str
    state: State
    epoch: int
    epochs: int | None = None
    accuracy: float | None = None
    sequences_per_second: float | None = None
    seconds_left: float | None = None
    node: str | None = None
    attempts: int | None = None
    error: str | None = None

    def cells(self) -> dict[str, str]:
        """Return title of a column -> text."""
        of = f"/{self.epochs}" if self.epochs else ""
        rate = self.sequences_per_second
        return {
            "state": self.state,
            "epoch": f"{self.epoch}{of}" if self.epoch or of else "-",
            "accuracy": "-" if self.accuracy is None else f"{100 * self.accuracy:.2f} %",
            "seq/s": "-" if rate is None else f"{rate:.3g}" if rate < _PLAIN_RATE else f"{rate:.0f}",
            "left": "-" if self.seconds_left is None else duration(self.seconds_left),
            "node": self.node or "-",
            "attempts": "-" if self.attempts is None else str(self.attempts),
            "trial": self.trial,
        }


def trial_line(status: SweepStatus, key: str) -> TrialLine:
    """Return what is known of a trial as its line."""
    trial = status.trials[key]
    progress = trial.progress
    row = _latest_row(status, key, trial)
    error = str(trial.row.get("error") or "").strip() if trial.state == "failed" else ""
    return TrialLine(
        key,
        trial.state,
        epoch=trial.epochs_done,
        epochs=progress.epochs if progress is not None else None,
        accuracy=row.get("accuracy"),
        sequences_per_second=progress.rate if progress is not None else trial.row.get("throughput"),
        seconds_left=progress.seconds_left if progress is not None else None,
        node=progress.node or None if progress is not None else None,
        attempts=trial.attempts,
        error=error.splitlines()[0] if error else None,
    )


def render_lines(lines: Sequence[TrialLine], leave_out: Collection[str] = ()) -> list[str]:
    """Return lines below a header, in columns; those of ``leave_out`` are not shown."""
    cells = [line.cells() for line in lines]
    titles = [title for title in _TITLES if title not in leave_out]
    rows = [titles, *([row[title] for title in titles] for row in cells)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(titles))]
    out = []
    for row, error in zip(rows, [None, *(line.error for line in lines)], strict=True):
        text = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        out.append(f"{text.rstrip()}{f'  {error[:_LONGEST_ERROR]}' if error else ''}")
    return out


def live_table(head: str, running: Sequence[TrialLine], ended: Sequence[TrialLine], width: int, height: int) -> str:
    """Return a table for a terminal, in which it is drawn again in place.

    Args:
        head: the sweep as a whole; may take two lines.
        running: trials that run; as many as there is room for are shown.
        ended: those that ended, the latest last; shown in what room is left.
        width: characters of a line.
        height: lines.
    """
    top = textwrap.wrap(head, width)[:_HEAD_LINES]
    room = max(1, height - len(top) - 1)
    now = running if len(running) <= room else running[: room - 1]
    hidden = len(running) - len(now)
    left = 0 if hidden else room - len(now)
    shown = [*(ended[-left:] if left else ()), *now]
    nodes = {line.node for line in now if line.node}
    body = render_lines(shown, ("attempts",) if len(nodes) > 1 else ("attempts", "node")) if shown else []
    body += [f"and {hidden} more that run"] if hidden else []
    return "\n".join(line if len(line) <= width else f"{line[: width - 3]}..." for line in [*top, *body])


def watched_status(status: SweepStatus, width: int, height: int, clock: Callable[[], float] = time.time) -> str:
    """Return a sweep's status as ``live_table``: what runs, and what ended last."""
    running = [key for key, trial in status.trials.items() if trial.state == "running"]
    ended = [key for key, trial in status.trials.items() if trial.state not in ("running", "not started")]
    ended.sort(key=lambda key: _when(status.trials[key]))
    head = f"{status.plan.sweep}: {_whole(status, clock)}"
    now, before = ([trial_line(status, key) for key in keys] for keys in (running, ended[-height:]))
    return live_table(head, now, before, width, height)


def _when(trial: TrialStatus) -> float:
    when = trial.row.get("finished")
    return when.timestamp() if isinstance(when, datetime) else 0.0


def status_json(status: SweepStatus, clock: Callable[[], float] = time.time) -> dict[str, Any]:
    """Return a sweep's status as plain values."""
    beat = status.driver
    return {
        **_summary(status, clock),
        "folder": str(status.folder.root),
        "driver": None if beat is None else {"host": beat.host, "pid": beat.pid, "command": beat.command},
        "trials": [asdict(trial_line(status, key)) for key in status.trials],
        "remarks": list(status.remarks),
    }


def sweeps_json(found: Sequence[SweepStatus], clock: Callable[[], float] = time.time) -> list[dict[str, Any]]:
    """Return the status of several sweeps, without their trials, as plain values."""
    return [{**_summary(status, clock), "folder": str(status.folder.root)} for status in found]


def render_status(status: SweepStatus, clock: Callable[[], float] = time.time, width: int = 80) -> str:
    """One line per trial, below what the sweep as a whole does, in lines of a width."""
    lines = [*textwrap.wrap(f"{status.plan.sweep}: {status.plan.question}", width, subsequent_indent="  ")]
    said, mark, command = _whole(status, clock).partition(f"{TO_GO_ON} ")
    lines += textwrap.wrap(f"{said}{mark}".rstrip(), width, subsequent_indent="  ", break_on_hyphens=False)
    # A command is copied: it is not broken.
    if command and len(lines[-1]) + 1 + len(command) <= width:
        lines[-1] += f" {command}"
    elif command:
        lines.append(f"  {command}")
    lines += [f"folder: {status.folder.root}", ""]
    lines += render_lines([trial_line(status, key) for key in status.trials])
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
    searched = "validation" if status.plan.search == "optuna" else "test"  # until its row says it
    on = str(trial.row.get("evaluated_on") or searched)
    for epoch in read_history(run.history):
        lines.append(f"epoch {epoch['epoch']:>3}  {describe_epoch(epoch, on)}")
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
        "seconds_left": status.seconds_left(clock),
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
    left = status.seconds_left(clock)
    running = any(trial.state == "running" for trial in status.trials.values())
    estimate = f"; about {duration(left)} left" if left and running else ""
    go_on = ""
    if not (beat is not None and beat.alive(clock)) and any(
        trial.state in ("not started", "interrupted", "failed") for trial in status.trials.values()
    ):
        go_on = f"; {TO_GO_ON} {command_of(status)}"
    return f"{said}{estimate}; {driver}{go_on}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _latest_row(status: SweepStatus, key: str, trial: TrialStatus) -> dict[str, Any]:
    """The numbers of a trial's last evaluated epoch."""
    if trial.state in ("finished", "pruned") or not trial.has_folder:
        return dict(trial.row)
    rows = [row for row in read_history(status.folder.run(key).history) if row.get("accuracy") is not None]
    return dict(rows[-1]) if rows else {}
