"""Fused cells of the paper's tables: what belongs together is fused, and nothing else without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stdcl.report.display import one_line
from stdcl.report.load import load_sweep_state
from stdcl.report.paper import Entry, PaperTable, paper_table
from stdcl.report.paper_wording import paper_display
from stdcl.results.fusion import fuse
from stdcl.results.scores import read_scores
from tests.report.sweeps import Sweep, answers

SEEDS = (1, 2, 3)
Cell = tuple[str, str, float]
"""Arm, stream and dropout."""


def sweep_of(folder: Path, cells: Sequence[Cell], states: Mapping[tuple[str, str, int], str] | None = None) -> Sweep:
    """HCN over streams and dropout; ``states`` of (arm, stream, seed) that are not finished."""
    base = {"recipe": "ablation", "data": {"dataset": "nw-ucla", "path": "x"}, "encoder": {"name": "hcn"}}
    file = {"table": "T", "seeds": list(SEEDS), "base": base}
    sweep = Sweep(folder, ("data.stream", "encoder.dropout"), seeds=list(SEEDS), file=file)
    for arm, stream, dropout in cells:
        parameters = {"data.stream": stream, "encoder.dropout": dropout}
        more: dict[str, Any] = {"arm": arm, "config": {"recipe": "ablation"}, "encoder": "hcn"}
        shift = 0.02 * (arm != "baseline") + 0.1 * dropout + 0.01 * (stream == "bone")
        for seed in SEEDS:
            state = (states or {}).get((arm, stream, seed), "finished")
            if state == "finished":
                sweep.add(parameters, seed, right=answers(0.8, seed + 10 * len(stream), shift=shift), **more)
            else:
                sweep.add(parameters, seed, status=None if state == "not started" else state, error="boom", **more)
    return sweep


def table_of(sweep: Sweep) -> PaperTable:
    return paper_table("T", [load_sweep_state(sweep.save())])


def fused(table: PaperTable, row: str) -> Entry:
    return next(entry for (r, c), entry in table.entries.items() if (r.name, c.stream) == (row, "2S"))


def shown(table: PaperTable, row: str) -> str:
    display = paper_display(table)
    (column,) = [number for number, name in enumerate(display.columns) if one_line(name).endswith("2S")]
    return next(one_line(each[column]) for each in display.rows if each[0] == row)


def notes_of(table: PaperTable) -> list[str]:
    return [one_line(note) for note in paper_display(table).notes if "2S:" in one_line(note)]


def test_several_options_are_several_fused_configurations(tmp_path: Path) -> None:
    """Joint and bone say that they have two configurations; so does 2S, and claims nothing."""
    cells = [(arm, stream, d) for arm in ("baseline", "grid") for stream in ("joint", "bone") for d in (0.0, 0.5)]
    table = table_of(sweep_of(tmp_path / "a", cells))
    for row in ("HCN", "HCN w/STD-CL"):
        assert shown(table, row) == "2 different configurations"
        assert (fused(table, row).values, fused(table, row).verdict) == ((), None)
    assert notes_of(table) == []
    assert any("on nw-ucla cross-view 2S, and none" in r and "in encoder.dropout" in r for r in table.remarks)


def test_the_streams_of_one_option_are_fused(tmp_path: Path) -> None:
    """Joint with dropout 0, bone with 0 and, last, with 0.5."""
    sweep = sweep_of(tmp_path / "a", [("grid", "joint", 0.0), ("grid", "bone", 0.0), ("grid", "bone", 0.5)])
    table = table_of(sweep)
    by_key = {
        (each["parameters"]["data.stream"], each["parameters"]["encoder.dropout"], each["seed"]): read_scores(
            sweep.directory / "trials" / each["key"] / "scores.parquet"
        )
        for each in sweep.planned
    }
    expected = [100 * fuse([by_key["joint", 0.0, s], by_key["bone", 0.0, s]]).scores.accuracy for s in SEEDS]
    assert fused(table, "HCN w/STD-CL").values == tuple(expected)
    assert notes_of(table) == [
        "HCN w/STD-CL, NW-UCLA 2S: fused of joint with encoder.dropout 0.0 and bone with encoder.dropout 0.0; no other "
        "of their lines belong together"
    ]


def test_streams_of_different_options_are_fused_with_a_note_and_not_compared_with_others(tmp_path: Path) -> None:
    same = [("baseline", "joint", 0.0), ("baseline", "bone", 0.0), ("grid", "joint", 0.0)]
    table = table_of(sweep_of(tmp_path / "a", [*same, ("grid", "bone", 0.5)]))
    assert len(fused(table, "HCN w/STD-CL").values) == len(SEEDS)
    assert notes_of(table) == [
        "HCN w/STD-CL, NW-UCLA 2S: fused of joint with encoder.dropout 0.0 and bone with encoder.dropout 0.5"
    ]
    assert not any(each.column.stream == "2S" for each in table.judgement.answers)  # type: ignore[attr-defined]
    table = table_of(sweep_of(tmp_path / "b", [*same, ("grid", "bone", 0.0)]))
    assert any(each.column.stream == "2S" for each in table.judgement.answers)  # type: ignore[attr-defined]


def test_where_no_option_is_common_nothing_is_fused(tmp_path: Path) -> None:
    cells = [("grid", "joint", 0.0), ("grid", "bone", 0.25), ("grid", "bone", 0.5)]
    table = table_of(sweep_of(tmp_path / "a", cells))
    assert shown(table, "HCN w/STD-CL") == "2 different configurations"
    assert len(fused(table, "HCN w/STD-CL").trials) == 9
    assert any("2S, and none is shown: they differ in encoder.dropout" in remark for remark in table.remarks)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({("bone", seed): "failed" for seed in SEEDS}, "not finished (3 failed) not in paper"),
        ({("bone", seed): "not started" for seed in SEEDS}, "not finished (3 not started) not in paper"),
        (
            {("bone", 1): "failed", ("bone", 2): "not started", ("joint", 2): "failed", ("joint", 3): "not started"},
            "not finished (2 failed, 1 not started) not in paper",
        ),
    ],
)
def test_a_fused_cell_is_as_far_as_all_of_its_streams(
    tmp_path: Path, states: dict[tuple[str, int], str], expected: str
) -> None:
    cells = [("grid", "joint", 0.0), ("grid", "bone", 0.0)]
    table = table_of(sweep_of(tmp_path / "a", cells, {("grid", *key): state for key, state in states.items()}))
    assert shown(table, "HCN w/STD-CL") == expected


def hyperformer(folder: Path, groupings: Sequence[tuple[str, str]]) -> Sweep:
    """Hyperformer's grouping of joints is its own for each stream, unless one is given."""
    sweep = Sweep(folder, ("data.stream",), seeds=[1], file={"table": "2", "seeds": [1]})
    for stream, grouping in groupings:
        config = {} if grouping == "auto" else {"encoder.hyperedges": grouping}
        name = f"{stream} {grouping}"
        sweep.add(
            {"data.stream": stream}, right=answers(0.9, len(name)), config=config, encoder="hyperformer", name=name
        )
    return sweep


def of_hyperformer(sweep: Sweep) -> tuple[PaperTable, Entry]:
    table = paper_table("2", [load_sweep_state(sweep.save())])
    return table, fused(table, "Hyperformer w/STD-CL")


def test_what_an_encoder_chooses_for_a_stream_is_no_difference(tmp_path: Path) -> None:
    table, entry = of_hyperformer(hyperformer(tmp_path / "a", [("joint", "auto"), ("bone", "auto")]))
    assert (len(entry.values), entry.differences, notes_of(table)) == (1, {}, [])
    both = [("joint", "auto"), ("bone", "auto"), ("joint", "bone"), ("bone", "default")]
    _, entry = of_hyperformer(hyperformer(tmp_path / "b", both))
    assert (entry.choices, entry.values) == (3, ()), "its own, and each grouping in both streams"


def test_departures_of_one_stream_are_departures_of_what_is_fused(tmp_path: Path) -> None:
    """A stream's own departure has its name before the key."""
    _, entry = of_hyperformer(hyperformer(tmp_path / "a", [("joint", "auto"), ("bone", "default")]))
    assert np.isfinite(entry.mean or np.nan)
    assert entry.differences == {"bone: encoder.hyperedges": ("default", "bone")}
