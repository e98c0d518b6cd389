"""The states of a trial, and of an attempt that ended: one vocabulary for files, tables, tracking and the console."""

from __future__ import annotations

from typing import Literal, get_args

Ending = Literal["finished", "pruned", "failed", "interrupted", "paused", "stopped"]
"""How an attempt ended.

``finished``: trained to its last epoch. ``pruned``: stopped early by the scheduler, which has judged it. ``failed``: an
error; the next invocation tries again. ``interrupted``: cut off, or asked to be done again; the next invocation goes
on. ``paused``, ``stopped``: ended on request; no invocation goes on before ``stdcl unpause``, ``stdcl retry``.
"""

State = Literal["not started", "running", "finished", "pruned", "failed", "interrupted", "paused", "stopped"]
"""Of a trial: how its latest attempt ended, or that it runs, or that it has not begun."""

ENDINGS: tuple[Ending, ...] = get_args(Ending)

STATES: tuple[State, ...] = (
    "finished",
    "pruned",
    "failed",
    "running",
    "interrupted",
    "paused",
    "stopped",
    "not started",
)
"""In the order in which they are counted."""

UNFINISHED: tuple[State, ...] = ("running", "interrupted", "paused", "stopped")
"""States of a trial that has begun and was not judged."""

HELD: tuple[Ending, ...] = ("paused", "stopped")
"""States in which an invocation leaves a trial alone."""


def state_of(
    ending: Ending | None, *, complete: bool, running: bool, begun: bool, asked: Ending | None = None
) -> State:
    """Return a trial's state.

    Args:
        ending: of the latest attempt on record; None without one.
        complete: its run folder holds a result: what counts, whatever else is on record.
        running: a process trains it at this moment.
        begun: its run folder holds something of a training.
        asked: how its attempts are to end (``results.ask``): ``paused`` and ``stopped`` hold it, ``interrupted`` asks
            for another attempt; without them, it is held no more.
    """
    if complete:
        return "finished"
    if running:
        return "running"
    if asked is not None and asked in HELD:
        return asked
    if asked == "interrupted" or ending in HELD:
        return "interrupted"
    if ending is not None:
        return ending
    return "interrupted" if begun else "not started"
