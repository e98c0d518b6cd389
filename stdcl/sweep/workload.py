"""How much each trial has to train, known before it has begun: for estimates of what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from stdcl.config.sweep import Trial


class Work(NamedTuple):
    """What a trial has to do.

    Attributes:
        kind: trials of one kind take equal time for an equal amount.
        epochs: all that it has.
        of_one_epoch: the amount of one, in any unit.
        at: epochs that are behind it.
    """

    kind: str
    epochs: int
    of_one_epoch: float
    at: int = 0

    @property
    def amount(self) -> float:
        """Of the epochs that are left."""
        return max(0, self.epochs - self.at) * self.of_one_epoch


def work_of(trials: Iterable[Trial], at: Callable[[Trial], int]) -> dict[str, Work]:
    """Return key -> work: frames that the encoder sees in training, by what a frame's time depends on.

    Args:
        trials: that are to be run.
        at: the epoch that a trial goes on at or, from another run's checkpoint, begins at.
    """
    return {trial.key: _work(trial, at(trial)) for trial in trials}


def _work(trial: Trial, at: int) -> Work:
    data, config = trial.config.data, trial.config
    # Not by the sizes of the contrast: a search draws new ones for every trial, and no kind would have a second.
    kind = (config.encoder.name, data.dataset, data.protocol, config.arm, config.training.batch_size)
    return Work(" ".join(map(str, kind)), config.training.epochs, float(data.repeat * data.frames), at)
