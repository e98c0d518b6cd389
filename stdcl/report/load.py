"""What is known of a sweep: its plan, its results, and how far its unfinished trials have come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from stdcl.config import RunConfig
from stdcl.config.arms import BASELINE
from stdcl.config.contrast import long_key
from stdcl.config.sweep import Sweep, load_sweep
from stdcl.errors import UserError
from stdcl.results.heartbeat import Heartbeat, read_heartbeat
from stdcl.results.importance import Importance, read_importance
from stdcl.results.layout import RunFolder, SweepFolder, what_else
from stdcl.results.plan import PlannedTrial, Search, read_plan
from stdcl.results.result import RunResult, read_result
from stdcl.results.state import State
from stdcl.results.status import Attempts, read_attempts_once, trial_status
from stdcl.results.trials import known_trials, search_of


@dataclass(frozen=True)
class TrialState:
    """One trial: one configuration and one seed.

    Attributes:
        key: its name within the sweep.
        arm: its name.
        parameters: dotted key -> value, of what the sweep varies beside its arms.
        seed: of the training.
        state: see ``results.state``.
        row: its latest result, as column -> value, without the empty ones.
        epochs_done: epochs trained so far.
        folder: the trial's folder, which need not exist.
        stated: dotted key -> value, of what its arm states.
    """

    key: str
    arm: str
    parameters: Mapping[str, Any]
    seed: int
    state: State
    row: Mapping[str, Any]
    epochs_done: int
    folder: Path
    stated: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Dotted key -> value of its whole configuration; empty where the trial's folder has none yet."""
        return _settings(RunFolder(self.folder).config)

    @cached_property
    def config(self) -> RunConfig | None:
        """Its whole configuration; None where the folder has none yet, or one of another version of stdcl."""
        path = RunFolder(self.folder).config
        if not path.exists():
            return None
        try:
            return RunConfig.model_validate(_load(path))
        except (OSError, ValueError, yaml.YAMLError):
            return None

    @cached_property
    def result(self) -> RunResult | None:
        """What its run folder holds of the complete run; None without, and where it is damaged."""
        try:
            return read_result(RunFolder(self.folder).result)
        except UserError:
            return None

    def fact(self, name: str, key: str) -> Any:
        """A fact of the result, else of what the sweep varies, else of the configuration; None when unknown."""
        value = self.row.get(name, self.parameters.get(key, self.stated.get(key)))
        return value if value is not None else self.settings.get(key)


@dataclass(frozen=True)
class SweepState:
    """A sweep and all its trials, with what a reader should be told about the reading itself."""

    directory: Path

    name: str
    question: str
    search: Search
    parameters: tuple[str, ...]
    trials: tuple[TrialState, ...]
    seeds: tuple[int, ...]
    """As they were planned before the first result."""
    importance: Importance | None
    """Of a search's parameters, where it has been computed."""
    remarks: tuple[str, ...]
    arms: tuple[str, ...] = ()
    """Those that the sweep's file states; without, an arm is named by its method."""
    reference: str = BASELINE
    """The arm that the others are compared with."""

    @cached_property
    def sweep(self) -> Sweep | None:
        """The sweep as it was last run; None where its file cannot be read any more."""
        try:
            return load_sweep(SweepFolder(self.directory).sweep_file, saved=True)
        except UserError:
            return None

    @cached_property
    def logarithmic(self) -> frozenset[str]:
        """The keys that a search draws by logarithm."""
        space = self.sweep.config.space if self.sweep is not None else {}
        return frozenset(key for key, part in space.items() if getattr(part, "log", False))

    def config_of(self, trial: TrialState) -> RunConfig | None:
        """A trial's configuration: its folder's, else what the sweep's file resolves to, else None."""
        if trial.config is not None or self.sweep is None:
            return trial.config
        if trial.key not in self._resolved:
            try:
                found = self.sweep.make_trial(trial.arm, dict(trial.parameters), trial.seed).config
            except UserError:
                found = None
            self._resolved[trial.key] = found
        return self._resolved[trial.key]

    @cached_property
    def _resolved(self) -> dict[str, RunConfig | None]:
        return {}


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML has it: a report reads a file per cell."""


def _load(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), _LOADER)


def load_sweep_state(directory: Path) -> SweepState:
    """Read a sweep's folder.

    Damaged files of results are left out and named in ``remarks``.

    Raises:
        UserError: there is no such folder, it is no sweep's, or its plan cannot be read.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; give a sweep's folder, as `stdcl sweep` made it")
    folder = SweepFolder(directory)
    plan = read_plan(folder.plan)
    if plan is None:
        other = what_else(directory, "sweep") or f"it has no {folder.plan.name}"
        raise UserError(f"{directory}: not a sweep's folder; {other}")
    remarks: list[str] = []
    attempts, driver = read_attempts_once(folder.results), read_heartbeat(folder.driver)
    remarks += [f"left out, damaged: {path} ({reason})" for path, reason in attempts.damaged.items()]
    rows = attempts.latest
    search = search_of(folder, plan)
    planned = known_trials(plan, search, rows)
    strangers = sorted(rows.keys() - planned.keys())
    if strangers:
        remarks.append(f"left out, no longer in the plan: {_listed(strangers)}")
    trials = tuple(
        _trial(folder.run(key), trial, attempts, remarks, driver, plan.arms.get(trial.arm, {}))
        for key, trial in planned.items()
    )
    importance = None
    try:
        importance = read_importance(folder.importance)
    except UserError as error:
        remarks.append(f"left out: {error}")
    return SweepState(
        directory=directory,
        name=plan.sweep,
        question=plan.question,
        search=search,
        parameters=plan.parameters or tuple(dict.fromkeys(name for each in trials for name in each.parameters)),
        trials=trials,
        seeds=plan.seeds or tuple(dict.fromkeys(trial.seed for trial in trials)),
        importance=importance,
        remarks=tuple(remarks),
        arms=tuple(plan.arms),
        reference=plan.reference,
    )


def _trial(
    folder: RunFolder,
    planned: PlannedTrial,
    attempts: Attempts,
    remarks: list[str],
    driver: Heartbeat | None,
    stated: Mapping[str, Any],
) -> TrialState:
    found = trial_status(planned, folder, attempts, remarks.append, driver=driver)
    fault = _fault(found.row) if found.state == "finished" else ""
    return TrialState(
        key=planned.key,
        arm=planned.arm,
        parameters=planned.parameters,
        seed=planned.seed,
        state="failed" if fault else found.state,
        row={**found.row, "error": fault} if fault else found.row,
        epochs_done=found.epochs_done,
        folder=folder.root,
        stated=stated,
    )


def _fault(row: Mapping[str, Any]) -> str:
    """What is wrong with a finished trial's result; empty where it can be counted."""
    accuracy, total = row.get("accuracy"), row.get("num_test")
    if not isinstance(accuracy, int | float) or not 0.0 <= accuracy <= 1.0:
        said = "none, or not a number" if accuracy is None or accuracy != accuracy else repr(accuracy)
        return f"it finished, but its result has no accuracy between 0 and 1 ({said}): not counted"
    if not isinstance(total, int | float) or total < 1:
        return "it finished, but its result does not say on how many sequences: not counted"
    return ""


def _settings(path: Path) -> dict[str, Any]:
    """Dotted key -> value of a resolved configuration; empty where the trial has none yet, or it is damaged."""
    try:
        loaded = _load(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    out: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, each in value.items():
                walk(f"{prefix}.{name}" if prefix else str(name), each)
        else:
            out[long_key(prefix)] = value

    if isinstance(loaded, dict):
        walk("", loaded)
    return out


def _listed(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
