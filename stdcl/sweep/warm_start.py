"""What earlier sweeps found, as the beginning of a search's history: comparable results alone, and why others are not.

A result is comparable where the search would have trained the very same with those values: every key that can change a
result is equal but the searched ones and the seed, whose values lie in the space; and the data are the same. Held-out
subjects, metric and encoder are among these keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from stdcl.config import RunConfig
from stdcl.config.contrast import short_key
from stdcl.config.fingerprint import differing_keys, flat_scientific
from stdcl.config.space import Choices, Parameter, applies, ordered
from stdcl.config.sweep import Sweep
from stdcl.errors import UserError
from stdcl.report.load import SweepState, load_sweep_state
from stdcl.report.load import TrialState as TrialFacts
from stdcl.results.history import read_history
from stdcl.results.layout import RunFolder
from stdcl.sweep.sampling import study_space
from stdcl.training.checkpoint import dataset_hash

FROM = "warm start from"
"""Attribute of trials that an earlier sweep trained: its name and the trial's."""
RECORD = "warm start"
"""Attribute of a study whose beginning is complete: sweep -> how many of its trials were taken."""
_NAMED = 3


@dataclass(frozen=True)
class Beginning:
    """What one earlier sweep gives.

    Attributes:
        sweep: its name.
        trials: what the study is given, in the sweep's order.
        left_out: reason -> how many trials.
    """

    sweep: str
    trials: tuple[FrozenTrial, ...]
    left_out: dict[str, int]

    def render(self) -> str:
        """Return a sentence."""
        total = len(self.trials) + sum(self.left_out.values())
        said = f"warm start: {len(self.trials)} of {total} trials of '{self.sweep}' are taken"
        reasons = "; ".join(f"{number} {reason}" for reason, number in self.left_out.items())
        return f"{said}; left out: {reasons}" if reasons else said


class _NotComparable(Exception):
    """Why a trial is left out."""


def collect(sweep: Sweep, storage: Path, content_hash: Callable[[str], str]) -> list[Beginning]:
    """Return what the sweeps that a search's file names give it.

    Args:
        sweep: the search.
        storage: folder of all results, in which sweeps are looked for by name.
        content_hash: of the data at a path.

    Raises:
        UserError: a named sweep is not there, or is the search itself.
    """
    seen = set[tuple[str, int]]()
    return [_of_sweep(sweep, load_sweep_state(folder), content_hash, seen) for folder in sources(sweep, storage)]


def sources(sweep: Sweep, storage: Path) -> list[Path]:
    """Return the folders of the sweeps that a search's file names.

    Raises:
        UserError: one is not there, or is the search itself.
    """
    found = [Path(name) if Path(name).is_dir() else storage / name for name in sweep.config.warm_start]
    for name, folder in zip(sweep.config.warm_start, found, strict=True):
        if folder.absolute() == (storage / sweep.config.name).absolute():
            raise UserError(f"{sweep.where}: warm_start: '{name}' is the search itself; its own trials are continued")
        if not folder.is_dir():
            raise UserError(f"{sweep.where}: warm_start: there is no sweep '{name}' in {storage}")
    return found


def add(study: optuna.Study, sweep: Sweep, beginnings: Callable[[], Sequence[Beginning]]) -> list[str]:
    """Let a study begin with earlier results, once; a study that has begun keeps what it began with.

    Args:
        study: the study.
        sweep: the search.
        beginnings: gives the results.

    Returns:
        What to say, a line for each sweep.
    """
    if not sweep.config.warm_start:
        return []
    record = study.user_attrs.get(RECORD)
    if record is not None:
        return [f"warm start: the study began with {number} trials of '{name}'" for name, number in record.items()]
    found = beginnings()
    # A driver that was killed here has added some.
    there = {each.user_attrs.get(FROM) for each in study.get_trials(deepcopy=False)}
    for beginning in found:
        study.add_trials([trial for trial in beginning.trials if trial.user_attrs[FROM] not in there])
    study.set_user_attr(RECORD, {beginning.sweep: len(beginning.trials) for beginning in found})
    return [beginning.render() for beginning in found]


def _of_sweep(
    sweep: Sweep, state: SweepState, content_hash: Callable[[str], str], seen: set[tuple[str, int]]
) -> Beginning:
    trials: list[FrozenTrial] = []
    left_out: Counter[str] = Counter()
    for trial in state.trials:
        try:
            trials.append(_taken(sweep, state, trial, content_hash, seen))
        except _NotComparable as reason:
            left_out[str(reason)] += 1
    return Beginning(state.name, tuple(trials), dict(left_out))


def _taken(
    sweep: Sweep, state: SweepState, trial: TrialFacts, content_hash: Callable[[str], str], seen: set[tuple[str, int]]
) -> FrozenTrial:
    objectives = sweep.config.search_settings.objectives
    pruned = trial.state == "pruned" and len(objectives) == 1
    if trial.state != "finished" and not pruned:
        raise _NotComparable("stopped early" if trial.state == "pruned" else "not finished")
    if trial.row.get("evaluated_on") != "validation":
        raise _NotComparable("judged on the test set")
    config = state.config_of(trial)
    if config is None:
        raise _NotComparable("without a readable configuration")
    parameters = _values(config, sweep)
    ours = sweep.make_trial("", parameters, config.training.seed)
    different = sorted(differing_keys(flat_scientific(config), flat_scientific(ours.config)))
    if different:
        more = f" and {len(different) - _NAMED} more" if len(different) > _NAMED else ""
        raise _NotComparable(f"with another {', '.join(different[:_NAMED])}{more}")
    trained_on = trial.row.get("data_hash") or dataset_hash(RunFolder(trial.folder).checkpoints)
    if not trained_on:
        raise _NotComparable("on data that nothing names")
    if trained_on != content_hash(ours.config.data.path):
        raise _NotComparable("on other data")
    if (ours.fingerprint, trial.seed) in seen:
        raise _NotComparable("taken before")
    curve = {
        int(row["epoch"]) - 1: float(row["accuracy"])
        for row in read_history(RunFolder(trial.folder).history)
        if row.get("accuracy") is not None
    }
    if pruned and not curve:
        raise _NotComparable("without a history")
    values = None if pruned else _objectives(trial, objectives)
    seen.add((ours.fingerprint, trial.seed))
    space = study_space(sweep.config.space).distributions
    short = {short_key(key): value for key, value in parameters.items()}
    return create_trial(
        state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
        params=short,
        distributions={name: space[name] for name in short},
        values=values,
        intermediate_values=curve if len(objectives) == 1 else {},
        user_attrs={FROM: f"{state.name}: {trial.key}"},
    )


def _objectives(trial: TrialFacts, objectives: Sequence[str]) -> list[float]:
    found: dict[str, Any] = {
        "accuracy": trial.row.get("accuracy"),
        "seconds_per_epoch": trial.row.get("seconds_per_epoch"),
    }
    values = [found[name] for name in objectives]
    if any(value is None for value in values):
        raise _NotComparable("without its times")
    return [float(value) for value in values if value is not None]


def _values(config: RunConfig, sweep: Sweep) -> dict[str, Any]:
    """The searched parameters' values in a configuration."""
    space, whole = sweep.config.space, config.model_dump(mode="json")
    out: dict[str, Any] = {}
    for key in ordered(space):
        if not applies(space[key].condition, out):
            continue
        value = _at(whole, key)
        if not _holds(space[key], value):
            raise _NotComparable(f"with {key} outside the space")
        out[key] = value
    return out


def _at(whole: Any, key: str) -> Any:
    for part in key.split("."):
        whole = whole.get(part) if isinstance(whole, dict) else None
    return whole


def _holds(parameter: Parameter, value: Any) -> bool:
    if isinstance(parameter, Choices):
        return value in parameter.values
    if not isinstance(value, int | float) or isinstance(value, bool) or not parameter.low <= value <= parameter.high:
        return False
    step = getattr(parameter, "step", None)
    return step is None or (isinstance(value, int) and (value - int(parameter.low)) % step == 0)
