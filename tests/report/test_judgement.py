"""Verdicts of a sweep's table: which questions are asked, what they are judged by, and what is left out and said."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from stdcl.report.comparison import differences
from stdcl.report.formats import csv as numbers
from stdcl.report.judgement import Asked
from stdcl.report.lint import read_numbers
from stdcl.report.notes import notes, remarks
from stdcl.report.page import render
from stdcl.report.table import SweepTable, sweep_table
from stdcl.report.wording import display
from stdcl.results.scores import read_scores, write_scores
from stdcl.statistics.questions import Question
from stdcl.statistics.sequential import Stage
from stdcl.statistics.verdict import Word, answer
from tests.report.sweeps import COPIES, SUBJECTS, Sweep, answers

TAU = "contrast.temperature"
SHIFTS = {0.5: 0.07, 0.8: 0.005, 1.0: 0.0001}


def tau_sweep(
    folder: Path, seeds: Sequence[int] = (1, 2, 3), planned: Sequence[int] | None = None, **file: Any
) -> Sweep:
    """0.5 is clearly better than the baseline; the other two are not."""
    sweep = Sweep(folder / "tau", (TAU,), seeds=list(planned if planned is not None else seeds), file=file)
    for seed in seeds:
        sweep.add({}, seed, arm="baseline", right=answers(0.9, seed))
        for value, shift in SHIFTS.items():
            sweep.add({TAU: value}, seed, right=answers(0.9, seed, shift=shift))
    return sweep


def asked(table: SweepTable) -> dict[str, Asked]:
    assert table.judgement is not None
    return {each.question.name: each for each in table.judgement.asked}


def said(table: SweepTable) -> str:
    return " ".join([*notes(table), *remarks(table)])


def test_every_cell_is_compared_with_its_baseline_by_default(tmp_path: Path) -> None:
    table = sweep_table(tau_sweep(tmp_path).save())
    found = asked(table)
    assert list(found) == [f"temperature {value} - baseline" for value in SHIFTS]
    runs = {"0": {s: answers(0.9, s) for s in (1, 2, 3)}} | {
        str(index): {s: answers(0.9, s, shift=shift) for s in (1, 2, 3)}
        for index, shift in enumerate(SHIFTS.values(), 1)
    }
    questions = [Question(name, each.question.coefficients) for name, each in found.items()]
    expected = answer(runs, questions, 0.01, [1, 2, 3], np.arange(464) * SUBJECTS // 464)
    for name, each in found.items():
        assert each.verdict == expected[name]
    first = found["temperature 0.5 - baseline"].verdict
    assert first is not None
    assert first.word is Word.BETTER
    shown = display(table)
    verdicts = [row[shown.columns.index("verdict")] for row in shown.rows]
    assert verdicts[:2] == ["–", "better"]
    assert "one family of 3 questions" in said(table)
    assert "margin 1 point by default" in said(table)
    assert "other people; trained again" in said(table)
    assert "a true difference of" in said(table)


def test_copies_are_left_out_beside(tmp_path: Path) -> None:
    table = sweep_table(tau_sweep(tmp_path).save())
    cell = table.cells[1]
    assert cell.without_copies is not None
    right = np.stack([answers(0.9, seed, shift=0.07) for seed in (1, 2, 3)])
    found, kept = cell.without_copies
    assert kept == 464 - COPIES
    assert found.mean == pytest.approx(right[:, :-COPIES].mean())
    without = asked(table)["temperature 0.5 - baseline"].without_copies
    base = np.stack([answers(0.9, seed) for seed in (1, 2, 3)])
    assert without is not None
    assert without.estimate == pytest.approx((right.mean(axis=0) - base.mean(axis=0))[:-COPIES].mean())
    shown = display(table)
    assert "without\ncopies\n(369)" in shown.columns
    assert "without the 95 test sequences" in said(table)


@pytest.mark.parametrize(
    ("compare", "expected"),
    [
        ({"to value": 0.8}, ["temperature 0.5 - temperature 0.8", "temperature 1.0 - temperature 0.8"]),
        ("trend", ["temperature: trend from 0.5 to 1"]),
        ({"trend": "log"}, ["temperature: trend from 0.5 to 1"]),
        ("to baseline", [f"temperature {value} - baseline" for value in SHIFTS]),
    ],
)
def test_the_file_states_the_questions(tmp_path: Path, compare: Any, expected: list[str]) -> None:
    table = sweep_table(tau_sweep(tmp_path, compare=compare, margin=2.5).save())
    found = asked(table)
    assert list(found) == expected
    assert all(each.verdict is not None and each.verdict.margin == 0.025 for each in found.values())
    assert "margin 2.5 points" in said(table)
    assert all(name in said(table) for name in expected)
    columns = display(table).columns
    assert ("vs temperature 0.8\n(+/=/-)" in columns) == (compare == {"to value": 0.8})


def test_a_trend_is_a_row_of_the_table_and_of_its_numbers(tmp_path: Path) -> None:
    directory = tau_sweep(tmp_path, compare="trend").save()
    table = sweep_table(directory)
    (trend,) = asked(table).values()
    assert trend.verdict is not None
    shown = display(table)
    row = dict(zip(shown.columns, shown.rows[-1], strict=True))
    assert shown.rows[-1][0] == "temperature:\ntrend\nfrom 0.5 to 1"
    assert row["trend\n(+/=/-)"].startswith(f"{100 * trend.verdict.difference.estimate:+.2f} (")
    assert row["verdict"] == trend.verdict.word
    *cells, last = csv.DictReader(numbers.render(table).splitlines())
    assert [each["verdict"] for each in cells] == [""] * len(table.cells)
    assert (last["arm"], last["question"], last["verdict"]) == ("trend", trend.question.name, trend.verdict.word)
    assert float(last["estimate"]) == pytest.approx(100 * trend.verdict.difference.estimate)
    assert [bar.label for bar in differences(table)] == [trend.question.name]
    (tmp_path / "table.csv").write_text(numbers.render(table))
    assert len(read_numbers(tmp_path / "table.csv")) == len(table.cells)
    assert trend.question.name in render(table, directory)


def test_nothing_is_asked_where_the_file_says_so(tmp_path: Path) -> None:
    table = sweep_table(tau_sweep(tmp_path, compare="nothing").save())
    assert table.judgement is None
    assert "verdict" not in display(table).columns
    assert "verdict" not in said(table)


def test_seeds_added_after_a_result_are_exploratory(tmp_path: Path) -> None:
    table = sweep_table(tau_sweep(tmp_path, (1, 2, 3, 4), planned=(1, 2, 3)).save())
    verdict = asked(table)["temperature 0.5 - baseline"].verdict
    assert verdict is not None
    assert verdict.stage is Stage.EXPLORATORY
    shown = display(table)
    assert shown.rows[1][shown.columns.index("verdict")] == "better\n(exploratory)"


def test_an_incomplete_family_gets_no_word(tmp_path: Path) -> None:
    sweep = tau_sweep(tmp_path, (1, 2), planned=(1, 2, 3))
    sweep.add({TAU: 0.5}, 3)
    table = sweep_table(sweep.save())
    for each in asked(table).values():
        assert each.verdict is not None
        assert (each.verdict.word, each.verdict.stage) == (Word.UNDECIDED, Stage.INCOMPLETE)


def test_looks_that_the_file_names_beforehand(tmp_path: Path) -> None:
    sweep = tau_sweep(tmp_path, (1, 2), planned=(1, 2, 3, 4), looks=[2, 4])
    sweep.file["seeds"] = [1, 2, 3, 4]
    table = sweep_table(sweep.save())
    verdict = asked(table)["temperature 0.5 - baseline"].verdict
    assert verdict is not None
    assert verdict.stage is Stage.LOOK
    assert "looks after 2, 4 seeds" in said(table)
    final = sweep_table(tau_sweep(tmp_path / "all", (1, 2, 3, 4), looks=[2, 4]).save())
    last = asked(final)["temperature 0.5 - baseline"].verdict
    assert last is not None
    assert last.stage is Stage.FINAL


def test_without_scores_there_is_no_verdict_and_it_is_said(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "old", (TAU,))
    for seed in (1, 2):
        sweep.add({}, seed, arm="baseline", correct=430)
        sweep.add({TAU: 0.5}, seed, correct=440)
    table = sweep_table(sweep.save())
    assert asked(table)["temperature 0.5 - baseline"].verdict is None
    assert "no verdicts: no scores per sequence" in said(table)
    assert "verdict" not in display(table).columns
    assert "95 % t-interval over seeds" in said(table)


def test_a_trial_without_scores_is_named(tmp_path: Path) -> None:
    sweep = tau_sweep(tmp_path)
    key = sweep.planned[1]["key"]
    (sweep.directory / "trials" / key / "scores.parquet").unlink()
    table = sweep_table(sweep.save())
    assert f"without scores, so not in any verdict: {key}" in said(table)
    verdict = asked(table)["temperature 0.5 - baseline"].verdict
    assert verdict is not None
    assert verdict.difference.seeds == 2
    assert table.cells[1].accuracy is None


def test_scores_that_do_not_fit_are_left_out_and_named(tmp_path: Path) -> None:
    sweep = tau_sweep(tmp_path)
    paths = [sweep.directory / "trials" / trial["key"] / "scores.parquet" for trial in sweep.planned]
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    other = read_scores(paths[2])
    write_scores(paths[2], replace(other, fingerprint="another"))
    write_scores(paths[3], replace(other, fingerprint=sweep.planned[3]["fingerprint"]))
    write_scores(paths[5], replace(read_scores(paths[5]), data_hash="beef"))
    table = sweep_table(sweep.save())
    text = said(table)
    assert text.count("scores left out") == 4
    for fault in ("not a readable Parquet file", "of another configuration (another", "of other data (beef", "is 8"):
        assert fault in text
    assert asked(table)["temperature 0.5 - baseline"].verdict is not None  # seed 3 has all


def test_trials_on_other_sequences_are_not_compared(tmp_path: Path) -> None:
    sweep = tau_sweep(tmp_path, (1,))
    path = sweep.directory / "trials" / sweep.planned[1]["key"] / "scores.parquet"
    scores = read_scores(path)
    write_scores(path, replace(scores, ids=np.array([f"other{i}" for i in range(464)], dtype=object)))
    assert asked(sweep_table(sweep.save()))["temperature 0.5 - baseline"].verdict is None


def test_data_without_subjects_speak_of_these_sequences(tmp_path: Path) -> None:
    sweep = tau_sweep(tmp_path)
    for path in sweep.directory.glob("trials/*/scores.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(["subject"]), path)
    text = said(sweep_table(sweep.save()))
    assert "these sequences" in text
    assert "other people" not in text


def test_the_numbers_are_in_the_csv_file(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(numbers.render(sweep_table(tau_sweep(tmp_path).save())))))
    assert rows[0]["verdict"] == ""
    assert rows[1]["verdict"] == "better"
    assert float(rows[1]["interval_low"]) > 0
    assert rows[1]["interval_covers"] == "other people; trained again"
    assert rows[1]["over_seeds_covers"] == "these sequences; trained again"
    assert rows[1]["over_sequences_covers"] == "other people; these trained models"
    assert float(rows[1]["margin"]) == 1.0
    assert int(rows[1]["num_test_without_copies"]) == 369


@pytest.mark.parametrize("field", ["subjects", "copies"])
@pytest.mark.parametrize("other", [True, False])
def test_scores_that_say_other_things_of_the_sequences_are_left_out(tmp_path: Path, field: str, other: bool) -> None:
    """People (or copies) that are missing or others in one file: that file is named, and no verdict rests on it."""
    directory = tau_sweep(tmp_path).save()
    path = next(directory.glob("trials/*temperature=0.5,seed=1/scores.parquet"))
    scores = read_scores(path)
    values = getattr(scores, field)
    write_scores(path, replace(scores, **{field: values[::-1].copy() if other else None}))
    table = sweep_table(directory)
    verdict = asked(table)["temperature 0.5 - baseline"].verdict
    assert verdict is not None
    assert verdict.difference.seeds == 2
    assert verdict.difference.subjects == SUBJECTS
    what = "people" if field == "subjects" else "copies of training sequences"
    (remark,) = remarks(table)
    assert f"{'other' if other else 'no'} {what} than the other trials' files have" in remark
