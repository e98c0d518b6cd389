"""Rows that the paper does not have: each is named by the setting of its own runs, and claims nothing for others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stdcl.report.display import one_line
from stdcl.report.load import load_sweep_state
from stdcl.report.paper import Entry, PaperTable, paper_table
from stdcl.report.paper_wording import paper_display
from tests.report.sweeps import Sweep, answers

SEEDS = (1, 2, 3)
PLAIN = {"method.name": "none"}
LOW, MIDDLE = {"contrast.temperature": 0.1}, {"contrast.temperature": 0.5}


def hcn(folder: Path, arms: Mapping[str, tuple[Mapping[str, Any], float]], table: str, **file: Any) -> Sweep:
    """HCN, which Table 2 does not print; arm -> its settings and the shift of its accuracy."""
    stated = {name: dict(settings) for name, (settings, _) in arms.items()}
    named = {"table": table, "seeds": list(SEEDS), "baseline": False, "arms": stated, **file}
    sweep = Sweep(folder, (), seeds=list(SEEDS), file=named)
    sweep.plan_facts = {"arms": stated, "reference": file.get("reference", next(iter(stated)))}
    for name, (settings, shift) in arms.items():
        own = {"recipe": "ablation", **settings}
        facts = {"encoder": "hcn", "stream": settings.get("data.stream", "joint")}
        if "method.name" in settings:
            facts["strategy"] = "none"
        for seed in SEEDS:
            sweep.add({}, seed, arm=name, right=answers(0.8, seed, shift=shift), config=own, **facts)
    return sweep


def table_of(sweep: Sweep, name: str) -> PaperTable:
    return paper_table(name, [load_sweep_state(sweep.save())])


def found(table: PaperTable) -> dict[tuple[str, str], Entry]:
    return {(row.name, c.stream): e for (row, c), e in table.entries.items() if e.run or e.choices > 1}


def mean(shift: float) -> float:
    return float(100 * np.mean([answers(0.8, seed, shift=shift).mean() for seed in SEEDS]))


@pytest.mark.parametrize("name", ["2", "of my own"])
def test_a_number_stands_in_the_row_of_its_own_setting(tmp_path: Path, name: str) -> None:
    """Joint with tau 0.5 and bone with tau 0.1: the name of one is no name of the other."""
    arms = {"a": (MIDDLE, 0.0), "b": ({**LOW, "data.stream": "bone"}, 0.05)}
    cells = found(table_of(hcn(tmp_path / "a", arms, name), name))
    assert {key: round(entry.mean or 0, 6) for key, entry in cells.items()} == {
        ("HCN w/STD-CL: temperature 0.5", "joint"): round(mean(0.0), 6),
        ("HCN w/STD-CL: temperature 0.1", "bone"): round(mean(0.05), 6),
    }


def test_two_settings_in_a_column_are_two_rows(tmp_path: Path) -> None:
    arms = {"own": (MIDDLE, 0.0), "low": (LOW, 0.1), "ce": (PLAIN, -0.1)}
    table = table_of(hcn(tmp_path / "a", arms, "2", reference="own"), "2")
    assert {name: entry.choices for (name, _), entry in found(table).items()} == {
        "HCN w/STD-CL: temperature 0.5": 1,
        "HCN w/STD-CL: temperature 0.1": 1,
        "HCN": 1,
    }
    assert not table.remarks


def test_of_a_cell_with_two_configurations_no_stated_arm_claims_anything(tmp_path: Path) -> None:
    """Questions under a named reference are called by arms, not by rows."""
    arms = {"own": (MIDDLE, 0.0), "low": (LOW, 0.1), "wet": ({**LOW, "encoder.dropout": 0.0}, 0.15), "ce": (PLAIN, 0.1)}
    table = table_of(hcn(tmp_path / "a", arms, "T", reference="own"), "T")
    assert found(table)["HCN w/STD-CL: temperature 0.1", "joint"].choices == 2
    asked = [each.name for each in table.judgement.answers]
    assert asked == ["low - own", "wet - own", "ce - own"]
    notes = [one_line(note) for note in paper_display(table).notes]
    assert [name for name in asked if any(note.startswith(f"{name}, ") for note in notes)] == ["ce - own"]


def test_what_a_recipe_has_otherwise_for_another_dataset_makes_no_row_of_its_own(tmp_path: Path) -> None:
    """An encoder that Table 1 does not print, by its recipe on two datasets: one row for each arm."""
    sweep = Sweep(tmp_path / "a", ("data.dataset",), seeds=list(SEEDS), file={"table": "2", "seeds": list(SEEDS)})
    for dataset, protocol, recipe in (("nw-ucla", "cross-view", "ablation"), ("ntu60", "x-sub", "full")):
        place = {"dataset": dataset, "protocol": protocol, "encoder": "hcn"}
        for arm in ("baseline", "grid"):
            for seed in SEEDS:
                own = {"recipe": recipe, "data.protocol": protocol}
                sweep.add({"data.dataset": dataset}, seed, arm=arm, right=answers(0.8, seed), config=own, **place)
    cells = table_of(sweep, "2").entries
    assert {row.name for (row, _), entry in cells.items() if entry.run} == {"HCN", "HCN w/STD-CL"}
