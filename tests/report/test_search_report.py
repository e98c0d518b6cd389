"""The report of a search: its table, figures and page; how surely the parameters matter, and what was left out."""

from __future__ import annotations

import json
import re
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from stdcl.cli.command import main
from stdcl.report import svg
from stdcl.report.figures.search import parallel_figure
from stdcl.report.notes import notes
from stdcl.report.page import render
from stdcl.report.searching import importance_basis, importances, parallel, undominated
from stdcl.report.table import sweep_table
from stdcl.results.layout import SweepFolder
from tests.report.sweeps import Sweep

COUNTS = ("embedding_dim", "hard_positives", "hard_negatives", "random_negatives")
TAU, R = "contrast.temperature", "contrast.channel_reduction"


def search(folder: Path, *, failed: bool = False) -> Path:
    """Ten trials that finished, and two that were stopped early."""
    sweep = Sweep(folder, (TAU, R), "Which values suit?", search="optuna", file={"search": "optuna"})
    for number in range(10):
        parameters = {TAU: 0.1 * 2**number / 8, R: (2, 4, 8, 16)[number % 4]}
        sweep.add(parameters, correct=300 + 2 * number, name=f"trial={number},x", evaluated_on="validation")
    for number in (10, 11):
        parameters = {TAU: 0.3, R: 8}
        sweep.add(
            parameters, correct=200 + number, status="pruned", name=f"trial={number},x", evaluated_on="validation"
        )
    if failed:
        sweep.add({TAU: 0.2, R: 2}, status="failed", error="no memory left", name="trial=12,x")
    directory = sweep.save()
    share = {"share": 0.75, "low": 0.4, "high": 0.9}, {"share": 0.25, "low": 0.1, "high": 0.6}
    found = {"method": "PED-ANOVA", "complete": 10, "pruned": 2, "parameters": {R: share[1], TAU: share[0]}}
    place = SweepFolder(directory).importance
    place.parent.mkdir()
    place.write_text(json.dumps(found))
    return directory


def test_importance_has_its_uncertainty_and_says_what_it_left_out(tmp_path: Path) -> None:
    table = sweep_table(search(tmp_path / "s"))
    assert [(each.label, each.share, each.low, each.high) for each in importances(table)] == [
        ("temperature", 75.0, 40.0, 90.0),
        ("channel_reduction", 25.0, 10.0, 60.0),
    ]
    assert "10 complete trials, 2 that were stopped early left out" in importance_basis(table)


def test_of_two_objectives_the_table_names_what_is_not_beaten(tmp_path: Path) -> None:
    space = {TAU: {"type": "float", "low": 0.1, "high": 1.0}}
    settings = {"objectives": ["accuracy", "seconds_per_epoch"], "scheduler": "none"}
    file = {"search": "optuna", "space": space, "optuna": settings, "grid": {}, "baseline": False, "seeds": [1]}
    sweep = Sweep(tmp_path / "s", (TAU,), "Which are worth their time?", search="optuna", file=file)
    for number, (correct, seconds) in enumerate([(400, 9.0), (380, 3.0), (390, 9.0), (300, 2.0), (300, 2.5)]):
        sweep.add(
            {TAU: 0.2 + number / 10},
            correct=correct,
            name=f"trial={number},x",
            evaluated_on="validation",
            seconds_per_epoch=seconds,
        )
    table = sweep_table(sweep.save())
    assert [trial.key for trial in undominated(table)] == ["trial=0,x", "trial=1,x", "trial=3,x"]
    line = next(line for line in notes(table) if "no other beats" in line)
    assert "0 (86.21 %, 9 s/epoch), 1 (81.90 %, 3 s/epoch), 3 (64.66 %, 2 s/epoch)" in line
    assert undominated(sweep_table(search(tmp_path / "one"))) == []


def test_every_trial_is_a_path_across_the_axes(tmp_path: Path) -> None:
    table = sweep_table(search(tmp_path / "s"))
    found = parallel(table)
    assert found is not None
    assert [axis.label for axis in found.axes] == ["temperature", "channel_reduction", "accuracy, %"]
    assert [text for _, text in found.axes[1].ticks] == ["2", "4", "8", "16"]  # few whole numbers: evenly
    assert len(found.paths) == 12
    assert sum(not path.finished for path in found.paths) == 2
    best = found.paths[-1]
    assert best.best
    # Trial 9: the largest temperature and the highest accuracy; r = 4 is the second of four values.
    assert best.strength == 1.0
    assert best.places == pytest.approx((1.0, 1 / 3, 1.0))
    assert best.label.startswith(f"trial 9: {100 * 318 / 464:.2f} % (temperature 6.4, channel_reduction 4)")
    assert any("stopped after" in path.label for path in found.paths)


def six(folder: Path) -> Path:
    """A search over all that the paper leaves open: seven upright axes with their accuracy."""
    keys = (TAU, R, *(f"contrast.{key}" for key in COUNTS))
    sweep = Sweep(folder, keys, "Which values suit?", search="optuna", file={"search": "optuna"})
    for number in range(4):
        values = dict.fromkeys(keys, 16 + number)
        sweep.add(values, correct=300 + number, name=f"trial={number},x", evaluated_on="validation")
    return sweep.save()


def test_the_names_of_many_axes_stand_clear_of_each_other(tmp_path: Path) -> None:
    found = parallel(sweep_table(six(tmp_path / "s")))
    assert found is not None
    figure = parallel_figure("s", "Which values suit?", found)
    figure.draw_without_rendering()
    named = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert len(named) == 7
    assert not [pair for pair in combinations(range(7), 2) if named[pair[0]].overlaps(named[pair[1]])]
    # On the page: a row's names are as far apart as the widest usual font needs, 6.8 px a character.
    names = re.findall(
        r'<text class="axis" x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([^<]+)<', svg.parallel("s", found)
    )
    part = {"start": 0.0, "middle": 0.5, "end": 1.0}
    spans: dict[str, list[tuple[float, float]]] = {}
    for x, y, anchor, name in names:
        wide = 6.8 * len(name)
        spans.setdefault(y, []).append((float(x) - part[anchor] * wide, float(x) + (1 - part[anchor]) * wide))
    assert len(names) == 7
    for row in spans.values():
        assert all(end < begin for (_, end), (begin, _) in pairwise(row)), row


def test_a_search_is_reported_under_its_own_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = search(tmp_path / "s")
    assert main(["report", str(directory), "--html", "--figures"]) == 0
    capsys.readouterr()
    names = {path.name for path in (directory / "report").iterdir()}
    assert {"table_s.txt", "table_s.md", "table_s.tex", "table_s.csv", "trials_s.csv", "report.html"} <= names
    assert {"importance.png", "importance.pdf", "parallel.png", "parallel.pdf"} <= names
    pdf = (directory / "report" / "parallel.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf


def test_a_failed_trial_of_a_search_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(search(tmp_path / "s", failed=True))]) == 1
    assert "no memory left" in capsys.readouterr().out


def test_the_page_of_a_search(tmp_path: Path) -> None:
    directory = search(tmp_path / "s")
    table = sweep_table(directory)
    page = render(table, directory)
    text = " ".join(re.sub("<[^>]*>", " ", page).split())
    assert "The best of 10 finished trials (2 more were stopped early) has 68.53 %" in text
    # Wilson's interval of 318 of 464 ends at 64.2 %, 298 sequences; the worst trial that ended has 300.
    assert "9 of the other 9 may be as good: on 464 sequences its accuracy is only known to be 64.2 % or more" in text
    assert "PED-ANOVA over 10 complete trials, 2 that were stopped early left out" in text
    assert page.count('class="curve best"') == 1
    assert page.count('class="curve stopped"') == 2
    assert 'href="#trial-10"' in page  # the best trial's row leads to it
    assert "trial 9" in text
    assert render(table, directory) == page


def test_why_says_where_a_trial_of_a_search_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = search(tmp_path / "s")
    assert main(["report", str(directory)]) == 0
    capsys.readouterr()
    assert main(["why", str(directory)]) == 0
    assert "s, row 1: trial=9,x: 68.53 %" in capsys.readouterr().out
    assert main(["why", str(directory), "trial=9"]) == 0
    said = capsys.readouterr().out
    assert "fingerprint" in said
    assert "sha256 " in said
    with (directory / "trials" / "trial=9,x" / "config.yaml").open("a") as file:
        file.write("# changed\n")
    assert main(["why", str(directory), "1"]) == 1
    assert "STALE since the report was written: trial=9,x/config.yaml has changed" in capsys.readouterr().out
    assert main(["why", str(directory), "trial=8"]) == 0, "another trial's input"
    assert main(["why", str(directory), "trial=99"]) == 2
    assert "no trial of s named 'trial=99'; give a row's number, from 1 to 10" in capsys.readouterr().err


def test_too_few_complete_trials_for_an_importance_are_said(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "s", (TAU,), search="optuna")
    sweep.add({TAU: 0.5}, correct=300, name="trial=0,x")
    sweep.add({TAU: 0.6}, correct=200, status="pruned", name="trial=1,x")
    said = notes(sweep_table(sweep.save()))
    expected = (
        "not computed, since it needs 8 complete trials and there are 1 (the 1 that were stopped early do not count)"
    )
    assert any(expected in note for note in said)
