"""A search's best, again: which are chosen, the sweep file that is written, and what came out beside the promise."""

from __future__ import annotations

import shlex
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import stdcl.cli
from stdcl.config.sweep import Sweep, load_sweep
from stdcl.errors import UserError
from stdcl.report.bundle import write_bundle
from stdcl.results.layout import SweepFolder
from stdcl.sweep import study as studies
from stdcl.sweep.confirm import write_confirmation
from stdcl.sweep.plan import check_same_question, write_plan, write_sweep
from stdcl.sweep.sampling import distributions
from tests.sweep.conftest import GRID, SEARCH, MakeSweep

Values = dict[str, Any]
TAU, R = "contrast.temperature", "contrast.channel_reduction"


def _searched(sweep: Sweep, folder: Path, results: Sequence[tuple[Values, float | None]]) -> Path:
    """A search's folder, with these trials; None: stopped early."""
    found = SweepFolder(folder)
    folder.mkdir(parents=True)
    write_sweep(found, sweep)
    study, _ = studies.open_study(sweep, found.study, 6)
    for values, accuracy in results:
        study.enqueue_trial(values, user_attrs={studies.OURS: sweep.config.name})
        trial = study.ask(distributions(sweep.config.space))
        made = sweep.make_trial("", {key: trial.params[key] for key in values}, 1)
        trial.set_user_attr("trial", f"trial={trial.number},{made.fingerprint[:8]}")
        if accuracy is None:
            trial.report(0.1, 0)
            study.tell(trial, state=studies.TrialState.PRUNED)
        else:
            study.tell(trial, accuracy)
    return folder


RESULTS: list[tuple[Values, float | None]] = [
    ({TAU: 0.5, R: 4}, 0.80),
    ({TAU: 0.9, R: 8}, 0.90),
    ({TAU: 1.5, R: 16}, None),
    ({TAU: 0.9, R: 8}, 0.90),
    ({TAU: 0.8, R: 8}, 0.85),
    ({TAU: 1.9, R: 4}, 0.20),
]


@pytest.fixture
def search(make_sweep: MakeSweep, tmp_path: Path) -> Path:
    return _searched(make_sweep(SEARCH), tmp_path / "storage" / "searching", RESULTS)


def test_the_best_are_trained_again_on_the_test_set_beside_the_controls(search: Path) -> None:
    path, notes = write_confirmation(search, 3, 2)
    assert notes == []
    sweep = load_sweep(path)
    config = sweep.config
    assert config.name == "searching_confirm"
    assert list(config.arms) == ["baseline", "default", "trial-1", "trial-0"], "each configuration once, the best first"
    assert sweep.reference == "baseline"
    assert config.arms["trial-1"] == {TAU: 0.9, R: 8}
    assert config.arms["default"] == {}, "which trial 4 has found again"
    trials = sweep.trials()
    assert {trial.config.data.evaluate_on for trial in trials} == {"test"}
    assert config.seeds == [2, 3], "the search trained with seed 1"
    assert len(trials) == 8
    assert config.confirms is not None
    assert config.confirms.model_dump() == {
        "search": "searching",
        "judged": 6,
        "seeds": [1],
        "arms": {
            "trial-1": {"trial": config.confirms.arms["trial-1"].trial, "accuracy": 0.9, "sequences": None},
            "default": {"trial": config.confirms.arms["default"].trial, "accuracy": 0.85, "sequences": None},
            "trial-0": {"trial": config.confirms.arms["trial-0"].trial, "accuracy": 0.8, "sequences": None},
        },
        "base": config.base,
    }
    assert config.confirms.arms["trial-1"].trial.startswith("trial=1,")


def test_it_can_be_typed_again_and_asked_for_more_but_not_for_less(search: Path, tmp_path: Path) -> None:
    path, _ = write_confirmation(search, 1, 2)
    first = path.read_text()
    assert "default" in load_sweep(path).config.arms
    assert write_confirmation(search, 1, 2)[0].read_text() == first
    folder = SweepFolder(tmp_path / "storage" / "searching_confirm")
    folder.root.mkdir()
    sweep = load_sweep(path)
    write_sweep(folder, sweep)
    write_plan(folder, sweep, sweep.trials())
    write_confirmation(search, 2, 3)
    assert check_same_question(folder, load_sweep(path)), "the sweep that has begun takes the further trials"
    for top, seeds, said in ((1, 3, "arm.s. default"), (2, 2, "seed.s. 4")):
        with pytest.raises(UserError, match=said):
            write_confirmation(search, top, seeds)
    assert write_confirmation(search, 1, 1, "other")[0].name == "other.yaml"
    with pytest.raises(UserError, match="that is the search's own"):
        write_confirmation(search, 1, 1, "searching")


def test_fewer_complete_trials_than_asked_for_is_said(search: Path) -> None:
    assert write_confirmation(search, 9, 1)[1] == [
        "4 of the 9 that were asked for: the search has no more complete trials"
    ]


def test_what_cannot_be_confirmed_is_refused(make_sweep: MakeSweep, tmp_path: Path) -> None:
    unfinished = _searched(make_sweep(SEARCH), tmp_path / "unfinished", RESULTS[:4])
    with pytest.raises(UserError, match="is not finished: 4 of 6 trials are judged"):
        write_confirmation(unfinished, 3, 5)
    stopped = _searched(make_sweep(SEARCH, "optuna.trials=1"), tmp_path / "stopped", RESULTS[2:3])
    with pytest.raises(UserError, match="none of the 1 trials of 'searching' ran to its end"):
        write_confirmation(stopped, 3, 5)
    grid = tmp_path / "grid"
    grid.mkdir()
    write_sweep(SweepFolder(grid), make_sweep(GRID))
    with pytest.raises(UserError, match="is a grid, not a search"):
        write_confirmation(grid, 3, 5)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="not a sweep's folder"):
        write_confirmation(tmp_path / "nothing", 3, 5)


def test_a_search_over_encoders_has_a_control_for_each(make_sweep: MakeSweep, tmp_path: Path) -> None:
    space = {
        "encoder.name": {"type": "choices", "values": ["ctrgcn", "hcn"]},
        TAU: {"type": "float", "low": 0.2, "high": 2.0},
    }
    base = {key: value for key, value in SEARCH["base"].items() if key != "encoder"}
    sweep = make_sweep({**SEARCH, "base": base, "space": space}, "optuna.trials=2")
    results: list[tuple[Values, float | None]] = [
        ({"encoder.name": "hcn", TAU: 0.5}, 0.7),
        ({"encoder.name": "ctrgcn", TAU: 0.5}, 0.8),
    ]
    config = load_sweep(write_confirmation(_searched(sweep, tmp_path / "searching", results), 2, 1)[0]).config
    assert list(config.arms) == ["baseline", "baseline-2", "trial-1", "trial-0"]
    assert config.arms["baseline-2"] == {"method.name": "none", "encoder.name": "hcn"}
    assert config.compare is not None
    assert config.compare.kind == "nothing", "encoders are not compared with one control"


def test_the_file_may_not_use_the_searchs_seeds_or_confirm_no_arm(search: Path) -> None:
    path, _ = write_confirmation(search, 1, 2)
    with pytest.raises(UserError, match="the search has used the seed 1"):
        load_sweep(path, ["seeds=[1, 2]"])
    with pytest.raises(UserError, match="'trial-1' is none of the arms"):
        load_sweep(path, ["arms={baseline: {method.name: none}, default: {}}"])


def test_the_command_writes_the_file_and_checks_it(
    search: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STDCL_STORAGE", str(tmp_path / "storage"))
    assert stdcl.cli.main(["confirm", "searching", "--top", "1", "--seeds", "2", "--dry-run"]) == stdcl.cli.BAD_INPUT
    said = capsys.readouterr()
    assert f"sweep file: {search}/searching_confirm.yaml" in said.out
    assert "nothing: no" in said.err, "the data are looked for before anything starts"


def test_its_trials_are_said_to_come_from_the_command_that_was_typed(
    search: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}

    def run_sweep(file: Path, overrides: Sequence[str], **options: object) -> int:
        asked.update(options, file=file, overrides=overrides)
        return 0

    monkeypatch.setenv("STDCL_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setattr("stdcl.sweep.driver.run_sweep", run_sweep)
    words = ["confirm", "searching", "--top", "1", "--seeds", "2", "--name", "again", "--set", "seeds=[2, 3]"]
    assert stdcl.cli.main([*words, "--quiet"]) == 0
    assert asked["file"] == search / "again.yaml"
    first, *_ = (search / "again.yaml").read_text().splitlines()
    assert first == "# Written by `stdcl confirm searching --top 1 --seeds 2 --name again`."
    assert asked["command"] == shlex.join(["stdcl", *words])


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_a_search_in_a_bundle_can_be_confirmed_elsewhere(make_sweep: MakeSweep, tmp_path: Path, storage: str) -> None:
    sweep = make_sweep(SEARCH, f"optuna.storage={storage}")
    here = _searched(sweep, tmp_path / "here" / "searching", RESULTS)
    write_plan(SweepFolder(here), sweep, [])
    write_bundle([here], tmp_path / "all.tar.gz")
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        archive.extractall(tmp_path / "there", filter="data")
    there = tmp_path / "there" / "searching"
    assert write_confirmation(there, 2, 2)[0].read_text() == write_confirmation(here, 2, 2)[0].read_text()
