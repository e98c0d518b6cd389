"""A trial's steps, as Tune takes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stdcl.config.sweep import Sweep
from stdcl.launch.device import NoCard
from stdcl.launch.failures import ClusterSetupFailed
from stdcl.launch.package import ForeignCode
from stdcl.results.layout import RunFolder
from stdcl.results.progress import RunProgress, read_progress, write_progress
from stdcl.sweep.trainables import EPOCHS_DONE, ERROR, EVENT, SETUP_FAILED, STATUS, RayTrainTrial, TrialContext, payload
from tests.sweep.conftest import GRID, MakeSweep


class Trial(RayTrainTrial):
    """Rows, texts and errors come from a list."""

    items: list[Any]

    def _open(self) -> Iterator[Any]:
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            yield item


@pytest.fixture
def trial(make_sweep: MakeSweep, tmp_path: Path) -> Trial:
    sweep: Sweep = make_sweep(GRID)
    made = Trial.__new__(Trial)
    trial_context = TrialContext("small", tmp_path, tmp_path, loop=None, environment={})  # type: ignore[arg-type]
    made.setup({"trial": payload(sweep.trials()[0])}, trial_context)
    return made


def test_a_text_is_a_result_of_its_own_between_rows(trial: Trial) -> None:
    trial.items = ["waiting", {"epoch": 1, "done": False}, "workers lost", {"epoch": 2, "done": True}]
    steps = [trial.step() for _ in range(4)]
    assert [step.get(EVENT) for step in steps] == ["waiting", None, "workers lost", None]
    assert [step.get(EPOCHS_DONE) for step in steps] == [None, 1, None, 2]
    assert [step[STATUS] for step in steps] == ["running", "running", "running", "finished"]
    assert [step["done"] for step in steps] == [False, False, False, True]


@pytest.mark.parametrize("error", [ClusterSetupFailed("no room"), ForeignCode("other code")])
def test_what_is_the_cluster_s_fault_is_marked(trial: Trial, error: Exception) -> None:
    trial.items = [error]
    step = trial.step()
    assert (step[STATUS], step[ERROR], step[SETUP_FAILED]) == ("failed", str(error), True)


def test_the_progress_file_follows_an_attempt_whose_processes_do_not_speak(trial: Trial) -> None:
    """While they start, and when they were killed."""
    path = RunFolder(trial._job.run_dir).progress
    path.parent.mkdir(parents=True)
    write_progress(path, RunProgress("interrupted", 1, 2, 0, 5, None, None, 1000.0, 1010.0))
    trial.items = ["waiting", RuntimeError("the workers are gone")]

    def phase() -> str:
        found = read_progress(path)
        assert found is not None
        return found.phase

    trial.step()
    assert phase() == "starting"
    assert trial.step()[STATUS] == "failed"
    assert phase() == "failed"


def test_a_card_that_is_missing_is_the_node_s_fault(trial: Trial) -> None:
    """Not the trial's: the sweep stops after two in a row, before one bad node has taken them all."""
    trial.items = [NoCard("no card")]
    step = trial.step()
    assert (step[STATUS], step[SETUP_FAILED]) == ("failed", True)
    assert re.fullmatch(r"on node \S+: no card", step[ERROR])
