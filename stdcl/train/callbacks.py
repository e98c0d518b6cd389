"""What happens around a training loop: the history, tracking. The loop calls every callback on every rank, in order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from stdcl.config import RunConfig
from stdcl.parallel.comm import Comm
from stdcl.results.history import HistoryFile
from stdcl.results.layout import RunFolder
from stdcl.results.row import EpochRow
from stdcl.results.scores import in_half_precision, write_scores
from stdcl.tracking.sink import Sinks
from stdcl.train.checkpoint import Position
from stdcl.train.components import Components
from stdcl.train.evaluate import Evaluation
from stdcl.train.scores import scores_of
from stdcl.train.state import TrainState

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

    def on_evaluated(self, trainer: Training, epoch: int, result: Evaluation) -> None:
        """An evaluation is done, the same on every rank."""

    def on_epoch_end(self, trainer: Training, row: EpochRow) -> None:
        """An epoch has its row; its checkpoint is not written yet."""

    def on_save(self, trainer: Training, position: Position) -> None:
        """A checkpoint is about to be written."""

    def on_saved(self, trainer: Training, position: Position) -> None:
        """A checkpoint is complete."""

    def on_end(self, trainer: Training, summary: EpochRow, status: str) -> None:
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

    def on_end(self, trainer: Training, summary: EpochRow, status: str) -> None:
        """End the attempt."""
        self._sinks.finish(summary, status)

    def take_notices(self) -> list[str]:
        """Return what the sinks say."""
        return self._sinks.take_notices()
