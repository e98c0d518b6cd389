"""What a sweep is said to cost: from earlier runs, from a probe, and not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from stdcl.config import RunConfig, to_yaml
from stdcl.errors import UserError
from stdcl.launch.cluster import Cluster
from stdcl.results.ask import write_ask
from stdcl.results.layout import RunFolder, SweepFolder
from stdcl.sweep.forecast import START_ALONE, START_GROUP, CellCost, Forecast, makespan, render_forecast
from stdcl.sweep.grounds import PROBES_AT_MOST, forecast, kind_of, on_processor, recorded, refuse_beyond, scaled
from stdcl.sweep.record import Recorder
from stdcl.sweep.remaining import Remaining
from stdcl.training.checkpoint import Position
from stdcl.training.probe import Probe, operations, probe
from stdcl.training.processor import processor_name
from tests.sweep.conftest import GRID, SEARCH, MakeSweep
from tests.train.conftest import MakeConfig, small_raw
from tests.train.test_trainer import run

CLUSTER = Cluster("somewhere", False, ({"CPU": 4.0}, {"CPU": 2.0}))


@pytest.mark.parametrize(
    ("lengths", "places", "end"), [([], 2, 0), ([3, 3, 3], 1, 9), ([3, 3, 3], 2, 6), ([1, 5, 1, 1], 2, 5)]
)
def test_each_free_place_takes_the_next(lengths: list[float], places: int, end: float) -> None:
    assert makespan(lengths, places) == end


def planned(sweep: Any, tmp_path: Path, **options: Any) -> Forecast:
    recorder = Recorder(SweepFolder(tmp_path / sweep.config.name), sweep.config.name, "")
    trials = sweep.trials() or sweep.boundary_trials()
    told: list[str] = []
    settings: dict[str, Any] = {"cluster": CLUSTER, "measure": False, "storage": tmp_path, "say": told.append} | options
    return forecast(sweep, trials, {trial.key for trial in trials}, recorder, **settings)


def on(store: Path, content: dict[str, Any], **more: Any) -> dict[str, Any]:
    raw = small_raw(store)
    base = {key: raw[key] for key in ("recipe", "data", "encoder", "contrast", "training", "tracking")}
    return {**content, "base": base, **more}


def test_what_is_known_of_nothing_is_said(make_sweep: MakeSweep, small_store: Path, tmp_path: Path) -> None:
    found = planned(make_sweep(on(small_store, GRID)), tmp_path)
    assert (found.trials, found.epochs, found.at_once) == (6, 18, 6)
    assert found.hours is None
    assert "time      not known" in render_forecast(found)
    assert found.disk is not None, "the checkpoints' size needs no run"
    with pytest.raises(UserError, match=r"--budget 1: how long the trials take is not known"):
        refuse_beyond(found, 1.0)


def test_a_probe_gives_hours_and_a_budget_refuses(make_sweep: MakeSweep, small_store: Path, tmp_path: Path) -> None:
    asked: list[RunConfig] = []
    told: list[str] = []

    def measured(config: RunConfig) -> Probe:
        asked.append(config)
        return Probe(600.0, 512.0)

    before = sorted(tmp_path.rglob("*"))
    found = planned(make_sweep(on(small_store, GRID)), tmp_path, measure=True, probe_one=measured, say=told.append)
    assert len(asked) == 2, "the baseline and STD-CL; temperature and seed cost nothing"
    assert told == ["measuring 2 setting(s) for some seconds each; nothing of it is kept"]
    assert found.hours == pytest.approx(18 * 600 / 3600 + 6 * START_ALONE / 3600)
    assert found.wall_seconds == pytest.approx(3 * 600 + START_ALONE)
    assert sorted(path for path in tmp_path.rglob("*") if path.name != "sweep-under-test.yaml") == before
    refuse_beyond(found, 3.1)
    with pytest.raises(
        UserError, match=r"--budget 2\.5: this sweep takes about 3\.00 core-hours: 6 trial\(s\), 18 epochs"
    ):
        refuse_beyond(found, 2.5)
    assert max(map(len, render_forecast(found).splitlines())) <= 80


def test_long_names_of_cells_are_broken_between_their_settings() -> None:
    name = "arm=stdcl, encoder=hyperformer, protocol=cross-view, stream=joint-motion, hard_negatives=512"
    cell = CellCost(name, 3, 195, 12.5, 800.0, "recorded")
    found = Forecast("wide", (cell,), workers=1, cpus=1.0, gpus=0.0, at_once=1, where="this machine")
    lines = render_forecast(found).splitlines()
    assert max(map(len, lines)) <= 80
    begin = next(index for index, line in enumerate(lines) if line.startswith("  arm="))
    shown = [lines[begin].split("   ")[0], *lines[begin + 1 :]]
    assert " ".join(" ".join(shown).split()) == name
    assert any(name in line for line in render_forecast(found, columns=200).splitlines())


def test_a_cell_that_varies_nothing_has_its_line() -> None:
    cell = CellCost("", 1, 195, None, None, "none")
    found = Forecast("single", (cell,), workers=1, cpus=1.0, gpus=0.0, at_once=1, where="this machine")
    assert render_forecast(found).splitlines()[-1].split() == ["1", "195", "-", "-", "none"]


def test_earlier_runs_of_the_same_kind_are_the_ground(
    make_sweep: MakeSweep, make_config: MakeConfig, small_store: Path, tmp_path: Path
) -> None:
    config = make_config(training={"seed": 9})
    run(config, tmp_path / "runs" / "earlier")
    ((kind, by),) = recorded(tmp_path).items()
    assert kind == kind_of(config.model_dump(mode="json"))
    ((processor, took),) = by.items()
    assert processor == processor_name(torch.device("cpu"))
    (tmp_path / "runs" / "damaged").mkdir()
    (tmp_path / "runs" / "damaged" / "result.json").write_text("{")
    found = planned(make_sweep(on(small_store, {**GRID, "baseline": False})), tmp_path)
    assert {cell.ground for cell in found.cells} == {"recorded"}
    assert found.cells[0].epoch_seconds == took.epoch_seconds
    saved = yaml.safe_load(RunFolder(tmp_path / "runs" / "earlier").config.read_text())
    assert kind_of(saved) == kind_of(yaml.safe_load(to_yaml(config)))


def test_runs_on_another_processor_are_a_ground_only_where_nothing_is_measured(
    make_sweep: MakeSweep,
    make_config: MakeConfig,
    small_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Results came with a bundle from a machine of another kind: their seconds are not this machine's."""
    run(make_config(training={"seed": 9}), tmp_path / "runs" / "earlier")
    ((took,),) = (by.values() for by in recorded(tmp_path).values())
    monkeypatch.setattr("stdcl.sweep.grounds.processor_name", lambda device: "another (AVX2)")
    sweep = make_sweep(on(small_store, {**GRID, "baseline": False}))
    alone = planned(sweep, tmp_path, cluster=None)
    assert {(cell.ground, cell.epoch_seconds) for cell in alone.cells} == {("other processor", took.epoch_seconds)}
    assert max(map(len, render_forecast(alone).splitlines())) <= 80
    local = replace(CLUSTER, local=True)
    measured = planned(sweep, tmp_path, cluster=local, measure=True, probe_one=lambda config: Probe(600.0, 512.0))
    assert {(cell.ground, cell.epoch_seconds) for cell in measured.cells} == {("probed", 600.0)}
    far = planned(sweep, tmp_path, measure=True, probe_one=lambda config: Probe(600.0, 512.0))
    assert {cell.ground for cell in far.cells} == {"recorded"}, "nobody knows the processors of a cluster beforehand"


def test_a_processor_of_ones_own_is_preferred(make_config: MakeConfig) -> None:
    kind = kind_of(make_config().model_dump(mode="json"))
    took = {kind: {"a": Probe(1.0, 5.0), "b": Probe(3.0, 7.0)}}
    assert on_processor(took, {"cpu": "b"}) == {kind: (Probe(3.0, 7.0), "recorded")}
    assert on_processor(took, {"cpu": "c"}) == {kind: (Probe(2.0, 6.0), "other processor")}
    assert on_processor(took, {}) == {kind: (Probe(2.0, 6.0), "recorded")}


def test_cells_are_named_by_arm_and_by_what_varies(make_sweep: MakeSweep, small_store: Path, tmp_path: Path) -> None:
    derived = planned(make_sweep(on(small_store, GRID)), tmp_path)
    assert [cell.name for cell in derived.cells] == ["baseline", "temperature=0.5", "temperature=0.8"]
    content = on(small_store, {**GRID, "grid": {"encoder": ["hcn", "agcn"]}, "baseline": False})
    content["arms"] = {"plain": {"method.name": "none"}, "stdcl": {"method.name": "stdcl"}}
    content["base"]["encoder"] = {"name": "hcn"}
    stated = planned(make_sweep(content), tmp_path)
    assert {cell.name for cell in stated.cells} == {
        f"arm={arm}, encoder={encoder}" for arm in ("plain", "stdcl") for encoder in ("hcn", "agcn")
    }


def test_a_search_is_said_at_most(make_sweep: MakeSweep, small_store: Path, tmp_path: Path) -> None:
    content = on(small_store, SEARCH)
    content["space"] = {"contrast.temperature": {"type": "float", "low": 0.2, "high": 2.0}}
    found = planned(make_sweep(content), tmp_path, measure=True, probe_one=lambda config: Probe(10.0, 100.0))
    assert (found.trials, found.epochs, found.at_most) == (6, 18, True)
    assert "core-hours  at most 0.05" in render_forecast(found)


def test_a_search_is_planned_without_the_trials_that_are_judged(
    make_sweep: MakeSweep, small_store: Path, tmp_path: Path
) -> None:
    """One that was begun has the epochs behind its checkpoint left; one that is held takes a place and no time."""
    content = on(small_store, SEARCH)
    content["space"] = {"contrast.temperature": {"type": "float", "low": 0.2, "high": 2.0}}
    sweep = make_sweep(content)
    begun, held = (sweep.make_trial("", {"contrast.temperature": value}, 1) for value in (0.5, 0.6))
    folder = SweepFolder(tmp_path / sweep.config.name)
    (folder.run(begun.key).checkpoints / Position(2, 0).name).mkdir(parents=True)
    write_ask(folder.run(held.key).ask, "paused")
    asked: list[RunConfig] = []

    def measured(config: RunConfig) -> Probe:
        asked.append(config)
        return Probe(600.0, 512.0)

    left = Remaining(3, (begun, held), 1)
    found = planned(sweep, tmp_path, measure=True, probe_one=measured, remaining=left)
    assert (found.trials, found.epochs) == (2, 1 + 3)
    assert found.hours == pytest.approx((4 * 600 + 2 * START_ALONE) / 3600)
    whole = planned(sweep, tmp_path, measure=True, probe_one=measured)
    assert found.disk is not None
    assert whole.disk is not None
    assert found.disk[0] == pytest.approx(whole.disk[0] * 2 / 6, rel=0.01)

    asked.clear()
    done = planned(sweep, tmp_path, measure=True, probe_one=measured, remaining=Remaining(6, (), 0))
    assert asked == []
    assert (done.trials, done.epochs, done.hours, done.wall_seconds, done.disk) == (0, 0, 0, 0, None)
    refuse_beyond(done, 0.01)


def test_memory_is_that_of_the_trials_that_are_left() -> None:
    cells = (CellCost("large", 0, 0, 36.0, 8192.0, "recorded"), CellCost("small", 1, 10, 36.0, 1024.0, "recorded"))
    found = Forecast("s", cells, workers=1, cpus=1.0, gpus=0.0, at_once=1, where="this machine")
    assert "memory      about 1.0 GiB" in render_forecast(found)
    assert "memory" not in render_forecast(replace(found, cells=cells[:1]))


def test_settings_beyond_the_measured_are_scaled() -> None:
    measured = [(100.0, Probe(10.0, 5.0)), (10_000.0, Probe(500.0, 50.0))]
    assert scaled(200.0, measured) == Probe(20.0, 5.0)
    assert scaled(5_000.0, measured) == Probe(250.0, 50.0)
    assert PROBES_AT_MOST > 1


def test_a_probe_measures_and_leaves_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    ticks = iter(float(number) for number in range(1000))
    found = probe(make_config(), lambda: next(ticks))
    # Every look at this clock takes a second: 5 steps of 16 items, and 20 sequences scored in one batch.
    assert found.epoch_seconds == pytest.approx(5 * 1 + 1)
    assert found.memory_mib > 0
    assert operations(make_config(data={"repeat": 4})) > 1.5 * operations(make_config())


@pytest.mark.parametrize(
    ("workers", "cpus", "gpus", "cores", "expected"),
    [
        (1, 1.0, 0.0, 2.0, 1.0),
        (2, 1.0, 0.0, None, 2.0),
        (2, 2.0, 0.0, None, 4.0),
        (4, 1.0, 0.0, 2.0, 2.0),
        (2, 4.0, 1.0, None, 2.0),
        (1, 8.0, 0.25, None, 0.25),
    ],
)
def test_a_budget_counts_what_a_trial_holds(
    workers: int, cpus: float, gpus: float, cores: float | None, expected: float
) -> None:
    """An hour of a trial: of all its workers, their GPUs where they have some, and no more cores than there are."""
    epoch_seconds = (3600 - (START_ALONE if workers == 1 else START_GROUP)) / 10
    cell = CellCost("one", 1, 10, epoch_seconds, None, "recorded")
    found = Forecast("s", (cell,), workers, cpus, gpus, 1, "there", cores=cores)
    assert found.trial_hours == pytest.approx(1.0)
    assert found.hours == pytest.approx(expected)
    refuse_beyond(found, expected + 0.01)
    with pytest.raises(UserError, match="GPU-hours" if gpus else "core-hours"):
        refuse_beyond(found, expected - 0.01)


def test_workers_that_share_cores_take_longer_than_one_that_was_measured_alone(
    make_sweep: MakeSweep, small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
    content = on(small_store, GRID, resources={"workers": 4})
    found = planned(
        make_sweep(content), tmp_path, cluster=None, measure=True, probe_one=lambda config: Probe(90.0, 512.0)
    )
    assert {cell.epoch_seconds for cell in found.cells} == {180.0}, "four workers on two cores"
    trained = sum(cell.epochs for cell in found.cells) * 180.0 / 3600
    assert found.hours == pytest.approx(2 * (trained + found.trials * START_GROUP / 3600)), "of two cores, not of four"


def test_a_forecast_names_its_unit() -> None:
    cell = CellCost("one", 1, 10, 36.0, None, "probed")
    gpus = Forecast("s", (cell,), 2, 4.0, 1.0, 1, "there")
    assert "GPU-hours" in render_forecast(gpus)
