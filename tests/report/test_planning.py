"""What a sweep's seeds could show, before anything runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stdcl.cli.command import main
from stdcl.config.shipped import find_sweep
from stdcl.config.sweep import load_sweep
from stdcl.data.nw_ucla.prepare import prepare_nw_ucla
from stdcl.data.nw_ucla.synthetic import write_corpus
from stdcl.data.prepare import prepare_dataset
from stdcl.data.protocols import split
from stdcl.data.store import SequenceStore
from stdcl.report.planning import SUBJECTS, what_seeds_can_show
from stdcl.report.published import benchmark_test_sequences
from stdcl.statistics.components import MEASURED
from stdcl.statistics.power import Study
from stdcl.sweep.forecast import prepared_test_parts
from tests.data.foreign.files import write_ctrgcn


def test_the_plan_is_that_of_the_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "ablation_r"]) == 0
    said = " ".join(capsys.readouterr().out.split())  # lines fit the terminal
    study = Study(MEASURED["nw-ucla"].components, 464, (47,) * 4 + (46,) * 6)
    assert "3 question(s), 2 seed(s)" in said
    assert f"a true difference of {100 * study.smallest_difference(2, 0.05 / 3):.2g} points" in said
    assert f"{study.seeds_needed(0.01, 0.05 / 3):.0f} seeds show it" in said


def test_more_seeds_and_fewer_questions_show_less() -> None:
    file = find_sweep("ablation_r")

    def smallest(*overrides: str) -> str:
        return what_seeds_can_show(load_sweep(file, overrides))

    assert "1 question(s), 10 seed(s)" in smallest("seeds=[1,2,3,4,5,6,7,8,9,10]", "compare=trend")
    assert "one seed says nothing of training again" in smallest("seeds=[1]")
    assert "2 points (named by the sweep's file)" in smallest("margin=2")


@pytest.mark.parametrize(
    "name", ["ablation_r", "ablation_d", "ablation_strategy", "ablation_tau", "encoders", "table3"]
)
def test_every_shipped_grid_can_be_planned(name: str) -> None:
    sweep = load_sweep(find_sweep(name))
    arms = {str(sorted(trial.parameters.items())): trial for trial in sweep.trials()}
    assert f"{sweep.config.name}: " in what_seeds_can_show(sweep)
    assert len(arms) > 1


def test_searches_and_sweeps_without_a_question_have_no_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "search_optuna"]) == 2
    assert "no prepared data here" in capsys.readouterr().err, "a search is planned by its cost alone"
    assert main(["plan", "ablation_r", "--set", "baseline=false", "--no-probe"]) == 0
    assert "ablation_r compares nothing" in capsys.readouterr().out


def test_people_are_counted_for_every_benchmark() -> None:
    for dataset, protocol in SUBJECTS:
        assert benchmark_test_sequences(dataset, protocol)


def test_data_that_are_prepared_are_counted_and_not_taken_for_the_benchmark(tmp_path: Path) -> None:
    write_corpus(tmp_path / "raw", 60, 0)
    prepare_nw_ucla(tmp_path / "raw", tmp_path / "store")
    file = find_sweep("ablation_r")
    prepared = load_sweep(file, (f"base.data.path={tmp_path / 'store'}",))
    store = SequenceStore.open(tmp_path / "store")
    rows = split(store, store.rules, "cross-view", "nw-ucla").test
    people = np.unique(store.column("subject")[rows])
    said = what_seeds_can_show(prepared, prepared_test_parts(prepared))
    assert f"nw-ucla cross-view: {len(rows)} test sequences of {len(people)} people" in said
    absent = load_sweep(file, (f"base.data.path={tmp_path / 'absent'}",))
    assert "464 test sequences of 10 people" in what_seeds_can_show(absent, prepared_test_parts(absent))
    quick = load_sweep(find_sweep("quickstart"), (f"base.data.path={tmp_path / 'quick'}",))
    said = what_seeds_can_show(quick, prepared_test_parts(quick))
    assert "cross-view: how many test sequences there are is not known before it is prepared" in said
    assert "464 test sequences" not in said


def test_data_of_no_benchmark_are_planned_by_their_first_split(tmp_path: Path) -> None:
    write_ctrgcn(tmp_path / "NTU.npz")
    prepare_dataset("ctrgcn-npz", tmp_path / "store", raw=[tmp_path / "NTU.npz"])
    ours = load_sweep(
        find_sweep("ablation_r"),
        (f"base.data.path={tmp_path / 'store'}", "base.data.dataset=ctrgcn-npz", "base.data.repeat=1"),
    )
    assert "ctrgcn-npz default: 4 test sequences\n" in what_seeds_can_show(ours, prepared_test_parts(ours))
