"""Early stopping: the decisions of Optuna's own successive halving, from the reported values alone."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from stdcl.sweep.pruning import RungPruner, goes_on, rung_of


@pytest.mark.parametrize(
    ("grace", "factor", "expected"), [(1, 2, [1, 2, 4, 8, 16]), (2, 3, [2, 6, 18]), (5, 4, [5, 20])]
)
def test_rungs(grace: int, factor: int, expected: list[int]) -> None:
    assert [epochs for epochs in range(1, 21) if rung_of(epochs, grace, factor)] == expected


def test_who_goes_on() -> None:
    assert goes_on(0.5, [0.5], 2), "the first of a rung"
    assert not goes_on(0.5, [0.9, 0.5], 2)
    assert goes_on(0.9, [0.9, 0.5], 2)
    assert goes_on(0.8, [0.9, 0.5, 0.8, 0.6], 2)
    assert not goes_on(0.6, [0.9, 0.5, 0.8, 0.6], 2)
    assert goes_on(0.5, [0.5, 0.5, 0.5], 3), "equal to the best"


def _search(pruner: optuna.pruners.BasePruner, shift: int, seed: int, grace: int, factor: int) -> list[tuple[int, str]]:
    """Random curves under a pruner; (epochs reported, state) of each trial."""
    study = optuna.create_study(direction="maximize", pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0))
    curves = np.random.default_rng(seed)
    for _ in range(40):
        trial = study.ask()
        state = TrialState.COMPLETE
        values = np.sort(curves.uniform(0, 1, 20).round(1))
        for epoch in range(1, 21):
            trial.report(float(values[epoch - 1]), epoch + shift)
            if epoch < 20 and trial.should_prune():
                state = TrialState.PRUNED
                break
        study.tell(trial, 0.5 if state == TrialState.COMPLETE else None, state=state)
    return [(len(trial.intermediate_values), trial.state.name) for trial in study.trials]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("grace", "factor"), [(1, 2), (2, 3), (3, 4)])
def test_decisions_are_those_of_optuna(seed: int, grace: int, factor: int) -> None:
    ours = _search(RungPruner(grace, factor, 20), -1, seed, grace, factor)
    theirs = _search(
        optuna.pruners.SuccessiveHalvingPruner(min_resource=grace, reduction_factor=factor), 0, seed, grace, factor
    )
    assert ours == theirs
    assert len({state for _, state in ours}) == 2


def test_nothing_is_stopped_before_the_grace_or_at_the_end() -> None:
    study = optuna.create_study(direction="maximize", pruner=RungPruner(5, 2, 4))
    best = study.ask()
    for step in range(4):
        best.report(0.9, step)
    weak = study.ask()
    for step in range(4):
        weak.report(0.1, step)
        assert not weak.should_prune()
    assert not study.ask().should_prune()


def test_a_failed_trial_does_not_compete_with_its_repetition() -> None:
    study = optuna.create_study(direction="maximize", pruner=RungPruner(1, 2, 9))
    failed = study.ask()
    failed.report(0.9, 0)
    study.tell(failed, state=TrialState.FAIL)
    again = study.ask()
    again.report(0.8, 0)
    assert not again.should_prune()
