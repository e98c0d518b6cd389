"""A finished run elsewhere that equals a trial is taken over; one that differs in anything is not."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import stdcl
from stdcl.results.layout import RunFolder, SweepFolder
from stdcl.results.result import RunResult, read_result, write_result
from stdcl.sweep.reuse import identity_of, take_over, wanted_identity
from stdcl.version import EXECUTED, execution_digest
from tests.sweep.conftest import GRID, MakeSweep

ROW = {"epoch": 2, "accuracy": 0.5, "num_test": 20}
DATA = "d" * 64


@pytest.fixture
def finished(tmp_path: Path, make_sweep: MakeSweep) -> RunFolder:
    """The first trial of the sweep, finished in another sweep of the same storage folder."""
    trial = make_sweep(GRID).trials()[0]
    wanted = wanted_identity(trial, DATA, execution_digest())
    folder = SweepFolder(tmp_path / "other").run("a trial")
    folder.root.mkdir(parents=True)
    folder.history.write_text('{"epoch": 2, "accuracy": 0.5}\n')
    write_result(folder.result, RunResult(ROW, seed=trial.seed, sweep="other", trial="a trial", **wanted._asdict()))
    return folder


def take(tmp_path: Path, make_sweep: MakeSweep) -> list[str]:
    """Take over what can be; return the keys."""
    sweep = make_sweep(GRID)
    trials = [(trial, wanted_identity(trial, DATA, execution_digest())) for trial in sweep.trials()]
    return [trial.key for trial, _ in take_over(trials, SweepFolder(tmp_path / "small"), tmp_path)]


def test_an_equal_run_is_taken_over_and_says_where_from(
    finished: RunFolder, tmp_path: Path, make_sweep: MakeSweep
) -> None:
    (key,) = take(tmp_path, make_sweep)
    folder = SweepFolder(tmp_path / "small").run(key)
    result = read_result(folder.result)
    assert result is not None
    assert (result.sweep, result.trial, result.row) == ("small", key, ROW)
    assert result.taken_from == finished.root.relative_to(tmp_path).as_posix(), "no folder of this machine"
    assert folder.history.read_text() == finished.history.read_text()
    assert take(tmp_path, make_sweep) == []  # the folder exists now


def test_a_copy_of_a_copy_names_the_run_that_was_trained(
    finished: RunFolder, tmp_path: Path, make_sweep: MakeSweep
) -> None:
    (key,) = take(tmp_path, make_sweep)
    (finished.result).unlink()
    trials = [(trial, wanted_identity(trial, DATA, execution_digest())) for trial in make_sweep(GRID).trials()]
    take_over(trials, SweepFolder(tmp_path / "third"), tmp_path)
    result = read_result(SweepFolder(tmp_path / "third").run(key).result)
    assert result is not None
    assert result.taken_from == finished.root.relative_to(tmp_path).as_posix(), "no folder of this machine"


@pytest.mark.parametrize(
    "difference",
    [
        {"fingerprint": "0" * 16},
        {"data_hash": "e" * 64},
        {"execution": "other code"},
        {"execution": ""},  # several codes
        {"workers": 7},
        {"threads": 5},
        {"device": "cuda"},
        {"exchange": "allgather"},
    ],
    ids=lambda value: "-".join(value),
)
def test_any_difference_means_training(
    difference: dict[str, object], finished: RunFolder, tmp_path: Path, make_sweep: MakeSweep
) -> None:
    result = read_result(finished.result)
    assert result is not None
    write_result(finished.result, replace(result, **difference))  # type: ignore[arg-type]
    assert take(tmp_path, make_sweep) == []


def test_a_trial_that_has_begun_is_left_alone(finished: RunFolder, tmp_path: Path, make_sweep: MakeSweep) -> None:
    key = make_sweep(GRID).trials()[0].key
    SweepFolder(tmp_path / "small").run(key).root.mkdir(parents=True)
    assert take(tmp_path, make_sweep) == []


def test_a_damaged_result_elsewhere_is_passed_over(finished: RunFolder, tmp_path: Path, make_sweep: MakeSweep) -> None:
    damaged = SweepFolder(tmp_path / "earlier").run("x")
    damaged.root.mkdir(parents=True)
    damaged.result.write_text("{")
    assert len(take(tmp_path, make_sweep)) == 1


def test_a_result_of_the_first_release_says_too_little() -> None:
    assert identity_of(RunResult(ROW, fingerprint="f", data_hash="d", workers=1)) is None


def test_the_digest_covers_what_training_imports() -> None:
    """Every module that the trainer needs is digested, or cannot change a number."""
    package = Path(stdcl.__file__).parent
    harmless = {"__init__", "atomic", "config", "errors", "locks", "release", "results", "tracking", "version"}
    seen: set[Path] = {package / "__init__.py"}  # which imports its names when they are used
    waiting = [package / "training" / "trainer.py"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "stdcl":
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                place = package.joinpath(*name.split(".")[1:])
                waiting += [p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()]
    tops = {path.relative_to(package).parts[0].removesuffix(".py") for path in seen}
    assert len(seen) > 40
    assert tops - harmless <= {name.removesuffix(".py") for name in EXECUTED}
