"""The schema for editors says of files what the commands say, as far as single keys go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from stdcl.cli import main
from stdcl.config.load import read_mapping
from stdcl.config.schema import json_schema
from stdcl.config.shipped import shipped_sweeps
from stdcl.config.yaml_text import parse_yaml


@pytest.fixture(scope="module")
def sweeps() -> jsonschema.Draft202012Validator:
    schema = json_schema("sweep")
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def runs() -> jsonschema.Draft202012Validator:
    schema = json_schema("run")
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def _faults(validator: jsonschema.Draft202012Validator, content: Any) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(content)]


def test_every_shipped_sweep_fits(sweeps: jsonschema.Draft202012Validator) -> None:
    for name, path in shipped_sweeps().items():
        raw = parse_yaml(path.read_text(encoding="utf-8"), name)
        assert _faults(sweeps, raw) == [], name


def test_a_saved_sweep_and_a_saved_run_fit(
    sweeps: jsonschema.Draft202012Validator, runs: jsonschema.Draft202012Validator
) -> None:
    from stdcl.config import to_yaml
    from stdcl.config.sweep import load_sweep

    sweep = load_sweep(shipped_sweeps()["table3"])
    assert _faults(sweeps, json.loads(json.dumps(sweep.config.model_dump(mode="json")))) == []
    for trial in sweep.trials()[:6]:
        assert _faults(runs, parse_yaml(to_yaml(trial.config), "a run")) == [], trial.key


BASE = {"data": {"dataset": "nw-ucla"}, "encoder": {"name": "hcn"}}
SWEEP: dict[str, Any] = {"name": "x", "question": "Why?", "base": BASE, "grid": {"contrast.temperature": [0.5]}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"griid": {}}, "griid"),
        ({"seeds": [1, "two"]}, "two"),
        ({"grid": {"contrast.temperatur": [0.5]}}, "contrast.temperatur"),
        ({"grid": {"contrast.temperature": [-1]}}, "-1"),
        ({"grid": {"encoder": ["hnc"]}}, "hnc"),
        ({"base": {**BASE, "training": {"optimizer": "adamw"}}}, "adamw"),
        ({"base": {**BASE, "encoder": {"name": "hcn", "heads": 3}}}, "heads"),
        ({"base": {**BASE, "resources": {"workers": 1}}}, "resources"),
        ({"space": {"contrast.temperature": {"type": "flaot"}}}, "flaot"),
        ({"arms": {"plain": {"method.nam": "none"}}}, ""),
        ({"name": None}, "None"),
    ],
)
def test_mistakes_are_marked(sweeps: jsonschema.Draft202012Validator, change: dict[str, Any], said: str) -> None:
    assert _faults(sweeps, SWEEP) == []
    faults = _faults(sweeps, {**SWEEP, **change})
    if said:
        assert faults
        assert any(said in fault for fault in faults), faults


def test_short_forms_that_the_commands_read_fit(
    sweeps: jsonschema.Draft202012Validator, runs: jsonschema.Draft202012Validator
) -> None:
    for change in (
        {"compare": "to baseline"},
        {"compare": {"to value": 8}},
        {"table": 3},
        {"grid": {"stream": ["joint", "bone"], "contrast.slots": ["item"], "encoder": ["my_package:MINE"]}},
        {"exclude": [{"encoder": ["hcn"], "arm": "x"}]},
        {"arms": {"plain": {"method.name": "none"}, "mine": {"method.name": "my_package:MINE", "method.width": 3}}},
    ):
        assert _faults(sweeps, {**SWEEP, **change}) == [], change
    assert _faults(runs, {**BASE, "method": {"name": "none"}, "contrast": {"slots": "item"}}) == []
    assert _faults(runs, {**BASE, "data": {"dataset": "my:DATA", "frames": "auto", "path": "auto"}}) == []


def test_keys_say_what_the_documentation_says() -> None:
    schema = json_schema("run")
    assert schema["$defs"]["DataConfig"]["properties"]["frames"]["description"].startswith("Frames T given to the enc")
    assert json_schema("sweep")["properties"]["seeds"]["description"].startswith("Each cell is trained once with each")


def test_the_command_prints_or_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "sweep"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(json_schema("sweep")))
    assert main(["schema", "run", "--out", str(tmp_path / "run.json")]) == 0
    assert "# yaml-language-server: $schema=" in capsys.readouterr().out
    assert read_mapping(tmp_path / "run.json")["title"] == "A run file of stdcl"
