"""What a sweep's trials are doing at this moment, kept in memory: counts, those that run, those that ended last.

Whatever is told or asked here costs the same, however many trials the sweep has.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stdcl.report.operation import TrialLine, live_table
from stdcl.results.progress import duration, read_progress
from stdcl.results.state import HELD, STATES, Ending, State
from stdcl.sweep.workload import Work

LAST = 30
"""Trials that ended, of which a line is kept."""


@dataclass
class _Running:
    """A trial that has begun in this invocation and not ended."""

    since: datetime
    began: float
    """Seconds, when it began or its last row came."""
    work: Work
    done: int
    has_row: bool = False
    accuracy: float | None = None


@dataclass
class _Trained:
    """Epochs of one kind that have ended."""

    seconds: float = 0.0
    amount: float = 0.0


class Board:
    """Follows the trials of one invocation.

    Args:
        name: the sweep's.
        total: trials of the whole sweep.
        before: of these, how many were finished before this invocation.
        progress_file: where the trial of a key says what it does.
        clock: seconds.
        to_run: key -> work of the trials that this invocation is to run; None where they are not known beforehand: they
            are then taken to be like those that have begun.
    """

    def __init__(
        self,
        name: str,
        total: int,
        before: int,
        progress_file: Callable[[str], Path],
        clock: Callable[[], float] = time.monotonic,
        to_run: Mapping[str, Work] | None = None,
    ) -> None:
        self._name = name
        self._total = total
        self._before = before
        self._progress_file = progress_file
        self._clock = clock
        self._running: dict[str, _Running] = {}
        self._states: Counter[Ending] = Counter()
        self._last: deque[TrialLine] = deque(maxlen=LAST)
        self._begun = self._starts = 0
        self._start_seconds = 0.0
        self._trained: dict[str, _Trained] = {}
        self._lengths = self._known = 0
        self._to_run = None if to_run is None else dict(to_run)
        self._waiting: dict[str, float] = {}
        for work in (to_run or {}).values():
            self._wait(work)

    # ---- what happens -----------------------------------------------------------------------------------------

    def begins(self, key: str, epochs: int) -> None:
        """A trial's process starts to work; told again after its process died."""
        known = self._running.get(key)
        if known is not None:
            known.began, known.has_row = self._clock(), False
            return
        work = (self._to_run or {}).get(key, Work("", epochs, 1.0))
        self._running[key] = _Running(datetime.now(UTC), self._clock(), work, work.at)
        self._begun += 1
        self._known += 1
        self._lengths += epochs
        self._wait(work, -1)

    def row(self, key: str, epochs: int, row: Mapping[str, Any]) -> None:
        """A trial has ended an epoch."""
        if key not in self._running:
            self.begins(key, epochs)
        trial, now = self._running[key], self._clock()
        took = now - trial.began
        if not trial.has_row:
            # What comes before the first epoch is no training, and comes once a trial.
            alone = min(took, float(row.get("seconds") or took))
            self._start_seconds += took - alone
            self._starts += 1
            took = alone
        trained = self._trained.setdefault(trial.work.kind, _Trained())
        trained.seconds += took
        trained.amount += trial.work.of_one_epoch
        trial.began, trial.has_row, trial.done = now, True, int(row["epoch"])
        trial.accuracy = row.get("accuracy")

    def ends(self, key: str, ending: Ending, error: str | None = None) -> None:
        """A trial's attempt has ended; one that never began can fail, too."""
        trial = self._running.pop(key, None)
        if trial is None:
            self._begun += 1
            self._wait((self._to_run or {}).get(key), -1)
        elif self._to_run is not None:
            self._to_run[key] = trial.work._replace(at=trial.done)  # should it run again
        self._states[ending] += 1
        self._last.append(
            TrialLine(
                key,
                ending,
                epoch=trial.done if trial is not None else 0,
                epochs=trial.work.epochs if trial is not None else None,
                accuracy=trial.accuracy if trial is not None else None,
                error=error.splitlines()[0] if error else None,
            )
        )

    def again(self, key: str, ending: Ending | None) -> None:
        """A trial that had ended so is to run once more; None: before this invocation, which has waited for it."""
        if ending is None:
            return
        self._begun -= 1
        self._states[ending] -= 1
        self._wait((self._to_run or {}).get(key))

    def _wait(self, work: Work | None, sign: int = 1) -> None:
        """Count what trials that have not begun are to do."""
        if work is not None:
            self._waiting[work.kind] = self._waiting.get(work.kind, 0.0) + sign * work.amount

    # ---- what is asked ----------------------------------------------------------------------------------------

    @property
    def ended(self) -> int:
        """Trials that ended, in this invocation and before."""
        return self._before + self._states.total()

    @property
    def settled(self) -> int:
        """Of these, the trials that are not held: a paused or stopped one may go on."""
        return self.ended - sum(self._states[ending] for ending in HELD)

    def running(self) -> dict[str, _Running]:
        """Return the trials that have begun and not ended."""
        return dict(self._running)

    def since(self, key: str) -> datetime | None:
        """Return when a trial that runs began."""
        trial = self._running.get(key)
        return trial.since if trial is not None else None

    def epochs_done(self, key: str) -> int:
        """Return how many epochs a trial that runs has done; 0 before its first row."""
        trial = self._running.get(key)
        return trial.done if trial is not None else 0

    def seconds_left(self) -> float | None:
        """Estimate of the seconds to the sweep's end with as many trials at a time as now; None without a ground.

        From the epochs and the starts of this invocation: by the speed of each kind of trial, for kinds that have not
        trained yet by that of all together. A search that stops trials early ends sooner. Any thread may ask.
        """
        if not self._trained:
            return None
        start = self._start_seconds / max(1, self._starts)
        running = list(self._running.values())
        left = sum(
            each.work._replace(at=each.done).amount * self._speed(each.work.kind) + (0.0 if each.has_row else start)
            for each in running
        )
        to_begin = max(0, self._total - self._before - self._begun)
        left += to_begin * start
        if self._to_run is None:
            left += to_begin * self._lengths / self._known * self._speed("")
        else:
            left += sum(max(0.0, amount) * self._speed(kind) for kind, amount in list(self._waiting.items()))
        return left / max(1, len(running))

    def _speed(self, kind: str) -> float:
        """Seconds for an amount of 1."""
        seen = list(self._trained.values()) if kind not in self._trained else [self._trained[kind]]
        return sum(each.seconds for each in seen) / sum(each.amount for each in seen)

    def render(self, width: int, height: int) -> str:
        """Return the table of a terminal of so many characters and lines."""
        running = self.running()
        numbers: Counter[State] = Counter({"running": len(running), "finished": self._before})
        numbers.update(self._states)
        counts = [f"{numbers[state]} {state}" for state in STATES if numbers[state]]
        to_begin = max(0, self._total - self.ended - len(running))
        counts += [f"{to_begin} to go"] if to_begin else []
        left = self.seconds_left()
        estimate = f"; about {duration(left)} left" if left else ""
        head = f"{self._name}: {', '.join(counts)} of {self._total}{estimate}"
        now = [self._line(key, trial) for key, trial in running.items()]
        return live_table(head, now, list(self._last), width, height)

    def _line(self, key: str, trial: _Running) -> TrialLine:
        found = read_progress(self._progress_file(key))
        if found is not None and datetime.fromtimestamp(found.updated, UTC) < trial.since:
            found = None  # of an earlier attempt
        return TrialLine(
            key,
            "running",
            epoch=trial.done,
            epochs=trial.work.epochs,
            accuracy=trial.accuracy,
            sequences_per_second=found.rate if found is not None else None,
            seconds_left=found.seconds_left if found is not None else None,
            node=found.node or None if found is not None else None,
        )
