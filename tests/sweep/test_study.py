"""Searching without a cluster: the searcher and the scheduler are driven as Ray Tune drives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from stdcl.config.space import OptunaConfig
from stdcl.config.sweep import Sweep, Trial
from stdcl.errors import UserError
from stdcl.sweep import study as studies
from stdcl.sweep.sampling import distributions, study_space
from stdcl.sweep.stopping import StopRequest
from stdcl.sweep.storage import open_storage
from stdcl.sweep.study import Row, StudySearch
from stdcl.sweep.trainables import EPOCHS_DONE, ERROR, STATUS
from tests.sweep.conftest import SEARCH, MakeSweep


class Driven:
    """One invocation of a search."""

    def __init__(self, sweep: Sweep, folder: Path, history: dict[str, list[Row]] | None = None) -> None:
        self.study, self.shown = studies.open_study(sweep, folder, 6)
        self.waiting = studies.requeue(self.study, study_space(sweep.config.space))
        self.proposed: list[Trial] = []
        self.stopped: list[tuple[str, int]] = []
        self.notes: list[str] = []
        self.stop = StopRequest()
        settings = sweep.config.optuna or OptunaConfig()
        self.search = StudySearch(
            self.study,
            sweep,
            trials=settings.trials,
            on_trial=self.proposed.append,
            on_stopped=lambda trial, row: self.stopped.append((trial.key, int(row[EPOCHS_DONE]))),
            on_note=self.notes.append,
            history=lambda trial: (history or {}).get(trial.key, []),
            stop=self.stop,
        )
        self.stop.judge = self.search.judge

    def result(self, trial_id: str, epochs: int, accuracy: float) -> bool:
        """As Tune does with a result: it asks the Stopper, and hands the result on if that lets the trial go on."""
        result = {"accuracy": accuracy, EPOCHS_DONE: epochs, STATUS: "running"}
        stops = self.stop(trial_id, result)
        if not stops:
            self.search.on_trial_result(trial_id, result)
        return stops

    def complete(self, trial_id: str, status: str, epochs: int = 6, accuracy: float = 0.5, **more: Any) -> None:
        result = {"accuracy": accuracy, EPOCHS_DONE: epochs, STATUS: status, **more}
        self.search.on_trial_complete(trial_id, result)


@pytest.fixture
def sweep(make_sweep: MakeSweep) -> Sweep:
    return make_sweep(SEARCH)


def test_distributions_cover_every_kind(make_sweep: MakeSweep) -> None:
    space = {
        "contrast.temperature": {"type": "float", "low": 0.1, "high": 1.0, "log": True},
        "contrast.embedding_dim": {"type": "int", "low": 64, "high": 256, "step": 64},
        "contrast.strategy": {"type": "choices", "values": ["spatial", "temporal"]},
    }
    found = distributions(make_sweep({**SEARCH, "space": space}).config.space)
    assert found["contrast.temperature"] == optuna.distributions.FloatDistribution(0.1, 1.0, log=True)
    assert found["contrast.embedding_dim"] == optuna.distributions.IntDistribution(64, 256, step=64)
    assert found["contrast.strategy"] == optuna.distributions.CategoricalDistribution(("spatial", "temporal"))


def test_each_ending_is_told_as_what_it_is(sweep: Sweep, tmp_path: Path) -> None:
    driven = Driven(sweep, tmp_path / "study")
    for trial_id in "abcde":
        assert driven.search.suggest(trial_id) is not None
    for trial_id in "abcde":
        driven.result(trial_id, 1, 0.3)
    driven.complete("a", "finished", 6, 0.9)
    driven.complete("b", "running", 2, 0.4)
    driven.complete("c", "failed", 1, 0.3, **{ERROR: "ValueError: no"})
    driven.complete("d", "diverged", 1, 0.3, **{ERROR: "the loss is nan"})
    driven.search.on_trial_complete("e", error=True)
    assert driven.stop.error is None
    trials = driven.study.trials
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.PRUNED,
        TrialState.FAIL,
    ]
    assert trials[0].value == 0.9
    assert trials[0].intermediate_values == {0: 0.3, 5: 0.9}
    assert trials[1].intermediate_values == {0: 0.3, 1: 0.4}
    assert trials[2].user_attrs["error"] == "ValueError: no"
    assert trials[3].value == 0.0, "a diverged trial must look bad to the sampler"
    assert studies.counted(driven.study) == 3
    assert [trial.user_attrs["trial"] for trial in trials] == [trial.key for trial in driven.proposed]


def test_with_two_objectives_nothing_is_reported_and_a_diverged_trial_is_no_result(
    make_sweep: MakeSweep, tmp_path: Path
) -> None:
    two = {"objectives": ["accuracy", "seconds_per_epoch"], "scheduler": "none", "trials": 2}
    driven = Driven(make_sweep({**SEARCH, "optuna": two}), tmp_path / "study")
    for trial_id in "ab":
        driven.search.suggest(trial_id)
        assert not driven.result(trial_id, 1, 0.3)
    driven.complete("a", "finished", 6, 0.9, total_seconds=12.0)
    driven.complete("b", "diverged", 1, 0.3, total_seconds=1.0, **{ERROR: "the loss is nan"})
    assert driven.stop.error is None
    assert [trial.state.name for trial in driven.study.trials] == ["COMPLETE", "PRUNED"]
    assert driven.study.trials[0].values == [0.9, 2.0]
    assert driven.study.trials[1].values is None, "it must not be the fastest of all"
    assert driven.study.metric_names == ["accuracy", "seconds_per_epoch"]
    assert [trial.number for trial in driven.study.best_trials] == [0]
    assert studies.counted(driven.study) == 2


def test_an_encoder_that_trains_longer_is_not_stopped_at_the_others_end(make_sweep: MakeSweep, tmp_path: Path) -> None:
    space = {"training.epochs": {"type": "choices", "values": [2, 6]}}
    base = {**SEARCH["base"], "training": {"batch_size": 16, "learning_rate": 0.1}}
    settings = {"scheduler": "asha", "grace_epochs": 2, "reduction_factor": 2, "trials": 3, "sampler": "random"}
    driven = Driven(make_sweep({**SEARCH, "base": base, "space": space, "optuna": settings}), tmp_path / "study")
    for trial_id, epochs in (("a", 2), ("b", 6), ("c", 2)):
        driven.study.enqueue_trial({"training.epochs": epochs})
        driven.search.suggest(trial_id)
    assert [trial.user_attrs.get("epochs") for trial in driven.study.trials] == [None, 6, None]
    assert not driven.result("a", 2, 0.9)
    assert driven.result("b", 2, 0.5), "at its rung it is compared, though others end there"
    assert not driven.result("c", 2, 0.1), "at its own end nothing is stopped"


def _rows(*accuracies: float) -> list[Row]:
    return [{"epoch": epoch, "accuracy": value} for epoch, value in enumerate(accuracies, 1)]


def test_a_killed_driver_costs_no_trial_and_repeats_no_draw(sweep: Sweep, tmp_path: Path) -> None:
    first = Driven(sweep, tmp_path / "study")
    first.search.suggest("a")
    first.search.suggest("b")
    first.search.suggest("c")
    first.result("b", 1, 0.3)
    first.complete("a", "finished", 6, 0.9)
    first.complete("c", "failed", 1, 0.1)
    cut_off, failed = first.proposed[1], first.proposed[2]

    second = Driven(sweep, tmp_path / "study", history={cut_off.key: _rows(0.3, 0.5)})
    assert second.waiting == 2
    assert studies.counted(second.study) == 1
    second.search.suggest("x")
    second.search.suggest("y")
    assert [trial.key for trial in second.proposed] == [cut_off.key, failed.key], "the same run folders"
    assert [trial.parameters for trial in second.proposed] == [cut_off.parameters, failed.parameters]
    trials = second.study.trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "RUNNING", "FAIL", "RUNNING"]
    assert trials[1].intermediate_values == {0: 0.3, 1: 0.5}, "what the run folder already holds"
    assert trials[3].user_attrs["retry_of"] == 2
    second.search.suggest("z")
    fresh = second.proposed[2].parameters["contrast.temperature"]
    assert fresh not in [trial.parameters["contrast.temperature"] for trial in first.proposed]
    assert set(studies.known_trials(second.study, sweep)) == {t.key for t in (*first.proposed, second.proposed[2])}

    third = Driven(sweep, tmp_path / "study")
    assert third.waiting == 3, "x, y and z, each once; what they retried is not retried beside them"


def test_an_interrupted_trial_stays_open_and_is_continued(sweep: Sweep, tmp_path: Path) -> None:
    first = Driven(sweep, tmp_path / "study")
    first.search.suggest("a")
    first.stop.request()
    first.complete("a", "running", 1, 0.2)
    assert first.study.trials[0].state == TrialState.RUNNING
    assert Driven(sweep, tmp_path / "study").waiting == 1


def test_the_search_ends_when_as_many_are_judged_as_asked_for(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep = make_sweep(SEARCH, "optuna.trials=2")
    first = Driven(sweep, tmp_path / "study")
    assert first.search.suggest("a") != Searcher.FINISHED
    assert first.search.suggest("b") != Searcher.FINISHED
    assert first.search.suggest("c") == Searcher.FINISHED
    first.complete("a", "finished")
    second = Driven(sweep, tmp_path / "study")
    assert isinstance(second.search.suggest("x"), dict)
    assert second.search.suggest("y") == Searcher.FINISHED


def test_what_a_notebook_adds_informs_the_sampler_and_counts_for_nothing(sweep: Sweep, tmp_path: Path) -> None:
    first = Driven(sweep, tmp_path / "study")
    own = first.study.ask()
    own.suggest_float("contrast.temperature", 0.2, 2.0)
    first.study.tell(own, 0.4)
    open_one = first.study.ask()
    second = Driven(sweep, tmp_path / "study")
    assert studies.counted(second.study) == 0
    assert second.waiting == 0
    second.search.suggest("a")
    assert second.study.trials[open_one.number].state == TrialState.RUNNING, "it belongs to another process"
    assert len(second.study.trials) == 3


@pytest.mark.parametrize(
    "queued", [{"contrast.channel_reduction": 99}, {"contrast.temperature": 7.0}, {"contrast.temperature": "hot"}]
)
def test_a_value_outside_the_space_that_somebody_queued_is_left_out(
    sweep: Sweep, tmp_path: Path, queued: dict[str, Any]
) -> None:
    driven = Driven(sweep, tmp_path / "study")
    driven.study.enqueue_trial({"contrast.temperature": 1.5})
    driven.study.enqueue_trial(queued)
    driven.search.suggest("a")
    driven.search.suggest("b")
    assert driven.stop.error is None
    assert driven.proposed[0].parameters["contrast.temperature"] == 1.5
    assert [trial.state.name for trial in driven.study.trials] == ["RUNNING", "FAIL", "RUNNING"]
    assert "not in the space" in driven.study.trials[1].user_attrs["impossible"]
    assert driven.notes[0].startswith("trial 1 of the study is left out: ")
    assert Driven(sweep, tmp_path / "study").waiting == 2


def test_a_study_of_another_direction_is_refused(sweep: Sweep, tmp_path: Path) -> None:
    storage, _ = open_storage(OptunaConfig(), tmp_path / "study")
    optuna.create_study(storage=storage, study_name=sweep.config.name, direction="minimize")
    with pytest.raises(UserError, match=r"other directions \(minimize; expected: maximize"):
        Driven(sweep, tmp_path / "study")


def test_a_configuration_that_is_being_trained_is_not_trained_beside_itself(
    make_sweep: MakeSweep, tmp_path: Path
) -> None:
    one = {**SEARCH, "space": {"contrast.channel_reduction": {"type": "choices", "values": [4]}}}
    driven = Driven(make_sweep(one), tmp_path / "study")
    assert driven.search.suggest("a") is not None
    assert driven.search.suggest("b") is None
    assert driven.search.suggest("b") is None
    driven.complete("a", "finished")
    again = driven.search.suggest("b")
    assert again is not None
    assert again["trial"]["key"] == driven.proposed[0].key
    assert len(driven.study.trials) == 2


def test_impossible_combinations_are_left_out_and_an_impossible_space_is_refused(
    make_sweep: MakeSweep, tmp_path: Path
) -> None:
    space = {
        "contrast.hard_negatives": {"type": "choices", "values": [0, 64]},
        "contrast.random_negatives": {"type": "choices", "values": [64, 0]},
    }
    sweep = make_sweep({**SEARCH, "space": space})
    driven = Driven(sweep, tmp_path / "study")
    for number in range(12):
        assert driven.search.suggest(str(number)) is not None
        driven.complete(str(number), "finished", 6, 0.5)
    impossible = [trial for trial in driven.study.trials if "impossible" in trial.user_attrs]
    assert impossible, "both 0 must have been drawn"
    assert all("negatives" in trial.user_attrs["impossible"] for trial in impossible)
    assert Driven(sweep, tmp_path / "study").waiting == 0


def test_a_fault_of_the_storage_stops_the_sweep(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven = Driven(sweep, tmp_path / "study")
    driven.search.suggest("a")

    def full(*args: object, **more: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(driven.study, "tell", full)
    driven.complete("a", "finished")
    assert driven.stop.stop_all()
    assert isinstance(driven.stop.error, OSError)


def test_sqlite_as_storage(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep = make_sweep(SEARCH, "optuna.storage=sqlite")
    driven = Driven(sweep, tmp_path / "study")
    driven.search.suggest("a")
    driven.complete("a", "finished", 6, 0.7)
    assert driven.shown.startswith("sqlite:////")
    assert studies.counted(Driven(sweep, tmp_path / "study").study) == 1


def test_a_search_never_sees_the_test_set(sweep: Sweep, make_sweep: MakeSweep, tmp_path: Path) -> None:
    driven = Driven(sweep, tmp_path / "study")
    suggestion = driven.search.suggest("a")
    assert suggestion is not None
    assert json.loads(suggestion["trial"]["config"])["data"]["evaluate_on"] == "validation"
    with pytest.raises(UserError, match="test set"):
        make_sweep(SEARCH, "data.evaluate_on=test")
