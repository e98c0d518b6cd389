"""What a search promised, beside what came out: in the table's notes and as a file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from stdcl.report.confirmation import gaps, sentences
from stdcl.report.files import write_report
from stdcl.report.notes import notes
from stdcl.report.table import sweep_table
from tests.report.sweeps import Sweep

ARMS: dict[str, dict[str, Any]] = {
    "baseline": {"method.name": "none"},
    "trial-7": {"contrast.temperature": 0.5},
    "trial-3": {"contrast.temperature": 0.9},
}
CONFIRMS: dict[str, Any] = {
    "search": "searching",
    "judged": 40,
    "seeds": [1],
    "arms": {
        "trial-3": {"trial": "trial=3,x", "accuracy": 0.80, "sequences": 210},
        "trial-7": {"trial": "trial=7,x", "accuracy": 0.90, "sequences": 210},
    },
}


@pytest.fixture
def confirmed(tmp_path: Path) -> Path:
    """Two seeds of trial 7, and none of trial 3."""
    file = {"arms": ARMS, "reference": "baseline", "confirms": CONFIRMS, "baseline": False}
    facts = {"arms": ARMS, "reference": "baseline"}
    sweep = Sweep(tmp_path / "searching_confirm", (), "What is left of it?", file=file, plan_facts=facts)
    for seed, correct in ((2, 390), (3, 400)):
        sweep.add({}, seed, arm="baseline", correct=correct - 10)
        sweep.add({}, seed, arm="trial-7", correct=correct)
        sweep.add({}, seed, arm="trial-3")
    return sweep.save()


def rows(directory: Path) -> list[dict[str, str]]:
    assert "confirmation.csv" in write_report(directory)
    with (directory / "report" / "confirmation.csv").open() as stream:
        return list(csv.DictReader(stream))


def over_streams(folder: Path, base: dict[str, Any], streams: tuple[str, ...] = ("bone", "joint")) -> Path:
    """Trial 7 on two streams; the search ran on the base's."""
    confirms = {**CONFIRMS, "arms": {"trial-7": CONFIRMS["arms"]["trial-7"]}}
    arms = {name: ARMS[name] for name in ("baseline", "trial-7")}
    file = {"arms": arms, "reference": "baseline", "confirms": confirms, "baseline": False, "base": base}
    facts = {"arms": arms, "reference": "baseline"}
    sweep = Sweep(folder, ("data.stream",), "What is left of it?", file=file, plan_facts=facts)
    for stream in streams:
        correct = 390 if stream == "joint" else 440
        sweep.add({"data.stream": stream}, 2, arm="baseline", correct=correct - 10)
        sweep.add({"data.stream": stream}, 2, arm="trial-7", correct=correct)
    return sweep.save()


def test_of_a_grid_only_the_cell_of_the_search_has_a_gap(tmp_path: Path) -> None:
    """Bone came to more than joint, on which the search ran and promised 90 %."""
    base = {"data": {"dataset": "nw-ucla", "path": "x"}, "encoder": {"name": "ctrgcn"}}
    directory = over_streams(tmp_path / "c", base)
    assert sentences(sweep_table(directory))[:2] == [
        "trial-7,stream=joint: the search promised 90.00 % of 210 held-out sequences; 84.05 % of 464 test sequences "
        "came out over 1 fresh seed: -5.95 points",
        "trial-7,stream=bone: 94.83 % of 464 test sequences came out over 1 fresh seed; the search's promise for "
        "trial-7 (90.00 % of 210 held-out sequences) is of another setting",
    ]
    joint, bone = rows(directory)
    assert (joint["cell"], joint["promise_is_of_this_cell"]) == ("trial-7,stream=joint", "yes")
    assert float(joint["gap"]) == pytest.approx(390 / 464 - 0.9)
    assert (bone["cell"], bone["promise_is_of_this_cell"], bone["gap"]) == ("trial-7,stream=bone", "no", "")
    assert float(bone["mean"]) == pytest.approx(440 / 464)


def test_without_the_setting_of_the_search_there_is_no_gap(tmp_path: Path) -> None:
    base = {"data": {"dataset": "nw-ucla", "path": "x"}, "encoder": {"name": "ctrgcn"}}
    elsewhere = sentences(sweep_table(over_streams(tmp_path / "a", base, ("bone", "bone-motion"))))
    assert len(elsewhere) == 2
    assert all("is of another setting" in line for line in elsewhere)
    base["data"]["stream"] = "no stream"
    unknown = sentences(sweep_table(over_streams(tmp_path / "b", base)))
    assert len(unknown) == 2
    assert all("may be of another setting" in line for line in unknown)


@pytest.mark.parametrize("stream", ["bone", "joint"])
def test_a_base_that_was_set_anew_is_another_setting_than_the_search_had(tmp_path: Path, stream: str) -> None:
    searched = {"data": {"dataset": "nw-ucla"}, "encoder": {"name": "ctrgcn"}}
    base = {"data": {"dataset": "nw-ucla", "path": "elsewhere", "stream": stream}, "encoder": {"name": "ctrgcn"}}
    arms = {name: ARMS[name] for name in ("baseline", "trial-7")}
    confirms = {**CONFIRMS, "arms": {"trial-7": CONFIRMS["arms"]["trial-7"]}, "base": searched}
    file = {"arms": arms, "reference": "baseline", "confirms": confirms, "baseline": False, "base": base}
    facts = {"arms": arms, "reference": "baseline"}
    sweep = Sweep(tmp_path / "c", (), "What is left of it?", file=file, plan_facts=facts)
    sweep.add({}, 2, arm="trial-7", correct=390)
    (gap,) = gaps(sweep_table(sweep.save()))
    assert gap.own is (stream == "joint")
    assert (gap.points is None) is (stream == "bone")


@pytest.mark.parametrize("version", ["this", "earlier"])
def test_the_searchs_own_base_need_not_resolve_where_the_report_is_made(tmp_path: Path, version: str) -> None:
    """A plugin's encoder, for example, may be missing there."""
    base = {"data": {"dataset": "nw-ucla", "path": "x"}, "encoder": {"name": "nowhere"}}
    arms = {name: ARMS[name] for name in ("baseline", "trial-7")}
    confirms = {**CONFIRMS, "arms": {"trial-7": CONFIRMS["arms"]["trial-7"]}}
    confirms |= {"base": base} if version == "this" else {}
    file = {"arms": arms, "reference": "baseline", "confirms": confirms, "baseline": False, "base": base}
    sweep = Sweep(tmp_path / "c", (), "What is left?", file=file, plan_facts={"arms": arms, "reference": "baseline"})
    sweep.add({}, 2, arm="trial-7", correct=390)
    (gap,) = gaps(sweep_table(sweep.save()))
    assert gap.own is True


def test_the_gap_is_between_promise_and_mean_over_fresh_seeds(confirmed: Path) -> None:
    table = sweep_table(confirmed)
    best, other = gaps(table)
    assert (best.arm, other.arm) == ("trial-7", "trial-3"), "the best promise first"
    assert best.points == pytest.approx(100 * (395 / 464 - 0.9))
    assert other.points is None
    said = notes(table)
    assert (
        "trial-7: the search promised 90.00 % of 210 held-out sequences; 85.13 ± 1.52 % of 464 test sequences came out "
        "over 2 fresh seeds: -4.87 points"
    ) in said
    assert "trial-3: the search promised 80.00 % of 210 held-out sequences; no seed is finished here" in said
    assert any("picked for its result among 40 trials of 'searching'" in line for line in said)


def test_the_gaps_are_a_file_of_the_report(confirmed: Path) -> None:
    best, other = rows(confirmed)
    assert (best["arm"], best["cell"], best["trial"], best["seeds"]) == ("trial-7", "trial-7", "trial=7,x", "2")
    assert float(best["gap"]) == pytest.approx(395 / 464 - 0.9)
    assert (other["seeds"], other["mean"], other["gap"]) == ("0", "", "")
