"""A search that begins with what earlier sweeps found: what is taken, what is not and why, and that it stays so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stdcl.config.sweep import Sweep
from stdcl.errors import UserError
from stdcl.results.layout import SweepFolder
from stdcl.results.store import TrialRow, append
from stdcl.sweep import study as studies
from stdcl.sweep import warm_start
from stdcl.sweep.plan import check_same_question, write_plan, write_sweep
from stdcl.sweep.record import Recorder
from stdcl.sweep.sampling import study_space, suggest
from stdcl.training.checkpoint import Position
from tests.sweep.conftest import SEARCH, MakeSweep

TAU, R, D = "contrast.temperature", "contrast.channel_reduction", "contrast.embedding_dim"
EARLIER: dict[str, Any] = {**SEARCH, "name": "earlier"}
LATER: dict[str, Any] = {
    **SEARCH,
    "space": {
        TAU: {"type": "float", "low": 0.4, "high": 1.0},
        D: {"type": "int", "low": 64, "high": 256, "step": 64},
        R: {"type": "choices", "values": [8, 16]},
    },
    "warm_start": ["earlier"],
}


def _hash(path: str) -> str:
    return "feed"


def checkpoint_of(root: Path, data_hash: str) -> None:
    """What a checkpoint says of its data; the rest of it is not read."""
    folder = root / Position(2).name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"identity": {"dataset_hash": data_hash}}))


def _trained(sweep: Sweep, folder: Path, results: list[tuple[dict[str, Any], str, dict[str, Any]]]) -> Path:
    """A sweep's folder with trials that ended so: (values, status, other facts of the row)."""
    place = SweepFolder(folder)
    trials = [sweep.make_trial("", values, 1) for values, _, _ in results]
    write_sweep(place, sweep)
    write_plan(place, sweep, trials)
    for trial, (_, status, facts) in zip(trials, results, strict=True):
        run = place.run(trial.key)
        run.root.mkdir(parents=True)
        rows = [{"schema": 2, "epoch": epoch, "accuracy": epoch / 10} for epoch in (1, 2)]
        run.history.write_text("".join(json.dumps(row) + "\n" for row in rows))
        if status == "pruned":
            checkpoint_of(run.checkpoints, "feed")
        values: dict[str, Any] = {
            "accuracy": 0.7,
            "num_test": 100,
            "epochs": 2,
            # One that was stopped early leaves no result: its checkpoint says which data it had.
            "data_hash": "" if status == "pruned" else "feed",
            "evaluated_on": "validation",
            "seconds_per_epoch": 3.0,
            **facts,
        }
        append(
            place.results,
            TrialRow(
                sweep="earlier",
                key=trial.key,
                attempt=0,
                status=status,  # type: ignore[arg-type]
                arm=trial.arm,
                seed=1,
                parameters=trial.parameters,
                dataset="nw-ucla",
                protocol="cross-view",
                stream="joint",
                encoder="ctrgcn",
                strategy="spatial+temporal",
                fingerprint=trial.fingerprint,
                **values,
            ),
        )
    return folder


RESULTS: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({TAU: 0.5, R: 8}, "finished", {}),
    ({TAU: 0.6, R: 16}, "pruned", {}),
    ({TAU: 0.3, R: 8}, "finished", {}),
    ({TAU: 0.5, R: 4}, "finished", {}),
    ({TAU: 0.7, R: 8}, "finished", {"data_hash": "other"}),
    ({TAU: 0.8, R: 8}, "finished", {"evaluated_on": "test"}),
    ({TAU: 0.9, R: 8}, "failed", {}),
]


def test_comparable_results_alone_are_taken_and_the_others_are_named(make_sweep: MakeSweep, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    _trained(make_sweep(EARLIER), storage / "earlier", RESULTS)
    (found,) = warm_start.collect(make_sweep(LATER), storage, _hash)
    assert [trial.params for trial in found.trials] == [
        {TAU: 0.5, D: 256, R: 8},
        {TAU: 0.6, D: 256, R: 16},
    ], "what the earlier space had not is what its trials were trained with"
    assert [trial.state.name for trial in found.trials] == ["COMPLETE", "PRUNED"]
    assert found.trials[0].value == 0.7
    assert found.trials[0].intermediate_values == {0: 0.1, 1: 0.2}
    assert found.render() == (
        "warm start: 2 of 7 trials of 'earlier' are taken; left out: 1 with contrast.temperature outside the space; "
        "1 with contrast.channel_reduction outside the space; 1 on other data; 1 judged on the test set; 1 not finished"
    )


def test_an_earlier_trial_on_data_that_nothing_names_is_left_out(make_sweep: MakeSweep, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    folder = _trained(make_sweep(EARLIER), storage / "earlier", RESULTS[1:2])
    (manifest,) = folder.glob("trials/*/checkpoints/*/manifest.json")
    manifest.write_text("{}")
    (found,) = warm_start.collect(make_sweep(LATER), storage, _hash)
    assert found.left_out == {"on data that nothing names": 1}


def test_a_pruned_trial_s_row_names_its_data(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep = make_sweep(EARLIER)
    place, trial = SweepFolder(tmp_path / "runs" / "earlier"), sweep.make_trial("", {TAU: 0.5, R: 8}, 1)
    recorder = Recorder(place, "earlier", "")
    checkpoint_of(place.run(trial.key).checkpoints, "feed")
    assert recorder.record(trial, "pruned", {"epoch": 1, "accuracy": 0.5}).data_hash == "feed"


def test_another_configuration_is_not_comparable(make_sweep: MakeSweep, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    _trained(make_sweep(EARLIER, "training.epochs=9", "encoder.name=hcn"), storage / "earlier", RESULTS[:1])
    (found,) = warm_start.collect(make_sweep(LATER), storage, _hash)
    assert found.trials == ()
    ((reason, number),) = found.left_out.items()
    assert number == 1
    assert reason.startswith("with another encoder.")


def test_two_objectives_need_both_of_a_trial_that_ended(make_sweep: MakeSweep, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    _trained(make_sweep(EARLIER), storage / "earlier", RESULTS[:2])
    two = {"objectives": ["accuracy", "seconds_per_epoch"], "scheduler": "none"}
    (found,) = warm_start.collect(make_sweep({**LATER, "optuna": two}), storage, _hash)
    assert [trial.values for trial in found.trials] == [[0.7, 3.0]]
    assert found.left_out == {"stopped early": 1}


def test_a_continued_search_sees_the_history_that_it_began_with(make_sweep: MakeSweep, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    _trained(make_sweep(EARLIER), storage / "earlier", RESULTS)
    sweep = make_sweep(LATER)

    def begin(folder: str) -> tuple[list[str], list[dict[str, Any]]]:
        study, _ = studies.open_study(sweep, tmp_path / folder, 6)
        said = warm_start.add(study, sweep, lambda: warm_start.collect(sweep, storage, _hash))
        return said, [trial.params for trial in study.get_trials()]

    said, first = begin("study")
    assert said[0].startswith("warm start: 2 of 7 trials")
    assert len(first) == 2
    assert begin("study") == (["warm start: the study began with 2 trials of 'earlier'"], first)

    # Killed after the first of them: the rest is added, none twice.
    study, _ = studies.open_study(sweep, tmp_path / "killed", 6)
    study.add_trial(warm_start.collect(sweep, storage, _hash)[0].trials[0])
    assert begin("killed")[1] == first

    study, _ = studies.open_study(sweep, tmp_path / "study", 6)
    assert studies.counted(study) == 0, "they do not count towards optuna.trials"
    study.enqueue_trial({}, user_attrs={studies.OURS: sweep.config.name})
    suggest(study.ask(), study_space(sweep.config.space))
    assert studies.requeue(study, study_space(sweep.config.space)) == 1, "and are not continued"


def test_what_it_begins_with_cannot_be_changed_afterwards(make_sweep: MakeSweep, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "storage" / "searching")
    folder.root.mkdir(parents=True)
    write_sweep(folder, make_sweep(LATER))
    assert check_same_question(folder, make_sweep(LATER))
    with pytest.raises(UserError, match="keeps the history that it began with"):
        check_same_question(folder, make_sweep(LATER, "warm_start=[]"))


def test_a_sweep_that_is_not_there_is_said_before_anything_is_written(make_sweep: MakeSweep, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no sweep 'earlier'"):
        warm_start.sources(make_sweep(LATER), tmp_path)
    with pytest.raises(UserError, match="is the search itself"):
        warm_start.sources(make_sweep({**LATER, "warm_start": ["searching"]}), tmp_path)
