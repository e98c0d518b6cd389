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
        epochs: of a whole training, at whose end nothing is stopped.
    """

    def __init__(self, grace: int, factor: int, epochs: int) -> None:
        self._grace, self._factor, self._epochs = min(grace, epochs), factor, epochs

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether ``trial`` is to be stopped after the last epoch that it reported (step = epoch - 1)."""
        step = trial.last_step
        if step is None or step + 1 >= self._epochs or not rung_of(step + 1, self._grace, self._factor):
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
