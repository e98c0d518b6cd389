"""What a search promised, beside what came out: in the table's notes and as a file."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from stdcl.report.confirmation import gaps
from stdcl.report.files import write_report
from stdcl.report.notes import notes
from stdcl.report.table import sweep_table
from tests.report.sweeps import Sweep

ARMS = {
    "baseline": {"method.name": "none"},
    "trial-7": {"contrast.temperature": 0.5},
    "trial-3": {"contrast.temperature": 0.9},
}
CONFIRMS = {
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
    assert "confirmation.csv" in write_report(confirmed)
    with (confirmed / "report" / "confirmation.csv").open() as stream:
        best, other = csv.DictReader(stream)
    assert (best["arm"], best["trial"], best["seeds"]) == ("trial-7", "trial=7,x", "2")
    assert float(best["gap"]) == pytest.approx(395 / 464 - 0.9)
    assert (other["seeds"], other["mean"], other["gap"]) == ("0", "", "")
