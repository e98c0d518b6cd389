"""Searching without a cluster: the searcher and the scheduler are driven as Ray Tune drives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from stdcl.config.sweep import OptunaConfig, Sweep, Trial
from stdcl.errors import UserError
from stdcl.sweep import study as studies
from stdcl.sweep.stopping import Stop
from stdcl.sweep.study import ContinuedASHA, Curve, StudySearch
from stdcl.sweep.trainables import EPOCHS_DONE, ERROR, STATUS
from tests.sweep.conftest import SEARCH, MakeSweep


class Driven:
    """One invocation of a search."""

    def __init__(self, sweep: Sweep, folder: Path, history: dict[str, Curve] | None = None) -> None:
        self.study, self.shown = studies.open_study(sweep, folder)
        self.waiting = studies.requeue(self.study, studies.distributions(sweep.config.space))
        self.proposed: list[Trial] = []
        self.replayed: dict[str, Curve] = {}
        self.stop = Stop()
        self.search = StudySearch(
            self.study,
            sweep,
            on_trial=self.proposed.append,
            history=lambda trial: (history or {}).get(trial.key, []),
            replay=self.replayed.__setitem__,
            stop=self.stop,
        )

    def result(self, trial_id: str, epochs: int, accuracy: float) -> None:
        self.search.on_trial_result(trial_id, {"accuracy": accuracy, EPOCHS_DONE: epochs, STATUS: "running"})

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
    found = studies.distributions(make_sweep({**SEARCH, "space": space}).config.space)
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


def test_a_killed_driver_costs_no_trial_and_repeats_no_draw(sweep: Sweep, tmp_path: Path) -> None:
    first = Driven(sweep, tmp_path / "study")
    first.search.suggest("a")
    first.search.suggest("b")
    first.search.suggest("c")
    first.complete("a", "finished", 6, 0.9)
    first.complete("c", "failed", 1, 0.1)
    cut_off, failed = first.proposed[1], first.proposed[2]

    second = Driven(sweep, tmp_path / "study", history={cut_off.key: [(1, 0.3), (2, 0.5)]})
    assert second.waiting == 2
    assert studies.counted(second.study) == 1
    second.search.suggest("x")
    second.search.suggest("y")
    assert [trial.key for trial in second.proposed] == [cut_off.key, failed.key], "the same run folders"
    assert second.study.trials[3].intermediate_values == {0: 0.3, 1: 0.5}, "what the run folder already holds"
    assert second.replayed["x"] == [(1, 0.3), (2, 0.5)]
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
    assert suggestion["trial"]["config"]["data"]["evaluate_on"] == "validation"
    with pytest.raises(UserError, match="test set"):
        make_sweep(SEARCH, "data.evaluate_on=test")


class _Trial:
    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def _asha(epochs: int = 6, **settings: Any) -> ContinuedASHA:
    return ContinuedASHA(epochs, OptunaConfig(**{"grace_epochs": 2, "reduction_factor": 2, **settings}))


def _decide(asha: ContinuedASHA, trial_id: str, epochs: int, accuracy: float) -> str:
    trial = _Trial(trial_id)
    if trial_id not in asha._trial_info:
        asha.on_trial_add(None, trial)
    return str(asha.on_trial_result(None, trial, {EPOCHS_DONE: epochs, "accuracy": accuracy}))


def test_asha_stops_the_weak_after_the_grace_epochs_only() -> None:
    asha = _asha()
    for name, accuracy in (("a", 0.9), ("b", 0.8), ("c", 0.7)):
        assert _decide(asha, name, 1, accuracy) == "CONTINUE"
    assert _decide(asha, "a", 2, 0.9) == "CONTINUE"
    assert _decide(asha, "b", 2, 0.5) == "STOP"


def test_asha_never_stops_a_trial_at_its_own_end() -> None:
    asha = _asha(epochs=6)
    for epoch in range(1, 6):
        assert _decide(asha, "a", epoch, 0.9) == "CONTINUE"
    assert _decide(asha, "a", 6, 0.9) == "CONTINUE"


def test_asha_remembers_across_drivers() -> None:
    fresh, told = _asha(), _asha()
    told.replay("study-0", [(1, 0.8), (2, 0.9), (3, 0.9)])
    assert _decide(fresh, "b", 2, 0.5) == "CONTINUE"
    assert _decide(told, "b", 2, 0.5) == "STOP"


def test_asha_takes_fewer_epochs_than_the_grace() -> None:
    assert _decide(_asha(epochs=1, grace_epochs=5), "a", 1, 0.1) == "CONTINUE"
