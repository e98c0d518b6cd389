"""A grid's trials, as Ray Tune is given them."""

from __future__ import annotations

import json
import pickle

from ray.tune.search import Searcher

from stdcl.config import RunConfig
from stdcl.sweep.planned import PlannedTrials
from tests.sweep.conftest import GRID, MakeSweep


def test_the_trials_come_one_by_one_in_order_and_then_the_end(make_sweep: MakeSweep) -> None:
    trials = make_sweep(GRID).trials()
    search = PlannedTrials(trials)
    proposed = []
    while (found := search.suggest(f"id {len(proposed)}")) != Searcher.FINISHED:
        assert isinstance(found, dict)
        proposed.append(found["trial"])
        search.on_trial_complete(f"id {len(proposed)}", error=True)
    assert [each["key"] for each in proposed] == [trial.key for trial in trials]
    assert [RunConfig.model_validate(json.loads(each["config"])) for each in proposed] == [
        trial.config for trial in trials
    ]
    assert search.suggest("one more") == Searcher.FINISHED


def test_a_trial_carries_itself_alone(make_sweep: MakeSweep) -> None:
    """Whatever Tune copies for each trial is as large for 600 trials as for 6."""

    def size(seeds: int) -> int:
        return len(
            pickle.dumps(PlannedTrials(make_sweep(GRID, f"seeds={list(range(1, seeds + 1))}").trials()).suggest(""))
        )

    few, many = size(2), size(200)
    assert few == many
    assert len(pickle.dumps(PlannedTrials(make_sweep(GRID).trials()))) < 200
