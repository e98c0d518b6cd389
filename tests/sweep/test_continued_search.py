"""A search that is killed at any write to its study ends as one that never was: the same trials, to the last bit.

One trial at a time, without Ray: trials are stepped through as Tune would, with an accuracy that depends on parameters
and epoch alone, and a run folder's history that outlives the driver.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from ray.tune.search import Searcher

from stdcl.config.sweep import Sweep
from stdcl.sweep import study as studies
from stdcl.sweep.sampling import study_space
from stdcl.sweep.stopping import StopRequest
from stdcl.sweep.study import Row, StudySearch
from stdcl.sweep.trainables import EPOCHS_DONE, STATUS
from tests.sweep.conftest import SEARCH, MakeSweep

EPOCHS, TRIALS = 5, 9
CONTENT: dict[str, Any] = {
    **SEARCH,
    "optuna": {"trials": TRIALS, "startup_trials": 3, "grace_epochs": 1, "reduction_factor": 2},
}


class Killed(BaseException):
    """As SIGKILL: nothing that runs after it may count."""


def _accuracy(parameters: dict[str, Any], epoch: int) -> float:
    reach = 1.0 - (parameters["contrast.temperature"] - 0.8) ** 2 / 4 - parameters["contrast.channel_reduction"] / 100
    return reach * (1 - math.exp(-epoch / 2))


class Disk:
    """What outlives a driver: the study's journal, the histories of run folders, and the sweep's records."""

    def __init__(self, folder: Path) -> None:
        self.study = folder / "study"
        self.histories: dict[str, list[Row]] = {}
        self.records: dict[str, tuple[str, int]] = {}


def _drive(sweep: Sweep, disk: Disk) -> list[FrozenTrial]:
    """Run a search to its end, or to where it is killed; return the study's trials."""
    study, _ = studies.open_study(sweep, disk.study, EPOCHS)
    studies.requeue(study, study_space(sweep.config.space))
    stop = StopRequest()
    trials: dict[str, Any] = {}
    search = StudySearch(
        study,
        sweep,
        trials=sweep.config.search_settings.trials,
        on_trial=lambda trial: trials.__setitem__(trial.key, trial),
        on_stopped=lambda trial, row: disk.records.__setitem__(trial.key, ("pruned", int(row[EPOCHS_DONE]))),
        on_note=lambda text: None,
        history=lambda trial: list(disk.histories.get(trial.key, [])),
        stop=stop,
    )
    stop.judge = search.judge
    number = 0
    while (found := search.suggest(str(number))) != Searcher.FINISHED:
        assert isinstance(found, dict), stop.error
        key = found["trial"]["key"]
        rows = disk.histories.setdefault(key, [])
        for epoch in range(min(len(rows) + 1, EPOCHS), EPOCHS + 1):
            row = {
                "epoch": epoch,
                "accuracy": _accuracy(trials[key].parameters, epoch),
                "total_seconds": epoch * trials[key].parameters["contrast.temperature"],
            }
            if len(rows) < epoch:
                rows.append(row)
            result = {**row, STATUS: "finished" if epoch == EPOCHS else "running"}
            if stop(str(number), result):
                break
        disk.records[key] = ("finished" if result[STATUS] == "finished" else "pruned", epoch)
        search.on_trial_complete(str(number), result)
        assert stop.error is None, stop.error
        number += 1
    return list(study.get_trials())


def _content(trials: list[FrozenTrial]) -> list[tuple[Any, ...]]:
    return [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in trials]


@pytest.fixture
def sweep(make_sweep: MakeSweep) -> Sweep:
    return make_sweep(CONTENT)


def _kill_at(monkeypatch: pytest.MonkeyPatch, write: int) -> dict[str, int]:
    """Let the process die before its ``write``-th write to the study."""
    count = {"writes": 0}
    real = JournalFileBackend.append_logs

    def append(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        count["writes"] += 1
        if count["writes"] == write:
            raise Killed
        real(self, logs)

    monkeypatch.setattr(JournalFileBackend, "append_logs", append)
    return count


@pytest.mark.parametrize("apart", [pytest.param(1, marks=pytest.mark.slow), 11])
def test_every_place_where_a_driver_can_be_killed(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: int
) -> None:
    with monkeypatch.context() as patched:
        writes = _kill_at(patched, 0)
        undisturbed = Disk(tmp_path / "undisturbed")
        expected = _content(_drive(sweep, undisturbed))
    states = [state.name for _, state, *_ in expected]
    assert len(states) == TRIALS
    assert states.count("PRUNED") >= 2, "decisions are a part of what must be equal"
    assert states.count("COMPLETE") >= 2
    assert writes["writes"] > 60
    for write in range(1, writes["writes"] + 1, apart):
        disk = Disk(tmp_path / str(write))
        with monkeypatch.context() as patched:
            _kill_at(patched, write)
            with pytest.raises(Killed):
                _drive(sweep, disk)
        assert _content(_drive(sweep, disk)) == expected, f"killed before write {write}"
        assert disk.records == undisturbed.records


def test_a_driver_killed_again_and_again(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _content(_drive(sweep, Disk(tmp_path / "undisturbed")))
    disk = Disk(tmp_path / "killed")
    kills = 0
    while True:
        with monkeypatch.context() as patched:
            _kill_at(patched, 11)
            try:
                assert _content(_drive(sweep, disk)) == expected
                break
            except Killed:
                kills += 1
    assert kills > 5


def test_workers_that_ran_ahead_of_a_decision_change_nothing(sweep: Sweep, tmp_path: Path) -> None:
    """The run folder of a trial that was to stop holds further epochs when the next driver looks."""
    expected = _content(_drive(sweep, Disk(tmp_path / "undisturbed")))
    stopped = next(trial for trial in expected if trial[1].name == "PRUNED")
    disk = Disk(tmp_path / "ahead")
    study, _ = studies.open_study(sweep, disk.study, EPOCHS)
    del study

    class Ahead(dict[str, list[Row]]):
        """Every run folder that is opened holds its first three epochs already."""

        def get(self, key: str, default: Any = None) -> Any:
            if key not in self and key.startswith(f"trial={stopped[0]},"):
                parameters = stopped[2]
                self[key] = [{"epoch": e, "accuracy": _accuracy(parameters, e)} for e in range(1, 4)]
            return super().get(key, default)

    disk.histories = Ahead()
    assert _content(_drive(sweep, disk)) == expected


CONDITIONAL: dict[str, Any] = {
    "contrast.strategy": {"type": "choices", "values": ["spatial", "temporal"]},
    "contrast.weight_spatial": {"type": "float", "low": 0.1, "high": 1.0, "when": {"contrast.strategy": "spatial"}},
}
TWO: dict[str, Any] = {"objectives": ["accuracy", "seconds_per_epoch"], "scheduler": "none"}


@pytest.mark.parametrize(
    ("settings", "further"),
    [
        pytest.param({"sampler": "gp", "scheduler": "none", "trials": 5}, {}, id="gp"),
        pytest.param({"sampler": "gp", "scheduler": "median"}, CONDITIONAL, id="gp-median", marks=pytest.mark.slow),
        pytest.param({"sampler": "gp", **TWO}, CONDITIONAL, id="gp-two-objectives", marks=pytest.mark.slow),
        pytest.param({"sampler": "random"}, {}, id="random"),
        pytest.param({"sampler": "tpe", "scheduler": "median"}, CONDITIONAL, id="tpe-median"),
        pytest.param({"sampler": "tpe", **TWO}, CONDITIONAL, id="tpe-two-objectives"),
    ],
)
def test_every_sampler_goes_on_as_if_nothing_had_happened(
    make_sweep: MakeSweep,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    further: dict[str, Any],
) -> None:
    """Killed at every so-manieth write, again and again: as the undisturbed search, to the last bit."""
    content = {**CONTENT, "optuna": {**CONTENT["optuna"], **settings}, "space": {**CONTENT["space"], **further}}
    sweep = make_sweep(content)
    expected = _content(_drive(sweep, Disk(tmp_path / "undisturbed")))
    assert len({repr(params) for _, _, params, *_ in expected}) == sweep.config.search_settings.trials
    if further:
        assert {"contrast.weight_spatial" in params for _, _, params, *_ in expected} == {True, False}
    disk = Disk(tmp_path / "killed")
    kills = 0
    while True:
        with monkeypatch.context() as patched:
            _kill_at(patched, 13)
            try:
                assert _content(_drive(sweep, disk)) == expected
                break
            except Killed:
                kills += 1
    assert kills > 3


def test_another_seed_is_another_search(make_sweep: MakeSweep, tmp_path: Path) -> None:
    one = _drive(make_sweep(CONTENT), Disk(tmp_path / "one"))
    other = _drive(make_sweep(CONTENT, "optuna.seed=1"), Disk(tmp_path / "other"))
    assert not {t.params["contrast.temperature"] for t in one} & {t.params["contrast.temperature"] for t in other}
