"""What trials are alike in speed, and how much each has to do."""

from __future__ import annotations

from stdcl.sweep.workload import Work, work_of
from tests.sweep.conftest import GRID, MakeSweep


def test_trials_of_another_method_or_batch_are_of_another_kind(make_sweep: MakeSweep) -> None:
    def found(*overrides: str) -> set[Work]:
        return set(work_of(make_sweep(GRID, *overrides).trials()).values())

    every = found()
    assert len(every) == 2, "cross-entropy alone and STD-CL, whatever the temperature and the seed"
    assert {work.amount for work in every} == {6 * 52.0}
    assert {work.amount for work in found("base.data.repeat=3")} == {3 * 6 * 52.0}
    kinds = {work.kind for work in every}
    assert not kinds & {work.kind for work in found("base.training.batch_size=32")}
    assert not kinds & {work.kind for work in found("base.encoder.name=agcn")}
