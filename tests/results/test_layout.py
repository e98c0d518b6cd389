"""The files of a run and a sweep are named in one place, and each has one reader."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from stdcl.errors import UserError
from stdcl.report.load import load_sweep_state
from stdcl.results.layout import RunFolder, SweepFolder, what_else
from stdcl.results.plan import Plan, PlannedTrial, read_plan, write_plan
from stdcl.results.result import RunResult, read_result, write_result
from stdcl.results.scores import read_run
from stdcl.runs.evaluate import find_checkpoint

PACKAGE = Path(__file__).resolve().parents[2] / "stdcl"


def names() -> set[str]:
    """The last part of every path that the layout gives and that is a file's name."""
    run, sweep = RunFolder(Path("run")), SweepFolder(Path("sweep"))
    found = [getattr(run, name) for name, value in vars(RunFolder).items() if isinstance(value, property)]
    found += [getattr(sweep, name) for name, value in vars(SweepFolder).items() if isinstance(value, property)]
    found += [run.scores(), run.scores("best"), run.evaluation(), run.evaluation("best")]
    return {path.name for path in found if isinstance(path, Path) and path.suffix}


def test_no_other_module_names_a_file_of_a_run_or_sweep() -> None:
    known = names()
    assert {"history.jsonl", "result.json", "plan.json", "scores.parquet"} <= known
    for path in sorted(PACKAGE.rglob("*.py")):
        if path == PACKAGE / "results" / "layout.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in known, f"{path.relative_to(PACKAGE)}, line {node.lineno}: {node.value}"


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert read_result(folder.result) is None
    result = RunResult({"epoch": 3, "accuracy": 0.5, "num_test": 10}, "abc", 1, "0.1", "def", "split", 2, "s", "t")
    write_result(folder.result, result)
    assert read_result(folder.result) == result


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"row": {}}', '{"row": {"epoch": 1, "accuracy": "high", "num_test": 2}}', "null"]
)
def test_a_damaged_result_is_named_with_the_way_out(tmp_path: Path, content: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"result\.json: not the result of a run .*remove it and run again"):
        read_result(path)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    assert read_plan(folder.plan) is None
    trials = (PlannedTrial("k", "stdcl", {"contrast.temperature": 0.5}, 1, "abc"),)
    plan = Plan("name", "Why?", "grid", ("contrast.temperature",), trials)
    write_plan(folder.plan, plan)
    assert read_plan(folder.plan) == plan


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"trials": [1]}', '{"trials": [{"key": "k"}]}', "null"])
def test_a_damaged_plan_is_named_with_the_way_out(tmp_path: Path, content: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"plan\.json: not the plan of a sweep .*writes it again"):
        read_plan(path)


@pytest.mark.parametrize("read", [read_plan, read_result])
def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)


def test_an_older_plan_without_its_keys_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "small" / "plan.json"
    path.parent.mkdir()
    trial = {"key": "k", "arm": "grid", "parameters": {"contrast.temperature": 0.5}, "seed": 1}
    path.write_text(json.dumps({"trials": [trial]}))
    assert read_plan(path) == Plan(
        "small",
        "",
        None,
        ("contrast.temperature",),
        (PlannedTrial("k", "stdcl", trial["parameters"], 1),),  # type: ignore[arg-type]
    )


def test_a_folder_of_another_kind_is_named_with_its_command(tmp_path: Path) -> None:
    sweep, run, store = tmp_path / "a sweep", tmp_path / "run", tmp_path / "store"
    (sweep / "trials").mkdir(parents=True)
    (sweep / "plan.json").write_text("{}")
    (run / "checkpoints").mkdir(parents=True)
    store.mkdir()
    (store / "manifest.json").write_text("{}")
    assert f"its runs are the folders in {sweep}/trials" in what_else(sweep, "run")
    assert f"`stdcl table '{sweep}'`" in what_else(sweep, "run")
    assert what_else(sweep, "sweep") == what_else(run, "run") == what_else(tmp_path, "run") == ""
    assert f"`stdcl evaluate {run}`" in what_else(run, "sweep")
    assert "prepared data" in what_else(store, "run")
    assert "file" in what_else(store / "manifest.json", "run")
    with pytest.raises(UserError, match="this is a sweep's folder"):
        read_run(sweep)
    with pytest.raises(UserError, match="this is a sweep's folder"):
        find_checkpoint(sweep, "last")
    with pytest.raises(UserError, match="this is the folder of one run"):
        load_sweep_state(run)
