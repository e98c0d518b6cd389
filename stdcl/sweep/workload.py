"""How much each trial has to train, known before it has begun: for estimates of what is left."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from stdcl.config.sweep import Trial


class Work(NamedTuple):
    """What a trial has to do.

    Attributes:
        kind: trials of one kind take equal time for an equal amount.
        amount: of all its epochs, in any unit.
    """

    kind: str
    amount: float


def work_of(trials: Iterable[Trial]) -> dict[str, Work]:
    """Return key -> work: frames that the encoder sees in training, by what a frame's time depends on."""
    return {trial.key: _work(trial) for trial in trials}


def _work(trial: Trial) -> Work:
    data, config = trial.config.data, trial.config
    # Not by the sizes of the contrast: a search draws new ones for every trial, and no kind would have a second.
    kind = (config.encoder.name, data.dataset, data.protocol, config.arm, config.training.batch_size)
    return Work(" ".join(map(str, kind)), float(config.training.epochs * data.repeat * data.frames))
