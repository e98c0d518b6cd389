"""What several sweeps ask of a table of the paper: each question of each file once, against its own reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from stdcl.report.load import load_sweep_state
from stdcl.report.paper import PaperTable, paper_table
from stdcl.report.paper_wording import paper_display
from stdcl.report.table import SweepTable, sweep_table
from stdcl.statistics.sequential import Stage
from tests.report.sweeps import Sweep, answers

SEEDS = (1, 2, 3)
Arms = Mapping[str, Mapping[str, Any]]
PLAIN = {"method.name": "none"}


def stated(
    folder: Path,
    arms: Arms,
    reference: str,
    shifts: Mapping[str, float],
    *,
    grid: Sequence[Mapping[str, Any]] = ({},),
    seeds: Sequence[int] = SEEDS,
) -> Sweep:
    """A sweep of stated arms; ``shifts`` are of the accuracies, by arm or by arm and number of the grid's cell."""
    parameters = tuple(dict.fromkeys(key for cell in grid for key in cell))
    file = {"table": "T", "seeds": list(seeds), "baseline": False, "arms": dict(arms), "reference": reference}
    if parameters:
        file["cells"] = [dict(cell) for cell in grid]
    sweep = Sweep(folder, parameters, seeds=list(seeds), file=file, plan_facts={"arms": arms, "reference": reference})
    for arm, settings in arms.items():
        for number, cell in enumerate(grid):
            shift = shifts.get(f"{arm} {number}", shifts.get(arm, 0.0))
            for seed in seeds:
                sweep.add(cell, seed, arm=arm, right=answers(0.8, seed, shift=shift), config={**settings, **cell})
    return sweep


def of_paper(*sweeps: Sweep) -> PaperTable:
    return paper_table("T", [load_sweep_state(sweep.save()) for sweep in sweeps])


def estimates(table: PaperTable) -> dict[str, float]:
    return {
        each.name: 100 * each.verdict.difference.estimate
        for each in table.judgement.answers
        if each.verdict is not None
    }


def of_sweep(table: SweepTable) -> dict[str, float]:
    assert table.judgement is not None
    return {
        each.question.name: 100 * each.verdict.difference.estimate
        for each in table.judgement.asked
        if each.verdict is not None
    }


def difference(shift: float, base: float) -> float:
    pairs = [(answers(0.8, seed, shift=shift), answers(0.8, seed, shift=base)) for seed in SEEDS]
    return 100 * sum(float(one.mean() - other.mean()) for one, other in pairs) / len(pairs)


TEMPERATURES = [{"contrast.temperature": value} for value in (0.1, 0.5, 0.8)]


def test_a_reference_that_varies_too_is_compared_at_the_same_value(tmp_path: Path) -> None:
    arms = {"a": {"contrast.strategy": "spatial"}, "b": {"contrast.strategy": "spatial+temporal"}}
    shifts = {"a 0": 0.0, "a 1": 0.04, "a 2": 0.1, "b 0": 0.03, "b 1": 0.07, "b 2": 0.13}
    sweep = stated(tmp_path / "s", arms, "a", shifts, grid=TEMPERATURES)
    expected = {
        "b - a, temperature 0.1": difference(0.03, 0.0),
        "b - a, temperature 0.5": difference(0.07, 0.04),
        "b - a, temperature 0.8": difference(0.13, 0.1),
    }
    assert estimates(of_paper(sweep)) == pytest.approx(expected)
    table = sweep_table(sweep.save())
    assert of_sweep(table) == pytest.approx(expected)
    assert [cell.arm for cell in table.cells] == ["a", "b"] * 3, "each below its own reference"


def test_arms_without_the_key_cannot_choose_among_several_references(tmp_path: Path) -> None:
    arms = {"a": {}, "plain": PLAIN}
    sweep = stated(tmp_path / "s", arms, "a", {"plain": 0.02}, grid=TEMPERATURES)
    sweep.planned[:] = [{**trial, "parameters": {}} if trial["arm"] == "plain" else trial for trial in sweep.planned]
    table = of_paper(sweep)
    assert not estimates(table)
    said = "'plain' is compared with nothing: the reference 'a' has several cells that fit alike"
    assert any(said in remark for remark in table.remarks)
    assert any(said in remark for remark in sweep_table(sweep.save()).remarks)


def two_files(folder: Path) -> dict[str, Sweep]:
    """One asks of STD-CL against cross-entropy, the other of two variants against the same STD-CL."""
    own = {"contrast.temperature": 0.8}
    low, fast = {"contrast.temperature": 0.1}, {**own, "training.learning_rate": 0.002}
    shifts = {"stdcl": 0.05, "low": 0.12, "fast": 0.1}
    return {
        "one": stated(folder / "one", {"plain": PLAIN, "stdcl": own}, "plain", shifts),
        "two": stated(folder / "two", {"stdcl": own, "low": low, "fast": fast}, "stdcl", shifts),
    }


@pytest.mark.parametrize("order", list(permutations(("one", "two"))))
def test_the_questions_of_both_files_are_asked_in_any_order(tmp_path: Path, order: Sequence[str]) -> None:
    files = two_files(tmp_path)
    found = estimates(of_paper(*(files[name] for name in order)))
    contrast = next(name for name in found if name.startswith("CTR-GCN w/STD-CL"))
    assert found == pytest.approx(
        {
            contrast: difference(0.05, 0.0),
            "low - stdcl": difference(0.12, 0.05),
            "fast - stdcl": difference(0.1, 0.05),
        }
    )


def test_two_files_that_ask_of_one_pair_ask_one_question(tmp_path: Path) -> None:
    own, low = {"contrast.temperature": 0.8}, {"contrast.temperature": 0.1}
    one = stated(tmp_path / "one", {"own": own, "low": low}, "own", {"low": 0.05})
    two = stated(tmp_path / "two", {"own": own, "low": low}, "low", {"low": 0.05})
    assert list(estimates(of_paper(one, two))) == ["low - own"]


def test_a_named_reference_of_cross_entropy_alone_is_what_every_arm_is_compared_with(tmp_path: Path) -> None:
    fast = {"training.learning_rate": 0.002}
    arms = {"plain": PLAIN, "fast": {**PLAIN, **fast}, "both": fast, "stdcl": {}}
    sweep = stated(tmp_path / "s", arms, "plain", {"fast": 0.1, "both": 0.15, "stdcl": 0.04})
    table = of_paper(sweep)
    found = estimates(table)
    contrast = next(name for name in found if name not in ("fast - plain", "both - plain"))
    assert found == pytest.approx(
        {
            "fast - plain": difference(0.1, 0.0),
            "both - plain": difference(0.15, 0.0),
            contrast: difference(0.04, 0.0),
        }
    )
    assert sorted(of_sweep(sweep_table(sweep.save())).values()) == pytest.approx(sorted(found.values()))
    notes = paper_display(table).notes
    assert any("against plain, the reference that the file names, else the baseline" in note for note in notes)
    assert "not in paper: run here, and this table is none of the paper's" in notes


def test_more_seeds_of_a_shared_baseline_leave_a_complete_question_complete(tmp_path: Path) -> None:
    own = {"contrast.temperature": 0.8}
    short = stated(tmp_path / "short", {"plain": PLAIN, "own": own}, "plain", {"own": 0.1})
    long = stated(
        tmp_path / "long",
        {"plain": PLAIN, "low": {"contrast.temperature": 0.1}},
        "plain",
        {"low": 0.1},
        seeds=(1, 2, 3, 4, 5),
    )
    stages = {each.verdict.stage for each in of_paper(short, long).judgement.answers if each.verdict is not None}
    assert stages == {Stage.FINAL}


def test_a_question_across_columns_is_said_to_be_no_question_of_this_table(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "s", ("data.stream",), seeds=list(SEEDS))
    sweep.file = {"table": "T", "seeds": list(SEEDS), "baseline": False, "compare": {"to value": "joint"}}
    for stream, shift in (("joint", 0.0), ("bone", 0.08)):
        for seed in SEEDS:
            sweep.add({"data.stream": stream}, seed, right=answers(0.8, seed, shift=shift))
    assert any("no verdicts: the file asks 'to value: joint' of stream" in each for each in of_paper(sweep).remarks)
