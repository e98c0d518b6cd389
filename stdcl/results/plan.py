"""``plan.json``: the trials of a sweep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from stdcl import atomic
from stdcl.config.arms import BASELINE, present_name
from stdcl.config.contrast import long_key, long_keys
from stdcl.errors import UserError
from stdcl.results.layout import PLAN_ADDED

Search = Literal["grid", "optuna"]


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of a plan.

    Attributes:
        key: its name within the sweep.
        arm: the name of the line of the sweep's comparison that it belongs to.
        parameters: dotted key -> value, of what the sweep varies beside its arms.
        seed: of the training.
        fingerprint: of the configuration; empty where the plan does not say.
    """

    key: str
    arm: str
    parameters: Mapping[str, Any]
    seed: int
    fingerprint: str = ""


@dataclass(frozen=True)
class Plan:
    """A sweep's trials.

    Attributes:
        sweep: the sweep's name.
        question: its question.
        search: how its trials are chosen; None where the plan does not say.
        parameters: the varied keys.
        trials: those planned; of a search, those proposed so far.
        seeds: as they were before the first result, in their order; empty where the plan does not say.
        arms: the arms that the sweep's file states, each with the dotted keys that it puts over the base.
        reference: name of the arm that the others are compared with.
    """

    sweep: str
    question: str
    search: Search | None
    parameters: tuple[str, ...]
    trials: tuple[PlannedTrial, ...]
    seeds: tuple[int, ...] = ()
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reference: str = BASELINE


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan, atomically; it replaces what was added to the one before."""
    atomic.write_json(path, asdict(plan))
    _added(path).unlink(missing_ok=True)


def add_to_plan(path: Path, trial: PlannedTrial) -> None:
    """Add a trial to a plan that is there. Costs the same, however many trials it has."""
    atomic.append_line(_added(path), json.dumps(asdict(trial), ensure_ascii=False).encode("utf-8"))


def _added(path: Path) -> Path:
    return path.with_name(PLAN_ADDED)


def _added_trials(path: Path) -> list[dict[str, Any]]:
    """What was added to a plan; a last line that is still being written is left out."""
    try:
        lines = _added(path).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [dict(json.loads(line)) for line in lines]


def read_plan(path: Path) -> Plan | None:
    """Return a sweep's plan, None if it has none.

    Raises:
        UserError: the file is there, and is damaged or cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        # Of a trial that was planned again, the later line.
        named = {str(trial["key"]): trial for trial in (*content["trials"], *_added_trials(path))}
        trials = tuple(map(_trial, named.values()))
        search: Search | None = content.get("search")
        if search not in ("grid", "optuna", None):
            raise ValueError(f"search is {search!r}")
        varied = content.get("parameters") or dict.fromkeys(name for trial in trials for name in trial.parameters)
        return Plan(
            sweep=str(content.get("sweep") or path.parent.name),
            question=str(content.get("question") or ""),
            search=search,
            parameters=tuple(long_key(str(key)) for key in varied),
            trials=trials,
            seeds=tuple(int(seed) for seed in content.get("seeds") or ()),
            arms={str(name): long_keys(settings) for name, settings in (content.get("arms") or {}).items()},
            reference=str(content.get("reference") or BASELINE),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not the plan of a sweep ({type(error).__name__}: {error}); move it away, and `stdcl sweep` "
            "writes it again"
        ) from None


def _trial(content: Mapping[str, Any]) -> PlannedTrial:
    parameters = long_keys(content["parameters"])
    return PlannedTrial(
        key=str(content["key"]),
        arm=present_name(str(content["arm"]), parameters),
        parameters=parameters,
        seed=int(content["seed"]),
        fingerprint=str(content.get("fingerprint") or ""),
    )
