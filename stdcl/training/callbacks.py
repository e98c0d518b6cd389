"""What happens around a training loop: the history, tracking. The loop calls every callback on every rank, in order."""

from __future__ import annotations

import logging
import math
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch

from stdcl.config import RunConfig
from stdcl.parallel.comm import Comm
from stdcl.results.history import HistoryFile
from stdcl.results.layout import RunFolder
from stdcl.results.progress import Phase, RunProgress, write_progress
from stdcl.results.row import EpochRow
from stdcl.results.scores import in_half_precision, write_scores
from stdcl.results.state import Ending
from stdcl.tracking.sink import Sinks
from stdcl.training.checkpoint import Position
from stdcl.training.components import Components
from stdcl.training.evaluate import Evaluation
from stdcl.training.scores import scores_of
from stdcl.training.state import TrainState

_log = logging.getLogger(__name__)


class Training(Protocol):
    """What a callback may read of the training around which it is called."""

    config: RunConfig
    run_dir: Path
    comm: Comm
    device: torch.device
    parts: Components
    state: TrainState


class Callback:
    """Base class: every hook does nothing.

    An exception from a hook ends the training on this rank. A hook that communicates must do so on every rank.
    """

    def on_start(self, trainer: Training, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Training is about to begin or to resume."""

    def on_step_start(self, trainer: Training, epoch: int, step: int) -> None:
        """A step's batch is ready."""

    def on_step_end(self, trainer: Training, epoch: int, step: int, steps: int) -> None:
        """A step of an epoch of ``steps`` steps is done."""

    def on_evaluate(self, trainer: Training, epoch: int) -> None:
        """An evaluation is about to begin."""

    def on_evaluate_batch(self, trainer: Training, epoch: int, done: int, total: int) -> None:
        """This rank has scored ``done`` of the ``total`` sequences of its part."""

    def on_evaluated(self, trainer: Training, epoch: int, result: Evaluation) -> None:
        """An evaluation is done, the same on every rank."""

    def on_epoch_end(self, trainer: Training, row: EpochRow) -> None:
        """An epoch has its row; its checkpoint is not written yet."""

    def on_save(self, trainer: Training, position: Position) -> None:
        """A checkpoint is about to be written."""

    def on_saved(self, trainer: Training, position: Position) -> None:
        """A checkpoint is complete."""

    def on_end(self, trainer: Training, summary: EpochRow, status: Ending) -> None:
        """Training ended as ``status`` says, or this attempt of it did."""

    def take_notices(self) -> list[str]:
        """Return what the user should be told since the last call; it reaches the driver's console with a row."""
        return []


class History(Callback):
    """The run's own record: unlike what is shown elsewhere, it must be complete, so its errors end the training.

    Args:
        file: the history file.
        on_rank_zero: runs a write on rank 0 and lets every rank learn whether it succeeded.
    """

    def __init__(self, file: HistoryFile, on_rank_zero: Callable[[Callable[[], None]], None]) -> None:
        self._file = file
        self._on_rank_zero = on_rank_zero

    def on_start(self, trainer: Training, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Keep the rows before the epoch that comes next."""
        self._on_rank_zero(lambda: self._file.truncate(facts["epochs_before"]))

    def on_epoch_end(self, trainer: Training, row: EpochRow) -> None:
        """Append a row: a checkpoint promises that the rows before it exist."""
        self._on_rank_zero(lambda: self._file.append(row))


class KeepScores(Callback):
    """Writes what each sequence scored after the last epoch, so that nothing has to be evaluated again.

    Args:
        on_rank_zero: runs a write on rank 0 and lets every rank learn whether it succeeded.
    """

    def __init__(self, on_rank_zero: Callable[[Callable[[], None]], None]) -> None:
        self._on_rank_zero = on_rank_zero

    def on_evaluated(self, trainer: Training, epoch: int, result: Evaluation) -> None:
        """Write them, in float16."""
        if epoch != trainer.config.training.epochs - 1:
            return
        run, after = RunFolder(trainer.run_dir), Position(epoch + 1, 0).name
        try:
            scores = scores_of(result, trainer.parts.data, trainer.config, run=run.name, checkpoint=after)
        except ValueError as error:  # the accuracy counts all the same
            _log.warning("%s; no %s is written", error, run.scores().name)
            return
        self._on_rank_zero(lambda: write_scores(run.scores(), in_half_precision(scores)))


PROGRESS_SECONDS = 1.0
"""How often the progress file is written at most, unless the phase changes."""


class ShowProgress(Callback):
    """Keeps ``progress.json`` up to date on rank 0; a file that cannot be written never ends a training.

    Args:
        path: the file.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._started = clock()
        self._last_written = -math.inf
        self._phase: Phase = "starting"
        self._epoch = 0
        self._done = self._total = 0
        self._pace = Pace()
        self._rate: float | None = None  # sequences per second in this phase
        self._since: float | None = None  # when the step under way, or the evaluation, began
        self._evaluation: float | None = None  # seconds of the last one

    def on_start(self, trainer: Training, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Say that the attempt has begun."""
        self._write(trainer, "starting", trainer.state.position.epoch, 0, 0)

    def on_step_start(self, trainer: Training, epoch: int, step: int) -> None:
        """Start the clock at the first step after a pause."""
        self._since = self._since or self._clock()

    def on_step_end(self, trainer: Training, epoch: int, step: int, steps: int) -> None:
        """Say how far the epoch is."""
        now = self._clock()
        self._pace.add(now - (self._since or now), steps)
        self._since = now
        self._rate = self._pace.rate(trainer.config.training.batch_size)
        self._write(trainer, "training", epoch, step + 1, steps)

    def on_evaluate(self, trainer: Training, epoch: int) -> None:
        """Say that an evaluation begins."""
        self._since, self._rate = self._clock(), None
        self._write(trainer, "evaluating", epoch, 0, trainer.parts.data.test.num_items)

    def on_evaluate_batch(self, trainer: Training, epoch: int, done: int, total: int) -> None:
        """Say how far the evaluation is; the ranks' parts are equal to one sequence."""
        items = trainer.parts.data.test.num_items
        done = min(done * trainer.comm.size, items)
        elapsed = self._clock() - (self._since or 0.0)
        self._rate = done / elapsed if elapsed > 0 else None
        self._write(trainer, "evaluating", epoch, done, items)

    def on_evaluated(self, trainer: Training, epoch: int, result: Evaluation) -> None:
        """Remember how long it took."""
        self._evaluation = self._clock() - (self._since or 0.0)

    def on_epoch_end(self, trainer: Training, row: EpochRow) -> None:
        """Stop the clock: what comes before the next step belongs to no step."""
        self._since = None

    def on_save(self, trainer: Training, position: Position) -> None:
        """Say that a checkpoint is being written."""
        self._write(trainer, "saving", self._epoch, self._done, self._total)

    def on_end(self, trainer: Training, summary: EpochRow, status: Ending) -> None:
        """Say how the attempt ended."""
        self._write(trainer, status, trainer.state.position.epoch, 0, 0)

    def _write(self, trainer: Training, phase: Phase, epoch: int, done: int, total: int) -> None:
        settings, now = trainer.config.training, self._clock()
        changed, self._phase = phase != self._phase, phase
        if phase in ("training", "evaluating"):
            self._epoch, self._done, self._total = epoch, done, total
        if trainer.comm.rank != 0 or not (changed or now - self._last_written >= PROGRESS_SECONDS):
            return
        self._last_written = now
        left = None
        if phase in ("training", "evaluating"):
            evaluations = sum(
                each == settings.epochs - 1 or (each + 1) % settings.evaluate_every == 0
                for each in range(epoch, settings.epochs)
            )
            share = 1.0 - done / total if phase == "evaluating" and total else 1.0
            left = self._pace.seconds_for(
                max(0, total - done) if phase == "training" else 0, epochs=settings.epochs - epoch - 1
            )
            if left is not None and self._evaluation is not None and evaluations:
                left += self._evaluation * (evaluations - 1 + share)
        rate = self._rate if phase in ("training", "evaluating") else None
        progress = RunProgress(
            phase, epoch, settings.epochs, done, total, rate, left, self._started, now, socket.gethostname()
        )
        with suppress(OSError):
            write_progress(self._path, progress)


class Pace:
    """Seconds per step, an average in which the latest steps count most."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._count = 0
        self._steps = 0

    def add(self, seconds: float, steps: int) -> None:
        """Count a step of an epoch of ``steps`` steps."""
        self._count += 1
        self._steps = steps
        self._seconds += (seconds - self._seconds) * max(0.05, 1 / self._count)

    def rate(self, batch_size: int) -> float | None:
        """Sequences per second; None before the first step."""
        return batch_size / self._seconds if self._seconds > 0 else None

    def seconds_for(self, steps: int, *, epochs: int) -> float | None:
        """Seconds of so many steps and whole epochs; None before the first step."""
        return self._seconds * (steps + epochs * self._steps) if self._count else None


class Tracking(Callback):
    """Shows numbers elsewhere (W&B), on rank 0; a tracker that fails never ends a training."""

    def __init__(self, sinks: Sinks) -> None:
        self._sinks = sinks

    def on_start(self, trainer: Training, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Begin an attempt."""
        self._sinks.start(settings, facts)

    def on_epoch_end(self, trainer: Training, row: EpochRow) -> None:
        """Show a row."""
        self._sinks.log_epoch(row, row["epoch"])

    def on_end(self, trainer: Training, summary: EpochRow, status: Ending) -> None:
        """End the attempt."""
        self._sinks.finish(summary, status)

    def take_notices(self) -> list[str]:
        """Return what the sinks say."""
        return self._sinks.take_notices()
