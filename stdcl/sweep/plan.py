"""The plan of a sweep: its trials, and the rule that a sweep that exists may grow but not change its question."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stdcl import atomic
from stdcl.config.load import read_mapping
from stdcl.config.space import OptunaConfig
from stdcl.config.sweep import Sweep, SweepConfig, Trial
from stdcl.config.yaml_text import dump_yaml
from stdcl.errors import UserError
from stdcl.results.layout import SweepFolder
from stdcl.results.plan import Plan, PlannedTrial, add_to_plan, read_plan
from stdcl.results.plan import write_plan as write_plan_file
from stdcl.results.store import PART

_FREE = (
    "name",
    "question",
    "table",
    "resources",
    "checkpoints",
    "max_concurrent_trials",
    "retries",
    "optuna.trials",
    "seeds",
    "grid",
    "cells",
    "exclude",
    "arms",
    "baseline",
    "paths",
    "warm_start",
    "confirms.judged",
    "confirms.arms",
    "confirms.base",
)
"""Keys that may differ between two runs of a sweep, or that have a rule of their own below."""

_FREE_IN_BASE = (
    "data.path",
    "tracking",
    "training.checkpoint_every",
    "training.checkpoint_every_steps",
    "contrast.exchange",
    "method.exchange",
)
"""Keys of the base that cannot change a result."""


def write_plan(folder: SweepFolder, sweep: Sweep, trials: Sequence[Trial]) -> None:
    """Write the plan (``plan.json``)."""
    planned = map(_planned, trials)
    config = sweep.config
    plan = Plan(
        config.name,
        config.question,
        config.search,
        tuple(sweep.parameters),
        tuple(planned),
        _seeds(folder, sweep),
        config.arms,
        sweep.reference,
    )
    write_plan_file(folder.plan, plan)


def add_trial(folder: SweepFolder, trial: Trial) -> None:
    """Add a trial that a search proposes to the plan."""
    add_to_plan(folder.plan, _planned(trial))


def _planned(trial: Trial) -> PlannedTrial:
    return PlannedTrial(trial.key, trial.arm, trial.parameters, trial.seed, trial.fingerprint)


def _seeds(folder: SweepFolder, sweep: Sweep) -> tuple[int, ...]:
    """The seeds as they were planned before the first result: those added later are no part of the plan."""
    old = read_plan(folder.plan)
    if old is None or next(folder.results.glob(PART), None) is None:
        return tuple(sweep.config.seeds)
    return old.seeds or tuple(dict.fromkeys(trial.seed for trial in old.trials))


def write_sweep(folder: SweepFolder, sweep: Sweep) -> None:
    """Write the sweep as it is run (``sweep.yaml``)."""
    text = dump_yaml(sweep.config.model_dump(mode="json"))
    atomic.write_text(folder.sweep_file, text)


def check_same_question(folder: SweepFolder, sweep: Sweep) -> bool:
    """Return whether ``folder`` holds the sweep already; check that what it holds is this sweep or a part of it.

    Seeds, values of a grid, arms, the baseline and the number of a search's trials may be added, and values of a grid
    and arms left out (their trials stay on the disk and leave the table). Anything else that changes what is measured
    needs a new name: one table must not mix two questions.

    Raises:
        UserError: with a line for each difference.
    """
    if not folder.sweep_file.exists():
        return False
    # Keys that the version had not which wrote the folder have their defaults, here and in the section of a search.
    old = {**_defaults(), **read_mapping(folder.sweep_file)}
    new = sweep.config.model_dump(mode="json")
    if isinstance(old.get("optuna"), Mapping) and new.get("optuna"):
        old = {**old, "optuna": {**OptunaConfig().model_dump(mode="json"), **old["optuna"]}}
    if (was := str(old.get("name"))) != sweep.config.name and sweep.config.search == "optuna":
        back = shlex.join(["mv", str(folder.root), str(folder.root.with_name(was))])
        raise UserError(
            f"{folder.root}: this folder was renamed: it holds the search '{was}', and its study has that name. "
            f"Rename it back: {back}"
        )
    faults = [
        *_changes(_asked(old), _asked(new)),
        *_lost("seeds", old.get("seeds", []), new["seeds"]),
        *_grid_changes(old.get("grid", {}), new["grid"]),
        *_arm_changes(old.get("arms", {}), new["arms"]),
    ]
    if (began := old.get("warm_start") or []) != new["warm_start"]:
        faults.append(f"warm_start: was {began}, is {new['warm_start']}: a search keeps the history that it began with")
    if old.get("baseline") and not new["baseline"]:
        faults.append("baseline: was true, is false")
    if not faults:
        faults = _trial_changes(folder, sweep)
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        raise UserError(
            f"{sweep.where}: the sweep '{sweep.config.name}' exists in {folder.root} and asks something else:\n"
            f"{lines}\n"
            "Give the new question another name (--set name=...), or take the change back. "
            "Seeds, values of the grid, arms, the baseline and optuna.trials may be added, values of the grid and arms "
            "left out."
        )
    return True


def left_out(folder: SweepFolder, trials: Sequence[Trial]) -> list[str]:
    """Return the keys of trials that the sweep planned before and does not plan any more."""
    plan = read_plan(folder.plan)
    now = {trial.key for trial in trials}
    return [trial.key for trial in plan.trials if trial.key not in now] if plan is not None else []


def _defaults() -> dict[str, Any]:
    fields = SweepConfig.model_fields
    return {
        key: field.get_default(call_default_factory=True)
        for key, field in fields.items()
        if key not in _FREE and not field.is_required()
    }


def _asked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flat keys of a sweep that say what is measured; a base's key that the sweep varies says nothing."""
    varied = [
        *config.get("grid", {}),
        *config.get("space", {}),
        *(key for cell in config.get("cells", []) for key in cell),
    ]
    return {key: value for key, value in _flat(config, _FREE).items() if key.removeprefix("base.") not in varied}


def _flat(config: Mapping[str, Any], free: Sequence[str], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in config.items():
        path = f"{prefix}{key}"
        if path in free:
            continue
        if path == "base":
            out.update({f"base.{k}": v for k, v in _flat(value, _FREE_IN_BASE).items()})
        elif isinstance(value, Mapping):
            out.update(_flat(value, free, f"{path}."))
        else:
            out[path] = value
    return out


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys((*old, *new)):
        if old.get(key) != new.get(key):
            was, now = (f"{side[key]!r}" if key in side else "not given" for side in (old, new))
            yield f"{key}: was {was}, is {now}"


def _lost(key: str, old: Sequence[Any], new: Sequence[Any]) -> Iterator[str]:
    gone = [value for value in old if value not in new]
    if gone:
        yield f"{key}: {', '.join(map(str, gone))} left out, which the sweep has"


def _grid_changes(old: Mapping[str, Sequence[Any]], new: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    if set(old) != set(new):
        yield f"grid: varied {', '.join(old) or 'nothing'}, varies {', '.join(new) or 'nothing'}"


def _arm_changes(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if bool(old) != bool(new):
        yield f"arms: were {', '.join(old) or 'not stated'}, are {', '.join(new) or 'not stated'}"
        return
    for name in old:
        if name in new and dict(old[name]) != dict(new[name]):
            yield f"arms: '{name}' was {dict(old[name])}, is {dict(new[name])}; a new arm needs a name of its own"


def _trial_changes(folder: SweepFolder, sweep: Sweep) -> list[str]:
    """The same file can mean something else: another recipe, or new defaults in another version."""
    plan = read_plan(folder.plan)
    now = {(trial.arm, _frozen(trial.parameters), trial.seed): trial for trial in sweep.trials()}
    faults = []
    for trial in plan.trials if plan is not None else ():
        same = now.get((trial.arm, _frozen(trial.parameters), trial.seed))
        if same is not None and same.fingerprint != trial.fingerprint:
            faults.append(
                f"{trial.key}: resolves to another configuration ({same.fingerprint}) than before "
                f"({trial.fingerprint}): a recipe or a default has changed"
            )
    return faults


def _frozen(parameters: Mapping[str, Any]) -> str:
    return json.dumps(parameters, sort_keys=True)
