from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml

from stdcl import specs
from stdcl.config.unread import unread
from stdcl.report.figures.accuracy import accuracy_series, draw, search_series
from stdcl.report.published import PaperValue, benchmark_test_sequences, paper_value, reported_results
from stdcl.report.table import sweep_table
from tests.report.sweeps import Sweep, published, temperature_sweep

TAU, R, D = "contrast.temperature", "contrast.channel_reduction", "contrast.embedding_dim"


def found(
    dataset: str, protocol: str, stream: str, encoder: str, varied: Collection[str] = (), **settings: Any
) -> PaperValue | None:
    config = published(dataset, protocol, stream, encoder, {k.replace("__", "."): v for k, v in settings.items()})
    return paper_value(config, benchmark_test_sequences(dataset, protocol), varied)


def value(*place: str, **settings: Any) -> float | None:
    known = found(*place, **settings)  # type: ignore[arg-type]
    return known.accuracy if known else None


def test_the_shipped_numbers() -> None:
    rows = reported_results()
    assert len(rows) == 550
    assert all(row.source for row in rows)
    accuracies = [row.accuracy for row in rows if row.metric == "top1_acc_percent" and row.accuracy is not None]
    assert min(accuracies) > 60
    assert max(accuracies) < 100
    assert {row.dataset for row in rows} == {"nw-ucla", "ntu60", "ntu120"}
    assert {(row.dataset, row.protocol) for row in rows} == {
        (name, protocol) for name, spec in specs.datasets().items() for protocol in spec.protocols
    }


def test_lookups_by_hand() -> None:
    ours = "spatial+temporal"
    assert value("nw-ucla", "cross-view", "joint", "ctrgcn", contrast__strategy="none") == 94.6
    assert value("nw-ucla", "cross-view", "joint", "ctrgcn", contrast__strategy=ours) == 94.8
    assert value("nw-ucla", "cross-view", "bone", "infogcn", contrast__strategy=ours) == 95.5
    assert value("nw-ucla", "cross-view", "joint-motion", "ctrgcn") is None
    assert value("nw-ucla", "cross-view", "joint", "hcn") is None
    assert value("ntu60", "x-view", "bone", "agcn") == 94.6
    assert value("ntu60", "x-sub", "joint", "hcn") == 85.1  # two branches in one model: the paper's starred 2S
    assert value("ntu120", "x-set", "joint", "hyperformer") is None  # left empty in the paper


def test_the_swept_parameter_must_be_the_papers() -> None:
    place = ("ntu120", "x-sub", "joint", "ctrgcn")
    assert value(*place, **{R: 8}) == 85.5
    assert value(*place, **{R: 4}) is None  # its cell is empty in the paper
    assert value(*place, **{D: 256, R: 8, "contrast.hard_positives": 128}) == 85.5
    assert value(*place, **{D: 512}) is None
    assert value(*place, **{"contrast.strategy": "none"}) == 84.9
    assert value(*place, **{"contrast.strategy": "spatial"}) is None
    assert value(*place, **{"contrast.hard_positives": 64}) is None
    assert value(*place, varied=["training.learning_rate"], **{"training.learning_rate": 0.05}) is None
    assert value(*place, **{TAU: 0.5}) == 85.5
    assert value(*place, **{TAU: 0.6}) is None
    assert value(*place, **{"contrast.strategy": "none", TAU: 0.6, R: 4}) == 84.9  # means nothing without contrast


def test_only_on_the_benchmarks_own_sequences() -> None:
    config = published("nw-ucla", "cross-view", "joint", "ctrgcn", {})
    assert paper_value(config, 464) is not None
    for num_test in (None, 463, 2000):
        assert paper_value(config, num_test) is None


def test_other_settings_than_the_papers_are_listed() -> None:
    place = ("nw-ucla", "cross-view", "joint", "ctrgcn")
    short = {"training.epochs": 60, "data.repeat": 1, "data.augment": False, "data.frames": 16}
    baseline = found(*place, **short, **{"contrast.strategy": "none"})
    assert baseline is not None
    assert baseline.differences == {
        "data.frames": (16, 52), "data.repeat": (1, 5), "data.augment": (False, True), "training.epochs": (60, 65),
    }  # fmt: skip
    # Another loss or another head is another method: no number of the paper's belongs to it.
    for other in ({"contrast.negative_sets": "union"}, {"contrast.freeze_head": True}):
        assert found(*place, **short, **other) is None


def changed(key: str, value: Any) -> Any:
    """Another value that the key may have."""
    others = {
        "data.convention": "centred", "data.orientation": "children", "data.centre": "frame",
        "data.evaluate_on": "validation", "data.stream": "bone", "encoder.name": "agcn",
        "contrast.strategy": "spatial", "contrast.readings.negative_sets": "union",
        "contrast.readings.reduction": "sum",
        "contrast.readings.write": "after", "contrast.readings.shortage": "clamp", "contrast.readings.slots": "clip",
        "contrast.readings.nonlinearity": "relu", "contrast.readings.person_mask": "present",
        "training.optimizer": "adam", "training.precision": "bfloat16", "training.batch_norm": "local",
        "training.tf32": "none", "training.milestones": [40], "training.gradient_clip": 1.0, "training.decay": 0.5,
    }  # fmt: skip
    if key in others:
        return others[key]
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value / 2 + 0.01


@pytest.mark.parametrize("strategy", ["none", "spatial+temporal"])
def test_no_key_that_can_change_a_result_is_passed_over(strategy: str) -> None:
    place = ("nw-ucla", "cross-view", "joint", "ctrgcn")
    whole = published(*place, {"contrast.strategy": strategy}).model_dump(mode="json")
    readings = whole["contrast"].pop("readings")
    whole["contrast"] |= {f"readings.{name}": value for name, value in readings.items()}
    checked, passed_over = 0, set[str]()
    for section in ("data", "contrast", "training"):
        for name, value in whole[section].items():
            key = f"{section}.{name}"
            free = ("data.dataset", "data.protocol", "data.path", "data.synthetic",
                    "training.seed", "training.schedule", "contrast.exchange", "contrast.readings.weights")  # fmt: skip
            if key in free or name.startswith("checkpoint_every") or (strategy == "none" and section == "contrast"):
                continue
            settings = {"contrast.strategy": strategy, key: changed(key, value)}
            if key == "contrast.readings.slots":
                settings["contrast.readings.shortage"] = "clamp"
            if key in unread(published(*place, settings)):
                passed_over.add(key)
                continue
            number = found(*place, **settings)
            if key == "data.stream":
                assert number is not None
                assert number.accuracy != found(*place, **{"contrast.strategy": strategy}).accuracy  # type: ignore[union-attr]
            elif number is not None:
                assert key in number.differences, key
                assert not key.startswith("contrast."), key
            checked += 1
    assert checked > (20 if strategy == "none" else 35)
    assert len(passed_over) < 8, passed_over


def test_the_series_of_a_temperature_sweep(tmp_path: Path) -> None:
    sweep = temperature_sweep(tmp_path / "tau", {None: [430, 440], 0.8: [441], 0.5: [440, 442], 1.0: []})
    sweep.add({TAU: 1.0}, 1, status="failed")
    series = accuracy_series(sweep_table(sweep.save()))
    (band,) = series.bands
    assert band.mean == pytest.approx(100 * 435 / 464)
    assert band.std == pytest.approx(100 * 50**0.5 / 464)
    (line,) = series.lines
    assert [point.x for point in line.points] == [0.5, 0.8]
    assert line.points[0].seeds == (100 * 440 / 464, 100 * 442 / 464)
    assert line.points[1].std is None
    assert [text for _, text in series.ticks] == ["0.8", "0.5", "1.0"]  # also where nothing has finished
    assert (series.even, series.logarithmic) == (False, False)
    assert "464 test sequences" in series.y_label


def test_the_series_of_grids_over_two_parameters(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "rd", (R, D))
    for r in (4, 8):
        for d in (64, 256, 1024):
            sweep.add({R: r, D: d}, correct=430 + r)
    sweep.add({}, arm="baseline", correct=430)
    table = sweep_table(sweep.save())
    series = accuracy_series(table)
    assert series.x_label == "embedding_dim"
    assert series.logarithmic
    assert [line.label for line in series.lines] == ["channel_reduction 4", "channel_reduction 8"]
    assert len(series.bands) == 1
    assert draw(table, tmp_path / "rd.png").read_bytes().startswith(b"\x89PNG")

    sweep = Sweep(tmp_path / "encoders", ("encoder.name", TAU))
    for encoder in ("hcn", "ctrgcn"):
        sweep.add({"encoder.name": encoder}, arm="baseline", correct=430)
        for tau in (0.5, 1.0):
            sweep.add({"encoder.name": encoder, TAU: tau}, correct=440)
    table = sweep_table(sweep.save())
    series = accuracy_series(table)
    assert [band.group for band in series.bands] == ["encoder hcn", "encoder ctrgcn"]
    assert [line.group for line in series.lines] == ["encoder hcn", "encoder ctrgcn"]
    assert draw(table, tmp_path / "encoders.png").read_bytes().startswith(b"\x89PNG")


def test_the_series_of_a_grid_over_names(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "encoders", ("encoder.name",), question="Costs $5 and a_b^c?")
    for encoder in ("hcn", "ctrgcn"):
        sweep.add({"encoder.name": encoder}, arm="baseline", correct=430)
        sweep.add({"encoder.name": encoder}, correct=440)
    table = sweep_table(sweep.save())
    series = accuracy_series(table)
    assert series.even
    assert [line.baseline for line in series.lines] == [True, False]
    assert [point.x for point in series.lines[1].points] == [0.0, 1.0]
    assert draw(table, tmp_path / "names.png").read_bytes().startswith(b"\x89PNG")


def test_the_series_of_a_search(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "search", (D, "contrast.strategy"), search="optuna")
    facts = {"num_test": 200, "evaluated_on": "validation"}
    sweep.add({D: 16, "contrast.strategy": "spatial"}, correct=150, **facts)
    sweep.add({D: 512, "contrast.strategy": "temporal"}, correct=160, **facts)
    sweep.add({D: 100, "contrast.strategy": "spatial"}, correct=90, status="pruned", **facts)
    sweep.add({D: 100, "contrast.strategy": "temporal"}, status="failed", **facts | {"num_test": 464})
    table = sweep_table(sweep.save())
    first, second = search_series(table).panels
    assert first.finished == ((16.0, 75.0), (512.0, 80.0))
    assert first.pruned == ((100.0, 45.0),)
    assert first.best == (512.0, 80.0)
    assert first.logarithmic
    assert second.named
    assert second.ticks == ((0.0, "spatial"), (1.0, "temporal"))
    assert draw(table, tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")


def test_a_search_rings_the_tables_first_trial_and_does_not_label_drawn_numbers(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "search", (TAU,), search="optuna")
    for tau in (0.5176340429, 0.3709488999, 1.9172251806):
        sweep.add({TAU: tau}, correct=150, num_test=200, evaluated_on="validation")
    table = sweep_table(sweep.save())
    (panel,) = search_series(table).panels
    assert panel.best == (table.top[0].parameters[TAU], 75.0)
    assert panel.ticks == ()


def test_what_a_search_draws_by_logarithm_is_drawn_so(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "search", (TAU, "contrast.channel_reduction"), search="optuna")
    facts = {"num_test": 200, "evaluated_on": "validation"}
    for value, reduction in ((0.3, 4), (0.7, 8), (1.5, 16)):
        sweep.add({TAU: value, "contrast.channel_reduction": reduction}, correct=150, **facts)
    directory = sweep.save()
    assert [panel.logarithmic for panel in search_series(sweep_table(directory)).panels] == [False, False]
    space = {
        TAU: {"type": "float", "low": 0.3, "high": 1.5, "log": True},
        "contrast.channel_reduction": {"type": "int", "low": 4, "high": 16},
    }
    base = {"recipe": "lite", "data": {"dataset": "nw-ucla", "path": "x"}, "encoder": {"name": "ctrgcn"}}
    content = {"name": "search", "question": "?", "base": base, "search": "optuna", "space": space}
    (directory / "sweep.yaml").write_text(yaml.safe_dump(content))
    assert [panel.logarithmic for panel in search_series(sweep_table(directory)).panels] == [True, False]
    assert draw(sweep_table(directory), tmp_path / "log.png").read_bytes().startswith(b"\x89PNG")
