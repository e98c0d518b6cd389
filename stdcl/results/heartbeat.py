"""``driver.json``: that a sweep has a driver, where, and what it does; written again every few seconds."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

BEAT_SECONDS = 2.0
SILENT_SECONDS = 30.0
"""A driver that has not written for so long is dead. Clocks of machines may differ by less."""


@dataclass(frozen=True)
class Heartbeat:
    """A driver.

    Attributes:
        host: its machine.
        pid: its process.
        command: what was typed.
        started: seconds since 1970.
        updated: seconds since 1970, of the last beat.
        paused: it starts no trial until it is told to.
        ended: it has left in order.
        seconds_left: its estimate to the sweep's end; None without a ground.
    """

    host: str
    pid: int
    command: str
    started: float
    updated: float
    paused: bool = False
    ended: bool = False
    seconds_left: float | None = None

    def alive(self, clock: Callable[[], float] = time.time) -> bool:
        """Whether the driver lives, as far as its last beat tells."""
        return not self.ended and abs(clock() - self.updated) < SILENT_SECONDS


def first_beat(command: str, clock: Callable[[], float] = time.time) -> Heartbeat:
    """Return the beat of this process."""
    now = clock()
    return Heartbeat(socket.gethostname(), os.getpid(), command, now, now)


def write_heartbeat(path: Path, beat: Heartbeat, clock: Callable[[], float] = time.time) -> None:
    """Replace the file whole; one that cannot be written is of no harm to the sweep."""
    part = path.with_name(f".{path.name}.part")
    with suppress(OSError):
        part.write_text(json.dumps(asdict(replace(beat, updated=clock()))) + "\n", encoding="utf-8")
        part.replace(path)


def read_heartbeat(path: Path) -> Heartbeat | None:
    """Return what the file says; None where there is none, or none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Heartbeat(**{field.name: found[field.name] for field in fields(Heartbeat) if field.name in found})
    except (OSError, ValueError, KeyError, TypeError):
        return None
