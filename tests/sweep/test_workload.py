"""What trials are alike in speed, and how much each has to do."""

from __future__ import annotations

from stdcl.sweep.workload import Work, work_of
from tests.sweep.conftest import GRID, MakeSweep


def test_trials_of_another_method_or_batch_are_of_another_kind(make_sweep: MakeSweep) -> None:
    def found(*overrides: str) -> set[Work]:
        return set(work_of(make_sweep(GRID, *overrides).trials(), lambda trial: 0).values())

    every = found()
    assert len(every) == 2, "cross-entropy alone and STD-CL, whatever the temperature and the seed"
    assert {work.amount for work in every} == {6 * 52.0}
    assert {work.amount for work in found("base.data.repeat=3")} == {3 * 6 * 52.0}
    kinds = {work.kind for work in every}
    assert not kinds & {work.kind for work in found("base.training.batch_size=32")}
    assert not kinds & {work.kind for work in found("base.encoder.name=agcn")}


def test_what_is_behind_a_trial_is_no_work(make_sweep: MakeSweep) -> None:
    trials = make_sweep(GRID).trials()
    first = trials[0].key
    work = work_of(trials, lambda trial: 4 if trial.key == first else 0)
    assert work[first].amount == 2 * 52.0
    assert {each.amount for key, each in work.items() if key != first} == {6 * 52.0}
