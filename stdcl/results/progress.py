"""``progress.json``: what a run is doing at this moment, for other processes to read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from stdcl.results.state import ENDINGS, Ending

Active = Literal["starting", "training", "evaluating", "saving"]
Phase = Active | Ending
"""What a run with a process does, or how its attempt ended."""

ACTIVE: tuple[Active, ...] = get_args(Active)
PHASES: tuple[Phase, ...] = (*ACTIVE, *ENDINGS)


@dataclass(frozen=True)
class RunProgress:
    """The state of an attempt. A process that was killed leaves its last one: compare ``updated`` with the clock.

    Attributes:
        phase: see ``Phase``.
        epoch: the epoch under way, from 0.
        epochs: of the whole run.
        done: steps (``training``) or sequences (``evaluating``) that are done in this epoch.
        total: of how many.
        rate: sequences per second in the current phase; None where nothing was measured yet.
        seconds_left: estimate for the rest of the run; None where nothing was measured yet.
        started: when this attempt began, seconds since 1970.
        updated: when this was written, seconds since 1970.
        node: the machine of rank 0; empty where the file does not say.
    """

    phase: Phase
    epoch: int
    epochs: int
    done: int
    total: int
    rate: float | None
    seconds_left: float | None
    started: float
    updated: float
    node: str = ""

    def render(self) -> str:
        """Return it as one line without a name."""
        if self.phase == "starting":
            return f"epoch {min(self.epoch + 1, self.epochs)}/{self.epochs}  starting"
        if self.phase not in ACTIVE:
            return f"{self.phase} after epoch {self.epoch}/{self.epochs}"
        unit = {"training": "step", "evaluating": "evaluation, sequence", "saving": "checkpoint after step"}[self.phase]
        parts = [f"epoch {self.epoch + 1}/{self.epochs}", f"{unit} {self.done}/{self.total}"]
        if self.rate is not None:
            parts.append(f"{self.rate:.3g} sequences/s" if self.rate < 100 else f"{self.rate:.0f} sequences/s")
        if self.seconds_left is not None:
            parts.append(f"about {duration(self.seconds_left)} left")
        return "  ".join(parts)


def duration(seconds: float) -> str:
    """Return ``1:02:03`` or ``2:03``."""
    whole = int(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def write_progress(path: Path, progress: RunProgress) -> None:
    """Replace the file whole. It is not flushed to the disk: after a power cut nobody needs it.

    Raises:
        OSError: it could not be written.
    """
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(asdict(progress)) + "\n", encoding="utf-8")
    part.replace(path)


def read_progress(path: Path) -> RunProgress | None:
    """Return what the file says; None where there is none, or none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in fields(RunProgress)}
        progress = RunProgress(**{name: value for name, value in found.items() if name in known})
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return progress if progress.phase in PHASES else None


def reopen_progress(path: Path, clock: Callable[[], float] = time.time) -> None:
    """Say that another attempt begins, where the file is of an earlier one: its own processes are yet to start."""
    found = read_progress(path)
    if found is not None:
        now = clock()
        begun = replace(found, phase="starting", rate=None, seconds_left=None, started=now, updated=now, node="")
        with suppress(OSError):
            write_progress(path, begun)


def close_progress(path: Path, phase: Phase, clock: Callable[[], float] = time.time) -> None:
    """Say how an attempt ended whose processes were stopped before they could: nothing, if the file says already."""
    found = read_progress(path)
    if found is not None and found.phase in ACTIVE:
        with suppress(OSError):
            write_progress(path, replace(found, phase=phase, rate=None, seconds_left=None, updated=clock()))


SILENT_SECONDS = 60.0
"""Without a change for so long, a run's line says for how long."""


def follow_run(path: Path, before: str, clock: Callable[[], float] = time.time) -> Callable[[], str]:
    """Return a function that gives a run's line each time it is called.

    Args:
        path: the progress file; what it says at this moment is of an earlier attempt.
        before: shown until the run itself says something.
        clock: seconds since 1970, of this machine.
    """
    begun, last = clock(), read_progress(path)
    seen = begun

    def line() -> str:
        nonlocal last, seen
        now, found = clock(), read_progress(path)
        if found is not None and found != last:
            last, seen = found, now
        if seen == begun or last is None:
            return f"{before} ({duration(now - begun)})"
        silent = f"  (no news for {duration(now - seen)})" if now - seen >= SILENT_SECONDS else ""
        return f"{last.render()}{silent}"

    return line
