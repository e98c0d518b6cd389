"""A sweep that exists may grow, but not become another question."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from stdcl.errors import UserError
from stdcl.results.layout import SweepFolder
from stdcl.results.plan import Plan, read_plan
from stdcl.sweep.plan import add_trial, check_same_question, left_out, write_plan, write_sweep
from tests.sweep.conftest import GRID, SEARCH, MakeSweep


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "storage" / "small")


def _begin(folder: SweepFolder, make_sweep: MakeSweep, content: dict[str, Any]) -> None:
    sweep = make_sweep(content)
    write_sweep(folder, sweep)
    write_plan(folder, sweep, sweep.trials())


def known_plan(folder: SweepFolder) -> Plan:
    plan = read_plan(folder.plan)
    assert plan is not None
    return plan


def test_plan_lists_every_trial_with_what_identifies_it(folder: SweepFolder, make_sweep: MakeSweep) -> None:
    _begin(folder, make_sweep, GRID)
    plan = json.loads(folder.plan.read_text())
    assert plan["sweep"] == "small"
    assert plan["parameters"] == ["contrast.temperature"]
    assert len(plan["trials"]) == 6
    assert {trial["arm"] for trial in plan["trials"]} == {"baseline", "stdcl"}
    assert len({trial["key"] for trial in plan["trials"]}) == 6
    assert [asdict(trial) for trial in known_plan(folder).trials] == plan["trials"]


def test_a_new_sweep_and_the_same_again_are_fine(folder: SweepFolder, make_sweep: MakeSweep) -> None:
    assert check_same_question(folder, make_sweep(GRID)) is False
    _begin(folder, make_sweep, GRID)
    assert check_same_question(folder, make_sweep(GRID)) is True


@pytest.mark.parametrize(
    "override",
    [
        "seeds=[1, 2, 3]",
        "grid={contrast.temperature: [0.5, 0.8, 1.0]}",
        "grid={contrast.temperature: [0.5]}",
        "question=Does it really run?",
        "resources.workers=2",
        "max_concurrent_trials=1",
        "retries=0",
        "data.path=elsewhere",
        "tracking.wandb=offline",
        "training.checkpoint_every=2",
    ],
)
def test_growth_and_circumstances_may_change(folder: SweepFolder, make_sweep: MakeSweep, override: str) -> None:
    _begin(folder, make_sweep, GRID)
    assert check_same_question(folder, make_sweep(GRID, override)) is True


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("training.epochs=7", "base.training.epochs: was 6, is 7"),
        ("data.stream=bone", "base.data.stream: was not given, is 'bone'"),
        ("seeds=[1]", "seeds: 2 left out"),
        (
            "grid={contrast.channel_reduction: [4]}",
            "grid: varied contrast.temperature, varies contrast.channel_reduction",
        ),
        ("baseline=false", "baseline: was true, is false"),
    ],
)
def test_a_changed_question_is_refused_by_name(
    folder: SweepFolder, make_sweep: MakeSweep, override: str, named: str
) -> None:
    _begin(folder, make_sweep, GRID)
    with pytest.raises(UserError) as caught:
        check_same_question(folder, make_sweep(GRID, override))
    assert named in str(caught.value)
    assert "--set name=" in str(caught.value)


def test_a_changed_space_is_refused_and_more_trials_are_not(folder: SweepFolder, make_sweep: MakeSweep) -> None:
    _begin(folder, make_sweep, SEARCH)
    assert check_same_question(folder, make_sweep(SEARCH, "optuna.trials=60")) is True
    wider = {**SEARCH, "space": {**SEARCH["space"], "contrast.temperature": {"type": "float", "low": 0.1, "high": 2.0}}}
    with pytest.raises(UserError, match=r"space\.contrast\.temperature\.low: was 0\.2, is 0\.1"):
        check_same_question(folder, make_sweep(wider))


def test_trials_of_a_value_that_is_left_out_are_named(folder: SweepFolder, make_sweep: MakeSweep) -> None:
    _begin(folder, make_sweep, GRID)
    smaller = make_sweep(GRID, "grid={contrast.temperature: [0.5]}")
    gone = left_out(folder, smaller.trials())
    assert len(gone) == 2
    assert all("temperature=0.8" in key for key in gone)
    assert left_out(folder, make_sweep(GRID).trials()) == []


def test_the_same_file_with_another_meaning_is_refused(folder: SweepFolder, make_sweep: MakeSweep) -> None:
    _begin(folder, make_sweep, GRID)
    plan = json.loads(folder.plan.read_text())
    plan["trials"][3]["fingerprint"] = "0" * 16
    folder.plan.write_text(json.dumps(plan))
    with pytest.raises(UserError, match="a recipe or a default has changed"):
        check_same_question(folder, make_sweep(GRID))


def test_a_damaged_plan_is_named(folder: SweepFolder, make_sweep: MakeSweep) -> None:
    _begin(folder, make_sweep, GRID)
    folder.plan.write_text("{}")
    with pytest.raises(UserError, match=r"plan\.json"):
        read_plan(folder.plan)


def test_corners_touch_both_ends_and_each_choice(make_sweep: MakeSweep) -> None:
    corners = [trial.parameters for trial in make_sweep(SEARCH).boundary_trials()]
    assert {corner["contrast.temperature"] for corner in corners} == {0.2, 2.0}
    assert {corner["contrast.channel_reduction"] for corner in corners} == {4, 8, 16}


def test_seeds_are_those_planned_before_the_first_result(folder: SweepFolder, make_sweep: MakeSweep) -> None:
    _begin(folder, make_sweep, GRID)
    assert known_plan(folder).seeds == (1, 2)
    more = make_sweep(GRID, "seeds=[1, 2, 3]")
    write_plan(folder, more, more.trials())
    assert known_plan(folder).seeds == (1, 2, 3)  # nobody has looked at anything yet
    folder.results.mkdir()
    (folder.results / "part-x.parquet").touch()
    again = make_sweep(GRID, "seeds=[1, 2, 3, 4]")
    write_plan(folder, again, again.trials())
    assert known_plan(folder).seeds == (1, 2, 3)


def test_a_plan_of_the_first_release_names_its_seeds(folder: SweepFolder, make_sweep: MakeSweep) -> None:
    _begin(folder, make_sweep, GRID)
    content = json.loads(folder.plan.read_text())
    del content["seeds"]
    folder.plan.write_text(json.dumps(content))
    folder.results.mkdir()
    (folder.results / "part-x.parquet").touch()
    more = make_sweep(GRID, "seeds=[1, 2, 3]")
    write_plan(folder, more, more.trials())
    assert known_plan(folder).seeds == (1, 2)


@pytest.mark.parametrize("override", ["margin=0.5", "compare=to baseline", "looks=[2]", "spending=pocock"])
def test_what_a_table_is_judged_by_is_named_beforehand(
    folder: SweepFolder, make_sweep: MakeSweep, override: str
) -> None:
    _begin(folder, make_sweep, GRID)
    with pytest.raises(UserError, match="asks something else"):
        check_same_question(folder, make_sweep(GRID, override))
    assert check_same_question(folder, make_sweep(GRID, "table=4a")) is True


def test_a_folder_that_was_renamed_is_the_same_sweep_and_a_search_is_told_how_to_go_back(
    make_sweep: MakeSweep, tmp_path: Path
) -> None:
    for content in (GRID, SEARCH):
        sweep, folder = make_sweep(content), SweepFolder(tmp_path / "runs" / content["name"])
        write_plan(folder, sweep, sweep.trials())
        write_sweep(folder, sweep)
        folder.root.rename(tmp_path / "runs" / "an other")
        renamed, other = make_sweep(content, "name=an-other"), SweepFolder(tmp_path / "runs" / "an other")
        if content is GRID:
            assert check_same_question(other, renamed)
        else:
            with pytest.raises(UserError) as caught:
                check_same_question(other, renamed)
            assert f"mv '{other.root}' {folder.root}" in str(caught.value)
        shutil.rmtree(other.root)


def test_a_proposal_is_a_line_more(make_sweep: MakeSweep, tmp_path: Path) -> None:
    """What is written of a search's proposal does not grow with the number of proposals."""
    sweep, folder = make_sweep(GRID), SweepFolder(tmp_path / "small")
    trials = sweep.trials()
    write_plan(folder, sweep, trials[:2])
    whole = folder.plan.read_bytes()
    for trial in (trials[2], trials[3], trials[0]):
        add_trial(folder, trial)
    assert folder.plan.read_bytes() == whole
    plan = read_plan(folder.plan)
    assert plan is not None
    assert [trial.key for trial in plan.trials] == [trial.key for trial in trials[:4]]
    (added,) = set(folder.root.iterdir()) - {folder.plan}
    with added.open("ab") as stream:
        stream.write(b'{"key": "hal')  # its writer was killed
    assert read_plan(folder.plan) == plan
    write_plan(folder, sweep, trials[:1])
    plan = read_plan(folder.plan)
    assert plan is not None
    assert [trial.key for trial in plan.trials] == [trials[0].key]
