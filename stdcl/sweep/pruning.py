"""Asynchronous successive halving (ASHA; Li et al. 2020, arXiv:1810.05934) from the curves in the study alone.

The rule is that of Optuna's ``SuccessiveHalvingPruner``, decision for decision. That one writes rungs into the study
before its decision is carried out, so that a process killed in between lets a stopped trial go on, and it counts a
failed trial beside its repetition. Here a decision is read off the reported values, and so can be taken again.
"""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from stdcl.config.space import OptunaConfig

EPOCHS = "epochs"
"""Attribute of trials that are trained for another time than the study's others."""


def epochs_of(trial: FrozenTrial, otherwise: int) -> int:
    """Return the epochs of a trial's whole training."""
    return int(trial.user_attrs.get(EPOCHS, otherwise))


def rung_of(epochs: int, grace: int, factor: int) -> bool:
    """Whether trials are compared after so many epochs: at ``grace * factor**k``."""
    rung = grace
    while rung < epochs:
        rung *= factor
    return rung == epochs


def goes_on(value: float, values: Sequence[float], factor: int) -> bool:
    """Whether a trial is among the best ``len(values) // factor`` (at least one) of its rung.

    Args:
        value: its own.
        values: of all that came to the rung, its own included.
        factor: the reduction factor.
    """
    best = max(1, len(values) // factor)
    return value >= sorted(values)[-best]


class RungPruner(BasePruner):  # type: ignore[misc]
    """Stops a trial that is not among the best at its rung so far; higher values are better.

    Args:
        grace: epochs of the first rung.
        factor: between one rung and the next; one of so many trials goes on.
        epochs: of a whole training, at whose end nothing is stopped; a trial's own attribute ``EPOCHS`` is stronger.
    """

    def __init__(self, grace: int, factor: int, epochs: int) -> None:
        self._grace, self._factor, self._epochs = min(grace, epochs), factor, epochs

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether ``trial`` is to be stopped after the last epoch that it reported (step = epoch - 1)."""
        step = trial.last_step
        if (
            step is None
            or step + 1 >= epochs_of(trial, self._epochs)
            or not rung_of(step + 1, self._grace, self._factor)
        ):
            return False
        value = trial.intermediate_values[step]
        others = (
            other.intermediate_values[step]
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number
            and other.state != TrialState.FAIL  # it is repeated, or never came to its end
            and step in other.intermediate_values
        )
        return not goes_on(value, [*others, value], self._factor)


class MedianPruner(BasePruner):  # type: ignore[misc]
    """Optuna's median rule, which lets a trial that came to its end be.

    Args:
        startup: complete trials before any is stopped.
        grace: epochs that every trial may run.
        epochs: of a whole training; a trial's own attribute ``EPOCHS`` is stronger.
    """

    def __init__(self, startup: int, grace: int, epochs: int) -> None:
        self._epochs = epochs
        self._rule = optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=grace - 1)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether ``trial`` is to be stopped after the last epoch that it reported (step = epoch - 1)."""
        step = trial.last_step
        if step is None or step + 1 >= epochs_of(trial, self._epochs):
            return False
        return bool(self._rule.prune(study, trial))


def make_pruner(config: OptunaConfig, epochs: int) -> BasePruner:
    """Return the pruner that a sweep's file names; ``epochs`` of a whole training."""
    if config.scheduler == "asha":
        return RungPruner(config.grace_epochs, config.reduction_factor, epochs)
    if config.scheduler == "median":
        return MedianPruner(config.startup_trials, config.grace_epochs, epochs)
    return optuna.pruners.NopPruner()
