"""What a sweep will cost, said before it is paid: hours, wall time, disk and memory, cell by cell."""

from __future__ import annotations

import heapq
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stdcl.config.checkpoints import show_size
from stdcl.config.paths import data_path
from stdcl.config.sweep import Sweep
from stdcl.data.info import test_sequences
from stdcl.data.store import MANIFEST_FILE
from stdcl.results.progress import duration

Ground = Literal["recorded", "other processor", "probed", "scaled", "none"]
"""Of a number: earlier runs of the same kind, here or on another processor; steps measured now; a measured setting and
the encoders' operations."""
OTHER: Ground = "other processor"
START_ALONE = 2.0
START_GROUP = 15.0
"""Seconds of a trial in which nothing is trained, in round numbers: with one worker, and with several."""

_NUMBERS = 38
"""Columns of a forecast's line beside a cell's name and its ground."""
_NARROWEST = 20


def prepared_test_parts(sweep: Sweep) -> dict[tuple[str, str], tuple[int, ...] | int | None]:
    """Return, by dataset and protocol, the test sequences of prepared data, see ``what_seeds_can_show``.

    Benchmarks that are not prepared here are left out; None stands for a synthetic corpus that is not made yet.

    Raises:
        UserError: a store is damaged, or lacks a protocol.
    """
    found: dict[tuple[str, str], tuple[int, ...] | int | None] = {}
    for trial in sweep.trials():
        data = trial.config.data
        where, place = (data.dataset, str(data.protocol)), data_path(data.path)
        if where in found or data.evaluate_on != "test":
            continue
        if (place / MANIFEST_FILE).exists():
            found[where] = test_sequences(place, where[1])
        elif data.synthetic is not None:
            found[where] = None
    return found


@dataclass(frozen=True)
class CellCost:
    """One cell of a sweep.

    Attributes:
        name: what it varies.
        trials: that are still to be trained.
        epochs: that these have left, all together.
        epoch_seconds: of one epoch as the trial sees it, whatever it shares; None where nothing is known.
        memory_mib: per worker; None where nothing is known.
        ground: where both come from.
    """

    name: str
    trials: int
    epochs: int
    epoch_seconds: float | None
    memory_mib: float | None
    ground: Ground


@dataclass(frozen=True)
class Forecast:
    """What is left of a sweep.

    Attributes:
        name: the sweep's.
        cells: in its order.
        workers: of a trial.
        cpus: per worker.
        gpus: per worker.
        at_once: trials at a time.
        where: on which machines.
        cores: of the machine, where the workers of one trial share it; None where each has its own (a cluster).
        disk: bytes of checkpoints at the end, and at most; None where the data are not there.
        at_most: whether trials may be stopped early.
        elsewhere: trials that equal finished runs of other sweeps, and will be taken over.
    """

    name: str
    cells: tuple[CellCost, ...]
    workers: int
    cpus: float
    gpus: float
    at_once: int
    where: str
    cores: float | None = None
    disk: tuple[int, int] | None = None
    at_most: bool = False
    elsewhere: int = 0

    @property
    def trials(self) -> int:
        return sum(cell.trials for cell in self.cells)

    @property
    def epochs(self) -> int:
        return sum(cell.epochs for cell in self.cells)

    def _lengths(self) -> list[float] | None:
        """Seconds of each trial; None where one is not known."""
        lengths: list[float] = []
        start = START_ALONE if self.workers == 1 else START_GROUP
        for cell in self.cells:
            if cell.trials and cell.epoch_seconds is None:
                return None
            each = (cell.epoch_seconds or 0.0) * cell.epochs / max(1, cell.trials)
            lengths += [each + start] * cell.trials
        return lengths

    @property
    def trial_hours(self) -> float | None:
        """Hours of all trials one after another; None where one is not known."""
        lengths = self._lengths()
        return None if lengths is None else sum(lengths) / 3600

    @property
    def hours(self) -> float | None:
        """GPU-hours of a sweep on GPUs, else core-hours."""
        return None if self.trial_hours is None else self.trial_hours * self.held

    @property
    def held(self) -> float:
        """GPUs, else cores, that a trial holds while it runs; workers that share cores hold no more than there are."""
        wanted = self.workers * (self.gpus or self.cpus)
        return wanted if self.gpus or self.cores is None else min(wanted, self.cores)

    @property
    def wall_seconds(self) -> float | None:
        """Seconds from the start to the end, each free place taking the next trial."""
        lengths = self._lengths()
        return None if lengths is None else makespan(lengths, self.at_once)

    @property
    def unit(self) -> str:
        return "GPU-hours" if self.gpus else "core-hours"


def makespan(lengths: Sequence[float], places: int) -> float:
    """Return when the last of the works ends, each taken in order by the place that is free first."""
    free = [0.0] * max(1, places)
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return max(free)


def render_forecast(forecast: Forecast, most: int = 30, columns: int = 80) -> str:
    """Return it as text of at most so many columns, where no single setting of a cell is longer."""
    f, about = forecast, "at most" if forecast.at_most else "about"
    lines = [f"{f.name}: {f.trials} trial(s) to train, {f.epochs} epochs"]
    if f.elsewhere:
        lines.append(f"  taken over  {f.elsewhere} more, from equal finished runs of other sweeps")
    if f.hours is None or f.wall_seconds is None:
        lines.append("  time      not known: no earlier run is of this kind, and nothing was measured")
    else:
        lines += [
            f"  {f.unit:<10}  {about} {f.hours:.2f}",
            f"  wall time   {about} {duration(f.wall_seconds)} with {f.at_once} trial(s) at a time on {f.where}",
        ]
    if f.disk is not None:
        lines.append(f"  disk        {show_size(f.disk[0])} of checkpoints at the end, {show_size(f.disk[1])} at most")
    memory = [cell.memory_mib for cell in f.cells if cell.trials and cell.memory_mib is not None]
    if memory:
        lines.append(f"  memory      about {max(memory) / 1024:.1f} GiB per worker, {f.workers} worker(s) a trial")
    shown = f.cells[:most]
    room = max(_NARROWEST, columns - _NUMBERS - max([4, *(len(cell.ground) for cell in shown)]))
    names = [textwrap.wrap(cell.name, room, break_long_words=False, break_on_hyphens=False) or [""] for cell in shown]
    width = max([4, *(len(line) for name in names for line in name)])
    lines += ["", f"  {'cell':<{width}}  trials  epochs  s/epoch  {'hours':>7}  from"]
    for cell, (first, *more) in zip(shown, names, strict=True):
        known = cell.epoch_seconds is not None
        seconds = f"{cell.epoch_seconds:7.2f}" if cell.epoch_seconds is not None else "      -"
        hours = f"{(cell.epoch_seconds or 0) * cell.epochs * f.held / 3600:7.2f}"
        lines.append(
            f"  {first:<{width}}  {cell.trials:6d}  {cell.epochs:6d}  {seconds}  {hours if known else '      -'}"
            f"  {cell.ground}"
        )
        lines += [f"    {line}" for line in more]
    if len(f.cells) > most:
        lines.append(f"  and {len(f.cells) - most} more cell(s)")
    return "\n".join(lines)
