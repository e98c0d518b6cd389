"""The paper's tables from sweeps: every cell in its place, fused streams, and what does not fit is said."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stdcl.cli.command import main
from stdcl.errors import UserError
from stdcl.report.display import one_line
from stdcl.report.load import load_sweep_state
from stdcl.report.paper import PaperTable, paper_table, tables_of
from stdcl.report.paper_rows import SOURCES
from stdcl.report.paper_runs import MEMORY, MINUTES, Column
from stdcl.report.paper_wording import paper_csv, paper_display
from stdcl.report.published import reported_results
from stdcl.results.fusion import fuse
from stdcl.results.layout import RunFolder
from stdcl.results.result import RunResult, write_result
from stdcl.results.row import EpochRow
from stdcl.results.scores import read_scores
from stdcl.statistics.questions import Question
from stdcl.statistics.sequential import Stage
from stdcl.statistics.verdict import Word, answer
from tests.report.sweeps import Sweep, answers

NW = ("nw-ucla", "cross-view")


def encoders(folder: Path, seeds: Sequence[int] = (1, 2, 3), shift: float = 0.04, **facts: object) -> Sweep:
    sweep = Sweep(folder, ("encoder.name", "data.stream"), seeds=list(seeds), file={"table": "2", "seeds": list(seeds)})
    for stream in ("joint", "bone"):
        for seed in seeds:
            luck = seed + 10 * len(stream)
            parameters = {"encoder.name": "ctrgcn", "data.stream": stream}
            sweep.add(parameters, seed, arm="baseline", right=answers(0.9, luck), **facts)
            sweep.add(parameters, seed, right=answers(0.9, luck, shift=shift), **facts)
    return sweep


def table_of(name: str, *sweeps: Sweep) -> PaperTable:
    return paper_table(name, [load_sweep_state(sweep.save()) for sweep in sweeps])


def cells(table: PaperTable) -> dict[tuple[str, str], str]:
    shown = paper_display(table)
    names = [one_line(name) for name in shown.columns]
    return {
        (row[0], column): one_line(cell) for row in shown.rows for column, cell in zip(names[1:], row[1:], strict=True)
    }


def test_cells_of_table_2_are_ours_beside_the_papers(tmp_path: Path) -> None:
    table = table_of("2", encoders(tmp_path / "a"))
    shown = cells(table)
    right = [answers(0.9, seed + 50, shift=0.04).mean() for seed in (1, 2, 3)]
    mean, deviation = 100 * np.mean(right), 100 * np.std(right, ddof=1)
    whole = shown["CTR-GCN w/STD-CL", "NW-UCLA J"]
    # The last 95 sequences of these made-up scores are copies.
    kept = 100 * np.mean([answers(0.9, seed + 50, shift=0.04)[:-95].mean() for seed in (1, 2, 3)])
    assert whole.startswith(f"{mean:.2f} ± {deviation:.2f} (3) w/o copies {kept:.2f} paper 94.8*")
    # What was not run looks different from what was, and an empty cell of the paper from one with a number.
    assert shown["CTR-GCN w/STD-CL", "NW-UCLA 4S"] == "[97.2*]"
    assert shown["AGC-LSTM", "NW-UCLA J"] == "[–]"
    assert table.remarks == ()
    entry = next(e for (row, c), e in table.entries.items() if row.name == "CTR-GCN w/STD-CL" and c.stream == "joint")
    assert entry.verdict is not None
    assert entry.verdict.questions == len(table.judgement.answers) == 3  # joint, bone and 2S
    assert entry.verdict.difference.estimate == pytest.approx(
        np.mean(right) - np.mean([answers(0.9, seed + 50).mean() for seed in (1, 2, 3)])
    )


def test_every_printed_number_of_the_paper_has_its_cell(tmp_path: Path) -> None:
    sweep = encoders(tmp_path / "a")
    for name, source in SOURCES.items():
        table = table_of(name, replace(sweep, directory=tmp_path / name, file={"table": name}))
        expected = sorted(each.accuracy for each in reported_results() if each.source == source and each.accuracy)
        assert sorted(e.paper for e in table.entries.values() if e.paper is not None) == expected


def test_2s_is_fused_from_the_scores_of_each_seed(tmp_path: Path) -> None:
    sweep = encoders(tmp_path / "a")
    table = table_of("2", sweep)
    by_stream = {
        stream: [
            read_scores(sweep.directory / "trials" / trial["key"] / "scores.parquet")
            for trial in sweep.planned
            if trial["arm"] == "grid" and trial["parameters"]["data.stream"] == stream
        ]
        for stream in ("joint", "bone")
    }
    expected = [100 * fuse(pair).scores.accuracy for pair in zip(by_stream["joint"], by_stream["bone"], strict=True)]
    entry = next(e for (row, c), e in table.entries.items() if row.name == "CTR-GCN w/STD-CL" and c.stream == "2S")
    assert entry.values == tuple(expected)
    assert len(entry.trials) == 6


def test_several_sweeps_fill_one_table_and_a_common_training_counts_once(tmp_path: Path) -> None:
    one, two = encoders(tmp_path / "a", (1, 2)), encoders(tmp_path / "b", (2, 3))
    table = table_of("2", one, two)
    entry = next(e for (row, c), e in table.entries.items() if row.name == "CTR-GCN" and c.stream == "joint")
    assert len(entry.values) == 3
    assert [name.split("/")[0] for name in entry.trials] == ["a", "a", "b"]


def test_sweeps_are_joined_by_the_table_that_they_name(tmp_path: Path) -> None:
    first, second = encoders(tmp_path / "a"), encoders(tmp_path / "b")
    third = replace(first, directory=tmp_path / "c", file={"seeds": [1, 2, 3]})
    states = [load_sweep_state(sweep.save()) for sweep in (first, second, third)]
    assert {name: [s.name for s in found] for name, found in tables_of(states).items()} == {"2": ["a", "b"], "c": ["c"]}


def test_two_configurations_for_one_cell_are_said_and_not_averaged(tmp_path: Path) -> None:
    short = encoders(tmp_path / "b", config={"training.epochs": 10})
    table = table_of("2", encoders(tmp_path / "a"), short)
    assert cells(table)["CTR-GCN", "NW-UCLA J"] == "2 different configurations"
    assert any("they differ in training.epochs" in remark for remark in table.remarks)


def test_values_of_an_ablation_stand_in_their_rows(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "r", ("contrast.channel_reduction",), seeds=[1], file={"table": "4a"})
    facts = {"dataset": "ntu120", "protocol": "x-sub", "num_test": 50_919}
    sweep.add({}, arm="baseline", correct=43_000, **facts)
    for value in (4, 8, 32):
        sweep.add({"contrast.channel_reduction": value}, correct=43_000 + value, **facts)
    table = table_of("4a", sweep)
    shown = cells(table)
    column = "NTU120 X-Sub J"
    assert shown["CTR-GCN w/STD-CL r=4", column] == f"{100 * 43_004 / 50_919:.2f} (1) paper –"
    assert shown["CTR-GCN w/STD-CL r=8", column] == f"{100 * 43_008 / 50_919:.2f} (1) paper 85.5*"
    assert shown["CTR-GCN w/STD-CL r=16", column] == "[–]"
    other = next(name for name, _ in shown if "32" in name)
    assert shown[other, column] == f"{100 * 43_032 / 50_919:.2f} (1) not in paper"


def test_memory_and_minutes_of_table_4e(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "e", ("encoder.name",), seeds=[1], file={"table": "4e", "alone": True})
    machine = {"processor": "A card", "precision": "float32", "tf32": "convolutions", "driver": "570.86"}
    for encoder, memory in (("hcn", 2048.0), ("ctrgcn", 4096.0)):
        facts = {"peak_memory_mib": memory, "dataset": "ntu120", "protocol": "x-sub"}
        seconds = {"steady_epoch_seconds": 90.0} if encoder == "hcn" else {"driver": "580.65"}
        more = {**machine, **seconds}
        sweep.add({"encoder.name": encoder}, correct=40_000, num_test=50_919, more=more, seconds_per_epoch=7.0, **facts)
    table = table_of("4e", sweep)
    where = {(row.name, column.metric): entry for (row, column), entry in table.entries.items()}
    assert where["HCN w/ours", MEMORY].values == (2.0,)
    assert where["CTR-AGCN w/ours", MEMORY].values == (4.0,)
    assert where["HCN w/ours", MINUTES].values == (1.5,), "not what the whole run took by epochs"
    assert not where["CTR-AGCN w/ours", MINUTES].run
    assert not where["HCN", MINUTES].run
    assert any("no minutes" in remark and "ctrgcn" in remark for remark in table.remarks)
    assert not any("alone" in remark for remark in table.remarks)
    said = " ".join(paper_display(table).notes)
    assert "the median of the second to fourth epoch" in said
    assert "trials differ in driver 570.86 (1) and 580.65 (1)" in said


def test_costs_beside_other_trials_are_pointed_out(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "e", ("encoder.name",), seeds=[1], file={"table": "4e"})
    sweep.add({"encoder.name": "hcn"}, correct=400, more={"steady_epoch_seconds": 90.0}, workers=1)
    assert any("does not say alone: true" in remark for remark in table_of("4e", sweep).remarks)


def test_what_costs_were_measured_on(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "e", ("encoder.name",), seeds=[1], file={"table": "4e", "alone": True})
    key = sweep.add({"encoder.name": "hcn"}, correct=400, workers=1)
    row: EpochRow = {"epoch": 4, "accuracy": 400 / 464, "num_test": 464}
    result = RunResult(row, processor="A processor", precision="float32", threads=1, steady_epoch_seconds=6.0)
    write_result(RunFolder(sweep.directory / "trials" / key).result, result)
    table = table_of("4e", sweep)
    assert table.machines == ("measured on A processor, float32, 1 thread a worker",)
    assert table.machines[0] in paper_display(table).notes


def test_a_table_that_the_paper_lacks_has_a_row_for_each_value(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "t", ("contrast.temperature",), seeds=[1, 2], file={"table": "temperature"})
    for seed in (1, 2):
        sweep.add({}, seed, arm="baseline", right=answers(0.9, seed))
        for value in (0.1, 0.5):
            sweep.add({"contrast.temperature": value}, seed, right=answers(0.9, seed, shift=value / 100))
    shown = cells(table_of("temperature", sweep))
    assert [name for name, _ in shown] == [
        "CTR-GCN",
        "CTR-GCN w/STD-CL: temperature 0.1",
        "CTR-GCN w/STD-CL: temperature 0.5",
    ]
    assert all("not in paper" in cell for cell in shown.values())


def test_a_temperature_that_the_paper_did_not_try_is_a_departure_only_where_the_row_is_not_about_it(
    tmp_path: Path,
) -> None:
    assert not any(
        note.startswith("[a]") for note in paper_display(table_of("tau", temperatures(tmp_path / "a"))).notes
    )
    sweep = Sweep(
        tmp_path / "r", ("contrast.channel_reduction", "contrast.temperature"), seeds=[1], file={"table": "4a"}
    )
    sweep.add({"contrast.channel_reduction": 8, "contrast.temperature": 0.1}, right=answers(0.9, 1))
    notes = paper_display(table_of("4a", sweep)).notes
    (said,) = [note for note in notes if note.startswith("[a] ")]
    assert said.endswith("in brackets the published recipe's: contrast.temperature 0.1 (0.5, 0.8, 1.0)")


def test_what_is_missing_or_failed_is_said_and_changes_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = encoders(tmp_path / "whole").save()
    assert main(["report", str(whole)]) == 0
    half = encoders(tmp_path / "half")
    half.add({"encoder.name": "agcn", "data.stream": "joint"}, 1, status="failed", error="Traceback\nno memory left")
    half.add({"encoder.name": "agcn", "data.stream": "joint"}, 2)
    half.add({"encoder.name": "agcn", "data.stream": "bone"}, 1, correct=400, data_hash="other")
    half.add({"encoder.name": "agcn", "data.stream": "bone"}, 2)
    folder = half.save()
    damaged = folder / "trials" / half.planned[0]["key"] / "scores.parquet"
    damaged.write_bytes(damaged.read_bytes()[:100])
    capsys.readouterr()
    assert main(["report", str(folder)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    for part in (
        "no memory left",
        "2 planned trials are not finished",
        "trials of different data of nw-ucla cross-view: feed, other",
        "scores.parquet: not a readable Parquet file",
        "2S of seed 1 left out",
        "not finished (1 failed, 1 not started)",
    ):
        assert part in said


def test_a_search_is_no_table_of_the_paper(tmp_path: Path) -> None:
    search = Sweep(tmp_path / "s", ("contrast.temperature",), search="optuna")
    search.add({"contrast.temperature": 0.5}, correct=400)
    with pytest.raises(UserError, match="a search's trials are no cells of a table"):
        table_of("2", search)


def test_csv_has_every_cell_unrounded_and_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    sweep = encoders(tmp_path / "a")
    directory = sweep.save()
    outs = [tmp_path / "x", tmp_path / "y"]
    for out in outs:
        assert main(["report", str(directory), "--out", str(out)]) == 0
    for name in ("table_2.txt", "table_2.md", "table_2.tex", "table_2.csv"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()
    rows = list(csv.DictReader(io.StringIO(paper_csv(table_of("2", sweep)))))
    assert len(rows) == sum(each.source == SOURCES["2"] for each in reported_results())
    mine = next(row for row in rows if row["method"] == "CTR-GCN w/STD-CL" and row["stream"] == "joint")
    assert float(mine["ours"]) == pytest.approx(
        100 * np.mean([answers(0.9, s + 50, shift=0.04).mean() for s in (1, 2, 3)])
    )
    assert mine["verdict"] in set(Word)
    assert Column(*NW, "joint") in table_of("2", sweep).columns


@pytest.mark.parametrize("name", ["config.yaml", "history.jsonl", "scores.parquet", "sweep.yaml", "part"])
@pytest.mark.parametrize("content", [b"", b"\xd9\x88 {: [", None])
def test_a_damaged_file_is_no_traceback(
    tmp_path: Path, name: str, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever of a sweep is damaged, reports are written, ``why`` answers, and the exit code says it."""
    sweep = Sweep(tmp_path / "s", ("contrast.temperature",), seeds=[1], file={"table": "2", "seeds": [1]})
    key = sweep.add({"contrast.temperature": 0.5}, right=answers(0.9, 1), epochs_done=3)
    directory = sweep.save()
    places = {"sweep.yaml": directory / name, "part": next((directory / "results").glob("part-*"))}
    place = places.get(name, directory / "trials" / key / name)
    place.unlink()
    if content is None:
        place.mkdir()
    else:
        place.write_bytes(content)
    codes = [
        main([*words, str(directory), *more]) for words, more in ((["report"], ["--html"]), (["why"], ["--check"]))
    ]
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    if name in ("scores.parquet", "part", "sweep.yaml"):
        assert codes[0] == 1, said.out
        assert "! " in said.out


def test_all_cells_of_a_table_are_one_family(tmp_path: Path) -> None:
    """The p value of the strongest cell is corrected for all three."""
    table = table_of("2", encoders(tmp_path / "a"))
    found = [entry.verdict for entry in table.entries.values() if entry.verdict is not None]
    strongest = min(found, key=lambda verdict: verdict.difference.p)
    assert strongest.p == pytest.approx(min(1.0, 3 * strongest.difference.p))
    assert strongest.word == (Word.BETTER if strongest.p <= 0.05 else Word.UNDECIDED)


def test_seeds_that_are_missing_or_new_give_no_verdict(tmp_path: Path) -> None:
    half = encoders(tmp_path / "half", shift=0.09)
    half.seeds = [1, 2, 3, 4]
    verdict = next(e.verdict for e in table_of("2", half).entries.values() if e.verdict is not None)
    assert (verdict.word, str(verdict.stage)) == (Word.UNDECIDED, "incomplete")
    more = encoders(tmp_path / "more", shift=0.09)
    more.seeds = [1, 2]
    stages = {str(e.verdict.stage) for e in table_of("2", more).entries.values() if e.verdict is not None}
    assert stages == {"exploratory"}


def temperatures(folder: Path, seeds: Sequence[int] = (1, 2, 3), planned: int = 3, **file: object) -> Sweep:
    named = {"table": "tau", "seeds": list(range(1, planned + 1)), **file}
    sweep = Sweep(folder, ("contrast.temperature",), seeds=named["seeds"], file=named)
    for seed in seeds:
        sweep.add({}, seed, arm="baseline", right=answers(0.8, seed))
        for value, shift in ((0.1, 0.0), (0.5, 0.08), (0.8, 0.16)):
            sweep.add({"contrast.temperature": value}, seed, right=answers(0.8, seed, shift=shift + 0.001))
    return sweep


def right(shift: float, seeds: Sequence[int] = (1, 2, 3)) -> dict[int, np.ndarray]:
    return {seed: answers(0.8, seed, shift=shift + 0.001) for seed in seeds}


def test_cells_are_compared_with_the_value_that_the_file_names(tmp_path: Path) -> None:
    table = table_of("tau", temperatures(tmp_path / "a", compare={"to value": 0.5}))
    verdicts = {row.value or row.name: e.verdict for (row, _), e in table.entries.items()}
    runs = {"reference": right(0.08), "low": right(0.0), "high": right(0.16)}
    questions = [Question(name, {"reference": -1.0, name: 1.0}) for name in ("low", "high")]
    expected = answer(runs, questions, 0.01, [1, 2, 3], np.arange(464) * 10 // 464)
    assert verdicts == {
        "CTR-GCN": None,
        "CTR-GCN w/STD-CL: temperature 0.1": expected["low"],
        "CTR-GCN w/STD-CL: temperature 0.5": None,
        "CTR-GCN w/STD-CL: temperature 0.8": expected["high"],
    }
    notes = paper_display(table).notes
    assert any("against temperature 0.5 of the same column" in note for note in notes)
    assert any(note.startswith("CTR-GCN w/STD-CL: temperature 0.1 - CTR-GCN") and "worse" in note for note in notes)


def test_arms_are_compared_with_the_reference_that_the_file_names(tmp_path: Path) -> None:
    """A sweep that asks how a passage is read has no cross-entropy alone, and still a question."""
    arms = {"own": {"contrast.temperature": 0.5}, "low": {"contrast.temperature": 0.1}, "ce": {"method.name": "none"}}
    named = {"table": "tau", "seeds": [1, 2, 3], "baseline": False, "arms": arms, "reference": "own"}
    sweep = Sweep(tmp_path / "a", (), seeds=[1, 2, 3], file=named)
    sweep.plan_facts = {"arms": arms, "reference": "own"}
    for seed in (1, 2, 3):
        sweep.add({}, seed, arm="own", right=answers(0.8, seed), config={"contrast.temperature": 0.5})
        sweep.add({}, seed, arm="low", right=answers(0.8, seed, shift=0.081), config={"contrast.temperature": 0.1})
        sweep.add({}, seed, arm="ce", right=answers(0.8, seed, shift=0.01), config={"method.name": "none"})
    table = table_of("tau", sweep)
    assert [each.name for each in table.judgement.answers] == ["low - own", "ce - own"]
    runs = {"own": right(-0.001), "low": right(0.08), "ce": right(0.009)}
    questions = [Question(name, {"own": -1.0, name: 1.0}) for name in ("low", "ce")]
    expected = answer(runs, questions, 0.01, [1, 2, 3], np.arange(464) * 10 // 464)
    assert [each.verdict for each in table.judgement.answers] == [expected["low"], expected["ce"]]
    notes = paper_display(table).notes
    assert any("against own, the reference that the file names" in note for note in notes)
    assert any(note.startswith("low - own") and "better" in note for note in notes)
    assert any("better" in " ".join(row) for row in paper_display(table).rows)


def test_a_trend_is_one_question_and_has_a_row_of_its_own(tmp_path: Path) -> None:
    table = table_of("tau", temperatures(tmp_path / "a", compare={"trend": "rank"}))
    assert all(entry.verdict is None for entry in table.entries.values())
    (asked,) = table.judgement.answers
    assert asked.verdict is not None
    assert asked.verdict.word is Word.BETTER
    # On ranks the middle value has no weight: the fitted rise is the last value's accuracy minus the first's.
    rise = np.mean([right(0.16)[s].mean() - right(0.0)[s].mean() for s in (1, 2, 3)])
    assert asked.verdict.difference.estimate == pytest.approx(rise)
    shown = paper_display(table)
    assert any("temperature: trend from 0.1 to 0.8" in note and "better" in note for note in shown.notes)
    assert shown.rows[-1] == (asked.name, f"{100 * rise:+.2f} better")
    last = list(csv.DictReader(paper_csv(table).splitlines()))[-1]
    assert (last["method"], last["arm"], last["verdict"], last["ours"]) == (asked.name, "trend", "better", "")
    assert float(last["difference"]) == pytest.approx(100 * rise)


def test_a_named_look_is_judged_and_pays_for_it(tmp_path: Path) -> None:
    """After two of four planned seeds: with looks there is a verdict at a stricter level, without there is none."""
    looked = table_of("tau", temperatures(tmp_path / "a", (1, 2), 4, looks=[2, 4]))
    early = table_of("tau", temperatures(tmp_path / "b", (1, 2), 4))
    ends = [
        next(e.verdict for (row, _), e in table.entries.items() if row.name.endswith("0.8"))
        for table in (looked, early)
    ]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0].stage is Stage.LOOK
    assert (ends[1].stage, ends[1].word) == (Stage.INCOMPLETE, Word.UNDECIDED)
    assert ends[0].p > ends[1].p
    assert any("looks after 2, 4 seeds" in note for note in paper_display(looked).notes)


def test_sweeps_that_ask_different_things_have_no_common_verdicts(tmp_path: Path) -> None:
    one = temperatures(tmp_path / "a", compare={"to value": 0.5})
    table = table_of("tau", one, temperatures(tmp_path / "b", (4, 5, 6)))
    assert all(entry.verdict is None for entry in table.entries.values())
    assert any("differ in compare, looks or spending" in remark for remark in table.remarks)
    assert table_of("tau", temperatures(tmp_path / "c", compare="nothing")).judgement.answers == ()


def test_what_two_sweeps_say_differently_of_one_training_is_told(tmp_path: Path) -> None:
    one, two = encoders(tmp_path / "a"), encoders(tmp_path / "b", shift=0.06)
    table = table_of("2", one, two)
    entry = next(e for (row, c), e in table.entries.items() if row.name == "CTR-GCN w/STD-CL" and c.stream == "joint")
    assert {name.split("/")[0] for name in entry.trials} == {"a"}
    told = [remark for remark in table.remarks if remark.startswith("two results of one training: a/")]
    assert len(told) == 6  # the arms with contrast, two streams and three seeds; the baselines are equal
    assert f"{100 * answers(0.9, 51, shift=0.06).mean():.2f} %; the first counts" in told[0]


def test_two_sweeps_of_one_name_are_told_apart(tmp_path: Path) -> None:
    table = table_of("2", encoders(tmp_path / "x" / "a"), encoders(tmp_path / "y" / "a", (4, 5, 6)))
    assert f"2 sweeps are named a: {tmp_path / 'x' / 'a'}, {tmp_path / 'y' / 'a'}" in table.remarks


def test_of_a_cell_with_two_configurations_nothing_is_claimed(tmp_path: Path) -> None:
    looked = {"config": {"data.evaluate_on": "validation"}, "evaluated_on": "validation"}
    table = table_of("2", encoders(tmp_path / "a"), encoders(tmp_path / "b", **looked))
    assert any("they differ in data.evaluate_on" in remark for remark in table.remarks)
    assert not any("NW-UCLA J:" in note for note in paper_display(table).notes)


def test_trials_from_before_scores_were_kept_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = Sweep(tmp_path / "an old one", ("encoder.name",), seeds=[1], file={"table": "2", "seeds": [1]})
    old.add({"encoder.name": "ctrgcn"}, arm="baseline", correct=400)
    old.add({"encoder.name": "ctrgcn"}, correct=410)
    assert main(["report", str(old.save())]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "2 finished trials have no scores per sequence" in said
    assert "`stdcl evaluate '/" in said


def test_lines_without_a_common_seed_are_named(tmp_path: Path) -> None:
    """The baseline in one sweep, the arm in another, and no seed that both have."""
    states = []
    for name, seed, arm in (("one", 1, "baseline"), ("two", 2, "grid")):
        sweep = Sweep(tmp_path / name, (), seeds=[seed], file={"table": "x", "seeds": [seed]})
        sweep.add({}, seed, arm=arm, right=answers(0.9, seed))
        states.append(load_sweep_state(sweep.save()))
    table = paper_table("x", states)
    assert [each.verdict for each in table.judgement.answers] == [None]
    assert any("no seed is finished in all of its lines" in remark for remark in table.remarks)


def test_a_level_without_a_class_is_not_unfinished(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "levels", (), seeds=[1], file={"table": "4d", "seeds": [1]})
    sweep.add({}, 1, arm="baseline", right=answers(0.97, 1))
    table = paper_table("4d", [load_sweep_state(sweep.save())])
    shown = paper_display(table)
    (row,) = [row for row in shown.rows if "CTR-" in row[0] and any(cell.startswith("9") for cell in row[1:])]
    assert [cell.split("\n")[0] for cell in row[1:3]] == ["no such class", "no such class"]
    assert not table.remarks
