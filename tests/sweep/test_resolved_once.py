"""A command resolves each trial of a sweep once, and opens the data of its cells once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from stdcl.cli import main
from stdcl.config import sweep as sweeps
from stdcl.config import to_yaml
from stdcl.config.sweep import load_sweep
from stdcl.results.layout import SweepFolder
from stdcl.results.result import RunResult, write_result
from stdcl.sweep.driver import DataCheck, run_sweep
from stdcl.training import components
from tests.sweep.conftest import GRID, SEARCH

TRIALS = 6
"""A baseline and two temperatures, with two seeds each."""


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each raw configuration of a trial is resolved."""
    found: Counter[str] = Counter()
    whole = sweeps.resolve

    def counted(raw: dict[str, Any], where: Any) -> Any:
        found[json.dumps(raw, sort_keys=True)] += 1
        return whole(raw, where)

    monkeypatch.setattr(sweeps, "resolve", counted)
    return found


def write(folder: Path, content: dict[str, Any], data: dict[str, Any] | None = None) -> Path:
    """Write a sweep file, by default over a synthetic corpus that is not made."""
    file = folder / "small.yaml"
    data = data or {"dataset": "nw-ucla", "path": str(folder / "unmade"), "synthetic": {"sequences": 60}}
    file.write_text(yaml.safe_dump({**content, "base": {**content["base"], "data": data}}))
    return file


def finish(file: Path, storage: Path) -> None:
    """Give every trial the result of a finished run."""
    for trial in load_sweep(file).trials():
        run = SweepFolder(storage / "small").run(trial.key)
        run.root.mkdir(parents=True)
        run.config.write_text(to_yaml(trial.config))
        write_result(run.result, RunResult({"epoch": 6, "accuracy": 0.5, "num_test": 464}, trial.fingerprint))


def run(file: Path, storage: Path) -> int:
    """Continue a sweep in which nothing is left to train."""
    return run_sweep(file, storage=storage, check=lambda config: (), loop=_no_loop, say=lambda text: None)


def _no_loop(*args: Any, **more: Any) -> Any:
    raise AssertionError("every trial is finished")


def test_a_dry_run_and_a_plan(tmp_path: Path, resolved: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STDCL_STORAGE", str(tmp_path / "runs"))
    for number, command in enumerate((["sweep", "--dry-run"], ["plan"]), 1):
        assert main([command[0], str(write(tmp_path, GRID)), *command[1:]]) == 0
        assert resolved.total() == number * TRIALS
    resolved.clear()
    assert main(["sweep", str(write(tmp_path, SEARCH)), "--dry-run"]) == 0
    assert set(resolved.values()) == {1}


def test_running_a_sweep_and_continuing_it(tmp_path: Path, resolved: Counter[str]) -> None:
    file = write(tmp_path, GRID)
    finish(file, tmp_path)
    for _ in range(2):
        resolved.clear()
        assert run(file, tmp_path) == 0
        assert list(resolved.values()) == [1] * TRIALS


def test_what_reads_a_sweep_folder_resolves_what_has_no_folder_alone(
    tmp_path: Path, resolved: Counter[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STDCL_STORAGE", str(tmp_path))
    file = write(tmp_path, {**GRID, "table": "temperature"})
    finish(file, tmp_path)
    assert run(file, tmp_path) == 0
    commands = (["table", "small"], ["report", "small"], ["report", "small", "--html"], ["status", "small"])
    for command in commands:
        resolved.clear()
        # A report of trials without scores per sequence ends with 1: its verdicts are missing.
        assert main(command) == (command[0] == "report"), command
        assert resolved.total() == 0, command
    trials = load_sweep(file).trials()
    for trial in trials[:2]:
        SweepFolder(tmp_path / "small").run(trial.key).config.unlink()
    for command in commands:
        resolved.clear()
        main(command)
        assert set(resolved.values()) <= {1}, command
        assert resolved.total() <= 2, command


def test_cells_of_equal_data_open_it_once(small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    whole = components.open_data

    def counted(config: Any) -> Any:
        opened.append(config.data.stream)
        return whole(config)

    monkeypatch.setattr(components, "open_data", counted)
    few = {"hard_positives": 3, "hard_negatives": 8, "random_negatives": 8}
    content = {**GRID, "base": {**GRID["base"], "encoder": {"name": "hcn"}, "contrast": few}}
    content["grid"] = {"contrast.temperature": [0.5, 0.8], "data.stream": ["joint", "bone"]}
    data = {"dataset": "nw-ucla", "path": str(small_store), "frames": 16}
    check = DataCheck()
    for trial in load_sweep(write(tmp_path, content, data)).trials():
        check(trial.config)
    assert sorted(opened) == ["bone", "joint"]
