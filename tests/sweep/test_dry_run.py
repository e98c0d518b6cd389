"""A dry run writes nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stdcl.config import RunConfig
from stdcl.config.sweep import load_sweep
from stdcl.data.store import read_manifest
from stdcl.errors import UserError
from stdcl.results.layout import SweepFolder
from stdcl.results.result import RunResult, write_result
from stdcl.sweep.driver import DataCheck, load_settled, plan_sweep, run_sweep
from stdcl.sweep.forecast import render_forecast
from stdcl.sweep.reuse import wanted_identity
from stdcl.training.checkpoint import Position
from stdcl.version import execution_digest
from tests.sweep.conftest import GRID, SEARCH, MakeSweep
from tests.sweep.test_study import Driven
from tests.train.conftest import MakeConfig, small_raw
from tests.train.test_trainer import run


def grid_file(make_sweep: MakeSweep, store: Path) -> Path:
    """The grid's file on a small store, whose classes are too small for the sample counts of the defaults."""
    return Path(make_sweep({**GRID, "base": small_base(store, positives=3, negatives=30)}).where)


def small_base(store: Path, positives: int, negatives: int) -> dict[str, Any]:
    contrast = {"hard_positives": positives, "hard_negatives": negatives, "random_negatives": negatives}
    return {**GRID["base"], "data": {"dataset": "nw-ucla", "path": str(store)}, "contrast": contrast}


def test_a_synthetic_corpus_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STDCL_DATA", str(tmp_path / "data"))
    said: list[str] = []
    assert run_sweep(Path("quickstart"), dry_run=True, storage=tmp_path / "runs", say=said.append) == 0
    assert list(tmp_path.iterdir()) == []
    assert any("is made when the sweep runs" in line for line in said)
    assert any("not started" in line for line in said)


def test_what_the_check_remarks_is_said_before_the_start(
    make_sweep: MakeSweep, small_store: Path, tmp_path: Path
) -> None:
    data = {"dataset": "nw-ucla", "path": str(small_store)}
    path = Path(make_sweep({**GRID, "base": {**GRID["base"], "data": data}}).where)

    def check(config: RunConfig) -> tuple[str, ...]:
        return ("a class is left out", "rare") if config.contrast.temperature == 0.5 else ("a class is left out",)

    said: list[str] = []
    assert run_sweep(path, dry_run=True, storage=tmp_path / "runs", check=check, say=said.append) == 0
    assert said[:2] == ["a class is left out", "rare (in contrast.temperature=0.5)"]


def test_the_check_of_a_sweep_remarks_what_that_of_a_run_does(
    make_sweep: MakeSweep, small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"dataset": "nw-ucla", "path": str(small_store)}
    trial = make_sweep({**GRID, "base": {**GRID["base"], "data": data}}).trials()[0]
    monkeypatch.setattr("stdcl.training.components.check", lambda config, opens: SimpleNamespace(remarks=("said",)))
    assert DataCheck()(trial.config) == ("said",)


def test_what_is_finished_elsewhere_is_no_work(
    make_sweep: MakeSweep, small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, runs, said = grid_file(make_sweep, small_store), tmp_path / "runs", []
    trial, *others = load_sweep(path).trials()
    wanted = wanted_identity(trial, read_manifest(small_store).content_hash, execution_digest())
    source = SweepFolder(runs / "other").run("a trial")
    row = {"epoch": 6, "accuracy": 0.5, "num_test": 20}
    write_result(source.result, RunResult(row, seed=trial.seed, sweep="other", trial="a trial", **wanted._asdict()))
    assert run_sweep(path, dry_run=True, storage=runs, check=lambda config: (), say=said.append) == 0
    assert [line for line in said if str(source.root) in line and trial.key in line]
    assert len([line for line in said if line.endswith("  not started")]) == len(others)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    found = plan_sweep(load_sweep(path), measure=False, storage=runs, say=said.append)
    assert (found.trials, found.epochs, found.elsewhere) == (len(others), 6 * len(others), 1)
    assert "taken over  1 more" in render_forecast(found)
    alone = plan_sweep(load_sweep(path, ["alone=true"]), measure=False, storage=runs, say=said.append)
    assert (alone.trials, alone.elsewhere) == (len(others) + 1, 0), "its times are to be measured"
    assert [path.name for path in runs.iterdir()] == ["other"], "nothing is written"


def test_a_trial_goes_on_where_its_checkpoint_is_not_where_its_history_ends(
    make_sweep: MakeSweep, small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive of a sweep holds histories, no checkpoints; checkpoint_every leaves the history ahead of them."""
    path, runs, said = grid_file(make_sweep, small_store), tmp_path / "runs", []
    sweep = load_sweep(path)
    folder = SweepFolder(runs / sweep.config.name)
    bare, behind, level, begun, *others = sweep.trials()
    for trial, done in ((bare, 4), (behind, 5), (level, 4), (begun, 0)):
        run = folder.run(trial.key)
        run.root.mkdir(parents=True)
        run.history.write_text("".join(f'{{"schema": 2, "epoch": {i + 1}, "loss": 1.0}}\n' for i in range(done)))
    for trial, position in (
        (behind, Position(2, 0)),
        (behind, Position(3, 7)),
        (level, Position(4, 0)),
        (begun, Position(0, 5)),
    ):
        (folder.run(trial.key).checkpoints / position.name).mkdir(parents=True)

    assert run_sweep(path, dry_run=True, storage=runs, check=lambda config: (), say=said.append) == 0
    standing = {
        line.split()[0]: line.split(maxsplit=2)[2] for line in said if line.startswith("  temp") or "seed=" in line
    }
    assert standing[bare.key] == "interrupted after epoch 4: begins anew, without a checkpoint"
    assert standing[behind.key] == "interrupted after epoch 5: goes on after epoch 3"
    assert standing[level.key] == "interrupted after epoch 4: goes on"
    assert standing[begun.key] == "interrupted: goes on"

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    found = plan_sweep(sweep, measure=False, storage=runs, say=said.append)
    assert found.epochs == 6 + 3 + 2 + 6 + 6 * len(others)


def test_a_training_that_goes_on_from_another_has_the_epochs_left_that_this_has_not(
    make_sweep: MakeSweep,
    make_config: MakeConfig,
    small_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    run(make_config(training={"epochs": 1}), tmp_path / "source")
    raw = small_raw(small_store, init_from={"run": str(tmp_path / "source"), "what": "training"})
    sections = ("recipe", "data", "encoder", "contrast", "training", "tracking", "init_from")
    path = Path(make_sweep({**GRID, "base": {key: raw[key] for key in sections}, "baseline": False}).where)
    sweep, runs, said = load_settled(path), tmp_path / "runs", list[str]()
    first, *others = sweep.trials()
    own = SweepFolder(runs / sweep.config.name).run(first.key).checkpoints
    (own / Position(2, 0).name).mkdir(parents=True)

    assert run_sweep(path, dry_run=True, storage=runs, check=lambda config: (), say=said.append) == 0
    goes_on = "not started: goes on with the training of init_from.run after epoch 1"
    assert [line.split()[0] for line in said if line.endswith(goes_on)] == [trial.key for trial in others]
    assert any(line.startswith(f"small: 4 trial(s) to train, {2 * len(others) + 1} epochs") for line in said)
    assert plan_sweep(sweep, measure=False, storage=runs, say=said.append).epochs == 2 * len(others) + 1
    tuned = load_settled(path, ["name=tuned", "base.init_from.what=encoder"])
    assert plan_sweep(tuned, measure=False, storage=runs, say=said.append).epochs == 3 * len(tuned.trials())
    short = load_settled(path, ["name=short", "base.training.epochs=1", "base.training.warmup_epochs=0"])
    with pytest.raises(UserError, match=r"source has 1 epochs; set training\.epochs to more than that \(it is 1\)"):
        plan_sweep(short, measure=False, storage=runs, say=said.append)


def test_a_search_with_nothing_left_costs_nothing(
    make_sweep: MakeSweep, small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    content = {**SEARCH, "base": small_base(small_store, positives=1, negatives=9), "optuna": {"trials": 2}}
    sweep, runs, said = make_sweep(content), tmp_path / "runs", list[str]()
    driven = Driven(sweep, SweepFolder(runs / sweep.config.name).study)
    for trial_id in "ab":
        driven.search.suggest(trial_id)
        driven.complete(trial_id, "finished")
    path = Path(sweep.where)
    assert not run_sweep(path, dry_run=True, hours=0.001, storage=runs, check=lambda config: (), say=said.append)
    assert "2 of them are judged, 0 are to be continued, 0 to be drawn" in said
    assert any("0 trial(s) to train, 0 epochs" in line for line in said)
    assert not [line for line in said if "stdcl plan" in line], "nothing is to be measured"
    longer = make_sweep(content, "optuna.trials=3")
    found = [plan_sweep(each, measure=False, storage=runs, say=said.append) for each in (sweep, longer)]
    assert [(each.trials, each.epochs) for each in found] == [(0, 0), (1, 6)]
    assert found[0].hours == 0


def test_what_measures_is_named_with_the_overrides(make_sweep: MakeSweep, small_store: Path, tmp_path: Path) -> None:
    path, said = grid_file(make_sweep, small_store), list[str]()
    changed = ("seeds=[1, 2, 3]", "question=Which words?")
    assert not run_sweep(
        path, changed, dry_run=True, storage=tmp_path / "runs", check=lambda config: (), say=said.append
    )
    assert said[-1].startswith(f"\n`stdcl plan {path} --set 'seeds=[1, 2, 3]' --set 'question=Which words?'` measures")
