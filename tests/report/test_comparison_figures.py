"""Figures of what was compared: the numbers that they show, and files that depend on nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stdcl.cli.command import main
from stdcl.report.comparison import Learning, classes, differences, learning
from stdcl.report.figures.comparison import _curves, draw_comparison
from stdcl.report.table import sweep_table
from tests.report.sweeps import Sweep, answers

TAU = "contrast.temperature"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    sweep = Sweep(tmp_path / "tau", (TAU,), "Is it $5 better?", seeds=[1, 2], file={"seeds": [1, 2]})
    for seed in (1, 2):
        keys = [sweep.add({}, seed, arm="baseline", right=answers(0.8, seed))]
        keys.append(sweep.add({TAU: 0.5}, seed, right=answers(0.8, seed, shift=0.08)))
        for key in keys:
            rows = [{"schema": 2, "epoch": n, "accuracy": 0.1 * n + 0.01 * seed} for n in range(1, 4 + seed)]
            text = "".join(f"{json.dumps(row)}\n" for row in rows)
            (sweep.directory / "trials" / key / "history.jsonl").write_text(text)
    return sweep.save()


def test_differences_are_those_of_the_verdicts(directory: Path) -> None:
    table = sweep_table(directory)
    (bar,) = differences(table)
    asked = table.cells[1].asked
    assert asked is not None
    assert asked.verdict is not None
    found = asked.verdict.difference
    assert bar.label == "temperature=0.5"
    assert (bar.value, bar.low, bar.high) == pytest.approx(
        (100 * found.estimate, 100 * found.interval.low, 100 * found.interval.high)
    )
    expected = [answers(0.8, s, shift=0.08).mean() - answers(0.8, s).mean() for s in (1, 2)]
    assert bar.seeds == pytest.approx([100 * each for each in expected])


def test_curves_have_every_seed_and_no_made_up_epoch(directory: Path) -> None:
    baseline, _ = learning(sweep_table(directory))
    assert baseline.epochs.tolist() == [1, 2, 3, 4, 5]
    assert np.isnan(baseline.values[0, 4])  # the first seed has four epochs
    assert baseline.values[1].tolist() == pytest.approx([12, 22, 32, 42, 52])


def test_only_classes_that_move_are_shown_most_gained_first(tmp_path: Path) -> None:
    """Sequences are of two classes in turn: 0 is half right in the baseline, 1 in the second arm."""
    place = np.arange(464)
    half = (place // 2) % 2 == 0
    rights = {0.1: (place % 2 == 1) | half, 0.5: np.ones(464, dtype=bool), 0.8: (place % 2 == 0) | half}
    sweep = Sweep(tmp_path / "tau", (TAU,), seeds=[1, 2], file={"seeds": [1, 2]})
    for seed in (1, 2):
        sweep.add({}, seed, arm="baseline", right=rights[0.1])
        for value in (0.5, 0.8):
            sweep.add({TAU: value}, seed, right=rights[value])
    directory = sweep.save()
    table = sweep_table(directory)
    gain, number = classes(table, table.cells[1])
    assert number == 2
    assert [(bar.label, bar.value) for bar in gain] == [("class 0 (232)", 50.0)]
    moved, _ = classes(table, table.cells[2])
    assert [(bar.label, bar.value) for bar in moved] == [("class 0 (232)", 50.0), ("class 1 (232)", -50.0)]
    # Scores that the table leaves out are not drawn either.
    for seed in (1, 2):
        damaged = directory / "trials" / f"grid,temperature=0.8,seed={seed}" / "scores.parquet"
        damaged.write_bytes((directory / "trials" / "baseline,seed=1" / "scores.parquet").read_bytes())
    table = sweep_table(directory)
    assert classes(table, table.cells[2]) == ([], 0)


def test_files_are_vector_and_raster_with_fonts_inside_and_the_same_every_time(directory: Path, tmp_path: Path) -> None:
    table = sweep_table(directory)
    one, two = ({f.name: f.read_bytes() for f in draw_comparison(table, tmp_path / name)} for name in ("one", "two"))
    assert one == two
    assert {"differences.png", "differences.pdf", "curves.png", "curves.pdf"} <= one.keys()
    for name, data in one.items():
        assert data.startswith(b"%PDF" if name.endswith("pdf") else b"\x89PNG")
        if name.endswith("pdf"):
            assert b"/FontFile2" in data


def test_nothing_to_draw_is_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = Sweep(tmp_path / "empty", (TAU,), file={"seeds": [1]})
    sweep.add({TAU: 0.5}, 1)
    directory = sweep.save()
    assert draw_comparison(sweep_table(directory), tmp_path / "out") == []
    assert main(["report", str(directory), "--figures"]) == 1  # nothing is finished
    assert "1 planned trials are not finished" in " ".join(capsys.readouterr().out.split())


def test_curves_of_cells_without_a_common_epoch_have_no_legend_and_no_warning() -> None:
    """A warning is an error here: Matplotlib gives one for a legend of nothing."""
    values = np.array([[50.0, np.nan], [np.nan, 60.0]])
    figure = _curves("tau", "Does it matter?", [Learning("a", np.array([1, 2]), values)])
    assert not figure.legends
    figure.canvas.draw()
