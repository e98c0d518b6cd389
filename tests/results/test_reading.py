"""Folders of runs and sweeps read from Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import stdcl
from stdcl.errors import UserError

RUNS = Path(__file__).resolve().parents[1] / "fixtures" / "first_release" / "runs"


def test_a_run_gives_result_history_and_scores() -> None:
    run = stdcl.load_run(RUNS / "train" / "finished")
    assert run.result is not None
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4]
    assert run.result.row["accuracy"] == run.history[-1]["accuracy"]
    assert run.scores().accuracy == run.history[-1]["accuracy"]
    assert stdcl.load_run(str(RUNS / "train" / "interrupted")).result is None


def test_a_sweep_gives_one_row_per_trial_that_leads_to_its_run() -> None:
    folder = RUNS / "finished_sweep"
    rows = stdcl.load_sweep(folder)
    assert sorted(rows["key"]) == sorted(path.name for path in (folder / "trials").iterdir())
    for key, accuracy in zip(rows["key"], rows["accuracy"], strict=True):
        result = stdcl.load_run(folder / "trials" / key).result
        assert result is not None
        assert result.row["accuracy"] == accuracy


def test_what_is_no_such_folder_is_said(tmp_path: Path) -> None:
    for load, other in ((stdcl.load_run, RUNS / "finished_sweep"), (stdcl.load_sweep, RUNS / "train" / "finished")):
        with pytest.raises(UserError, match="no such folder"):
            load(tmp_path / "absent")
        with pytest.raises(UserError, match="folder; it has no"):
            load(tmp_path)
        with pytest.raises(UserError, match=r"not a (run|sweep)'s folder; this is"):
            load(other)


def test_rows_that_are_gone_are_missed(tmp_path: Path) -> None:
    """An empty table would look like a sweep that has not begun."""
    folder = tmp_path / "sweep"
    shutil.copytree(RUNS / "finished_sweep", folder)
    shutil.rmtree(folder / "results")
    with pytest.raises(UserError, match=r"no rows, but \d+ trial\(s\) of the sweep are complete; `stdcl sweep"):
        stdcl.load_sweep(folder)
    shutil.rmtree(folder / "trials")
    assert stdcl.load_sweep(folder).empty
