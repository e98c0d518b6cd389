"""Search spaces: conditions, corners, and what Optuna does not support."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stdcl.config.space import OptunaConfig, applies, ordered
from stdcl.config.sweep import Sweep, load_sweep
from stdcl.errors import UserError
from tests.sweep.conftest import SEARCH

STRATEGY, TAU = "contrast.strategy", "contrast.temperature"
CONDITIONAL: dict[str, Any] = {
    "contrast.weight_spatial": {
        "type": "float",
        "low": 0.5,
        "high": 1.0,
        "when": {STRATEGY: ["spatial", "spatial+temporal"]},
    },
    STRATEGY: {"type": "choices", "values": ["spatial", "temporal", "spatial+temporal"]},
    TAU: {"type": "float", "low": 0.2, "high": 2.0},
}


def _load(tmp_path: Path, space: dict[str, Any], base: dict[str, Any] | None = None, **more: Any) -> Sweep:
    file = tmp_path / "search.yaml"
    file.write_text(yaml.safe_dump({**SEARCH, "space": space, "base": base or SEARCH["base"], **more}))
    return load_sweep(file)


def test_a_parameter_under_a_condition_is_proposed_behind_it_and_only_there(tmp_path: Path) -> None:
    space = _load(tmp_path, CONDITIONAL).config.space
    assert ordered(space) == [STRATEGY, TAU, "contrast.weight_spatial"]
    condition = space["contrast.weight_spatial"].condition
    assert applies(condition, {STRATEGY: "spatial"})
    assert not applies(condition, {STRATEGY: "temporal"})
    assert not applies(condition, {}), "nothing holds before it is known"


def test_corners_touch_every_end_under_every_condition(tmp_path: Path) -> None:
    trials = _load(tmp_path, CONDITIONAL).boundary_trials()
    found = [tuple(trial.parameters.get(key) for key in (STRATEGY, "contrast.weight_spatial", TAU)) for trial in trials]
    assert found == [
        ("spatial", 0.5, 0.2),
        ("spatial", 1.0, 2.0),
        ("temporal", None, 0.2),
        ("temporal", None, 2.0),
        ("spatial+temporal", 0.5, 0.2),
        ("spatial+temporal", 1.0, 2.0),
    ]


def test_conditions_may_stand_on_conditions(tmp_path: Path) -> None:
    space = {
        "encoder": {"type": "choices", "values": ["ctrgcn", "hcn"]},
        "encoder.hook": {"type": "choices", "values": ["final", "mid"], "when": {"encoder": "hcn"}},
        "encoder.dropout": {"type": "float", "low": 0.1, "high": 0.5, "when": {"encoder.hook": "mid"}},
    }
    base = {key: value for key, value in SEARCH["base"].items() if key != "encoder"}
    trials = _load(tmp_path, space, base).boundary_trials()
    assert [trial.parameters for trial in trials] == [
        {"encoder.name": "ctrgcn"},
        {"encoder.name": "hcn", "encoder.hook": "final"},
        {"encoder.name": "hcn", "encoder.hook": "mid", "encoder.dropout": 0.1},
        {"encoder.name": "hcn", "encoder.hook": "mid", "encoder.dropout": 0.5},
    ], "the short name of an axis is its dotted key, also in a condition"


def test_a_search_over_encoders_and_datasets_never_sees_a_test_set(tmp_path: Path) -> None:
    space = {
        "encoder": {"type": "choices", "values": ["ctrgcn", "hcn"]},
        "dataset": {"type": "choices", "values": ["nw-ucla", "ntu60"]},
    }
    base = {key: value for key, value in SEARCH["base"].items() if key not in ("encoder", "data")}
    sweep = _load(tmp_path, space, base, paths={"ntu60": "/somewhere/ntu60"})
    assert set(sweep.datasets) == {"nw-ucla", "ntu60"}
    trials = sweep.boundary_trials()
    assert {trial.config.data.evaluate_on for trial in trials} == {"validation"}
    assert {trial.config.data.path for trial in trials} == {"nw-ucla", "/somewhere/ntu60"}


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"contrast.strateg": "spatial"}, "'contrast.strateg' is not searched .did you mean 'contrast.strategy'"),
        ({TAU: 0.5}, "'contrast.temperature' is a range; a condition names values of choices"),
        (
            {STRATEGY: "spacial"},
            "'contrast.strategy' has no value spacial; values: spatial, temporal, ",
        ),
        ({STRATEGY: []}, "has no value to fit"),
        ({"contrast.slots": "clip"}, "go round in a circle"),
    ],
)
def test_conditions_that_nothing_can_fit_are_refused(when: dict[str, Any], said: str, tmp_path: Path) -> None:
    choices = {"type": "choices", "values": ["item", "clip"]}
    space = {**CONDITIONAL, "contrast.slots": {**choices, "when": when}}
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        _load(tmp_path, space)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"objectives": ["accuracy", "seconds_per_epoch"]}, "scheduler 'asha' stops trials by one number"),
        ({"objectives": ["accuracy", "seconds_per_epoch"], "scheduler": "median"}, "set scheduler: none"),
        ({"objectives": ["seconds_per_epoch"]}, "accuracy among them"),
        ({"objectives": ["accuracy", "accuracy"], "scheduler": "none"}, "each once"),
        ({"sampler": "tpee"}, "did you mean 'tpe'"),
    ],
)
def test_what_optuna_does_not_support_is_refused_with_the_file(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        _load(tmp_path, SEARCH["space"], optuna=settings)


def test_several_objectives_without_early_stopping_are_allowed() -> None:
    assert OptunaConfig(objectives=["accuracy", "seconds_per_epoch"], scheduler="none").sampler == "tpe"
