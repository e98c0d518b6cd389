"""A search's importance: a parameter that decides outweighs one that does not; names of a search's trials."""

from __future__ import annotations

import warnings
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from stdcl.errors import UserError
from stdcl.results.importance import LEAST, read_importance, write_importance
from stdcl.sweep.importance import importance
from stdcl.sweep.names import TrialNames
from tests.sweep.conftest import SEARCH, MakeSweep

SPACE = {"contrast.temperature": FloatDistribution(0.1, 1.0), "training.weight_decay": FloatDistribution(0.0, 1.0)}


def study(complete: int, pruned: int = 0) -> optuna.Study:
    """Accuracy depends on the temperature alone."""
    found = optuna.create_study(direction="maximize")
    for number in range(complete + pruned):
        tau, decay = 0.1 + 0.9 * (number * 0.618 % 1.0), number * 0.414 % 1.0
        found.add_trial(
            create_trial(
                params={"contrast.temperature": tau, "training.weight_decay": decay},
                distributions=SPACE,
                value=1.0 - (tau - 0.4) ** 2,
                state=TrialState.COMPLETE if number < complete else TrialState.PRUNED,
            )
        )
    return found


def test_what_decides_is_important() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = importance(study(40, 5))
    assert found is not None
    assert (found.complete, found.pruned) == (40, 5)
    tau, decay = found.parameters["contrast.temperature"], found.parameters["training.weight_decay"]
    assert tau.share > 0.8
    assert tau.share + decay.share == pytest.approx(1.0)
    assert tau.low <= tau.high
    assert decay.low <= decay.high < tau.share
    assert importance(study(40, 5)) == found


def test_a_parameter_under_a_condition_is_left_out_and_of_two_objectives_one_is_asked() -> None:
    found = optuna.create_study(directions=["minimize", "maximize"])
    for trial in study(20).trials:
        tau = trial.params["contrast.temperature"]
        kept = trial.params if trial.number % 2 else {"contrast.temperature": tau}
        values = [1.0, trial.value]
        found.add_trial(create_trial(params=kept, distributions={key: SPACE[key] for key in kept}, values=values))
    shares = importance(found, objective=1)
    assert shares is not None
    assert list(shares.parameters) == ["contrast.temperature"]


def test_few_trials_and_equal_values_have_none() -> None:
    assert importance(study(LEAST - 1, 10)) is None
    assert importance(optuna.create_study()) is None


def test_it_is_read_as_data(tmp_path: Path) -> None:
    found = importance(study(20))
    assert found is not None
    write_importance(tmp_path / "importance.json", found)
    assert read_importance(tmp_path / "importance.json") == found
    assert read_importance(tmp_path / "absent.json") is None
    for damaged in ("{", "[]", '{"method": "x", "complete": 1, "pruned": 0, "parameters": {"a": {}}}'):
        (tmp_path / "importance.json").write_text(damaged)
        with pytest.raises(UserError, match="not the importances"):
            read_importance(tmp_path / "importance.json")


def test_names_are_short_and_have_the_studys_number(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(SEARCH)
    key = "contrast.temperature"
    trial = sweep.make_trial("grid", {key: 0.5123456789012345}, 1)
    names = TrialNames([])
    first = names.named(trial, 7)
    assert first.key == f"trial=7,{key.rpartition('.')[2]}=0.5123,{trial.fingerprint[:8]}"
    assert names.named(trial, 12).key == first.key  # proposed again: the same run folder
    other = sweep.make_trial("grid", {key: 0.5123456789012346}, 1)
    assert names.named(other, 8).key != first.key


def test_trials_of_earlier_versions_keep_their_names(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(SEARCH)
    key = "contrast.temperature"
    trial = sweep.make_trial("grid", {key: 0.75}, 1)
    found = optuna.create_study()
    found.add_trial(
        create_trial(
            params={key: 0.75},
            distributions={key: FloatDistribution(0.1, 1.0)},
            value=0.5,
            user_attrs={"trial": "an older name", "fingerprint": trial.fingerprint},
        )
    )
    assert TrialNames(found.trials).named(trial, 3).key == "an older name"
