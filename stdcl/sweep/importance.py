"""How much each parameter of a search matters, with its uncertainty; the report reads the result as data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from stdcl.config.contrast import long_keys
from stdcl.results.importance import LEAST, Importance, Share

_RESAMPLED = 100


def importance(study: optuna.Study, seed: int = 0, objective: int = 0) -> Importance | None:
    """Return each parameter's importance by PED-ANOVA (Watanabe et al., IJCAI 2023), None with fewer than 8 trials.

    It sees complete trials alone; those that were stopped early are counted and left out. The range is that over
    studies of as many trials, drawn from these with replacement.

    Args:
        study: the study.
        seed: of the draws.
        objective: for which it is, where there are several.
    """
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    trials = [_judged_by(trial, objective) for trial in complete]
    # A parameter under a condition has no share of the whole: Optuna compares what all trials have.
    keys = sorted(set.intersection(*(set(trial.params) for trial in trials))) if trials else []
    if len(trials) < LEAST or not keys:
        return None
    direction = study.directions[objective]
    rng = np.random.default_rng(seed)
    drawn = [
        _shares(direction, [trials[i] for i in rng.integers(0, len(trials), len(trials))]) for _ in range(_RESAMPLED)
    ]
    known = [shares for shares in drawn if shares]
    whole = _shares(direction, trials)
    if not whole or not known:
        return None
    ranges = {key: np.quantile([shares.get(key, 0.0) for shares in known], [0.05, 0.95]) for key in keys}
    parameters = {key: Share(whole.get(key, 0.0), float(ranges[key][0]), float(ranges[key][1])) for key in keys}
    pruned = sum(trial.state == TrialState.PRUNED for trial in study.trials)
    return Importance("PED-ANOVA", len(trials), pruned, long_keys(parameters))


def _judged_by(trial: FrozenTrial, objective: int) -> FrozenTrial:
    if len(trial.values) == 1:
        return trial
    return create_trial(params=trial.params, distributions=trial.distributions, value=trial.values[objective])


def _shares(direction: StudyDirection, trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Importances of a study of these trials; empty where they cannot be told apart."""
    again = optuna.create_study(direction=direction, storage=optuna.storages.InMemoryStorage())
    again.add_trials(trials)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            evaluator = PedAnovaImportanceEvaluator()
            return {
                key: float(v) for key, v in optuna.importance.get_param_importances(again, evaluator=evaluator).items()
            }
    except (ValueError, RuntimeError, ZeroDivisionError):  # all values equal, for example
        return {}
