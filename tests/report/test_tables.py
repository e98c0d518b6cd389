from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from stdcl.cli.command import main
from stdcl.errors import UserError
from stdcl.report.files import write_report, write_table
from stdcl.report.formats import csv as numbers
from stdcl.report.formats import latex, markdown, text
from stdcl.report.load import load_sweep_state
from stdcl.report.notes import notes, remarks
from stdcl.report.paper import paper_table
from stdcl.report.provenance import cell_name, find_cell
from stdcl.report.table import Cell, SweepTable, sweep_table
from stdcl.report.wording import display
from stdcl.results.importance import Importance, Share, write_importance
from stdcl.results.layout import RunFolder, SweepFolder
from stdcl.results.result import RunResult, write_result
from tests.report.sweeps import Sweep, temperature_sweep

TAU = "contrast.temperature"


def cell(table: SweepTable, arm: str = "stdcl", **parameters: Any) -> Cell:
    wanted = {name.replace("__", "."): value for name, value in parameters.items()}
    (found,) = (each for each in table.cells if each.arm == arm and wanted.items() <= each.parameters.items())
    return found


def shown_text(table: SweepTable) -> str:
    return text.render(display(table))


def as_markdown(table: SweepTable) -> str:
    return markdown.render(display(table))


def csv_rows(table: SweepTable) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(numbers.render(table))))


def test_a_grid_over_the_temperature(tmp_path: Path) -> None:
    sweep = temperature_sweep(tmp_path / "tau", {None: [436, 439, 433], 0.5: [440, 441, 436], 0.8: [441, 444, 440]})
    table = sweep_table(sweep.save())
    assert [(each.arm, dict(each.parameters)) for each in table.cells] == [
        ("baseline", {}),
        ("stdcl", {TAU: 0.5}),
        ("stdcl", {TAU: 0.8}),
    ]
    half = cell(table, contrast__temperature=0.5)
    assert half.last is not None
    assert half.last.mean == pytest.approx((440 + 441 + 436) / 3 / 464)
    assert half.best is not None
    assert half.best.mean == pytest.approx((443 + 444 + 439) / 3 / 464)
    assert half.num_test == 464
    assert half.difference is not None
    assert half.difference.mean == pytest.approx((4 + 2 + 3) / 3 / 464)
    assert (half.difference.better, half.difference.equal, half.difference.worse) == (3, 0, 0)
    said = shown_text(table)
    assert "| 0.5 | 3/3 | 94.61 ± 0.57 [93.20, 96.03] | +0.65 (3/0/0) [+0.11, +1.18] | " in as_markdown(table)
    assert "94.61 ± 0.57" in said
    assert "[93.20, 96.03]" in said
    assert "contrast spatial+temporal" in said
    assert "(464 sequences)" in " ".join(said.split())
    assert "one sequence of 464 = 0.216 points" in said
    assert "best-on-test" in said
    assert "Does the temperature matter?" in said


def test_cells_say_why_they_are_empty(tmp_path: Path) -> None:
    sweep = temperature_sweep(tmp_path / "tau", {None: [436]})
    sweep.add({TAU: 0.5}, 1, status="failed", error="Traceback ...\nValueError: loss is NaN at step 7")
    sweep.add({TAU: 0.5}, 2, epochs_done=4)
    sweep.add({TAU: 0.8}, 1, status="interrupted")
    sweep.add({TAU: 0.8}, 2)
    sweep.add({TAU: 1.0}, 1, correct=430)
    sweep.add({TAU: 1.0}, 2, status="failed", error="lost")
    table = sweep_table(sweep.save())
    said = shown_text(table)
    assert "no finished trial (1 failed, 1 interrupted)" in as_markdown(table)
    assert "no finished trial (1 interrupted, 1 not started)" in as_markdown(table)
    assert "1/2" in said
    assert "ValueError: loss is NaN at step 7" in said
    assert "(interrupted, epochs done: 4)" in " ".join(said.split())
    rows = csv_rows(table)
    assert rows[1]["accuracy_mean"] == ""
    assert rows[1]["note"] == "no finished trial (1 failed, 1 interrupted)"
    assert rows[3]["seeds_finished"] == "1"
    assert rows[3]["difference_n"] == "1"


def test_nothing_is_finished_yet(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "new", (TAU,))
    sweep.add({}, arm="baseline")
    sweep.add({TAU: 0.5})
    table = sweep_table(sweep.save())
    assert as_markdown(table).count("no finished trial (1 not started)") == 2
    written = write_table(table, display(table), tmp_path / "report")
    assert [path.name for path in written] == ["table.txt", "table.md", "table.tex", "table.csv", "trials.csv"]


def test_the_report_of_a_folder(tmp_path: Path) -> None:
    directory = temperature_sweep(tmp_path / "tau", {None: [436], 0.5: [440]}).save()
    shown = write_report(directory)
    assert shown.startswith(shown_text(sweep_table(directory)))
    assert shown.endswith("table.txt, table.md, table.tex, table.csv, trials.csv, accuracy.png")
    assert (directory / "report" / "table.txt").read_text() == shown_text(sweep_table(directory))


def test_every_format_is_written(tmp_path: Path) -> None:
    table = sweep_table(temperature_sweep(tmp_path / "tau", {None: [436], 0.5: [440]}).save())
    written = write_table(table, display(table), tmp_path / "tau" / "report")
    assert [path.name for path in written][-1] == "accuracy.png"
    assert written[-1].read_bytes().startswith(b"\x89PNG")
    assert all(path.stat().st_size > 50 for path in written)
    traced = list(csv.DictReader(io.StringIO(written[4].read_text())))
    assert traced[1]["fingerprint"] == "f-grid,temperature=0.5,seed=1"
    assert traced[1]["code_version"] == "1234567"
    assert float(traced[1]["accuracy"]) == 440 / 464


def test_baselines_go_with_their_own_encoder(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "encoders", ("encoder.name", TAU))
    for encoder, base in (("ctrgcn", 430), ("hyperformer", 440)):
        sweep.add({"encoder.name": encoder}, arm="baseline", correct=base)
        for tau in (0.5, 0.8):
            sweep.add({"encoder.name": encoder, TAU: tau}, correct=base + 5)
    table = sweep_table(sweep.save())
    assert [each.parameters["encoder.name"] for each in table.cells] == ["ctrgcn"] * 3 + ["hyperformer"] * 3
    assert [each.arm for each in table.cells] == ["baseline", "stdcl", "stdcl"] * 2
    for each in table.cells:
        if each.arm == "stdcl":
            assert each.difference is not None
            assert each.difference.mean == pytest.approx(5 / 464)
    papers = {(each.parameters["encoder.name"], each.arm): each.paper for each in table.cells}
    assert {key: paper and paper.accuracy for key, paper in papers.items()} == {
        ("ctrgcn", "baseline"): 94.6,
        ("ctrgcn", "stdcl"): 94.8,
        ("hyperformer", "baseline"): 92.7,
        ("hyperformer", "stdcl"): 95.3,
    }


def test_a_grid_over_streams_and_strategies(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "streams", ("data.stream", "contrast.strategy"))
    for stream in ("joint", "bone"):
        for strategy in ("none", "spatial", "spatial+temporal"):
            sweep.add({"data.stream": stream, "contrast.strategy": strategy}, correct=430)
    table = sweep_table(sweep.save())
    shown = display(table)
    assert shown.columns[:2] == ("stream", "strategy")
    assert [each.arm for each in table.cells] == ["baseline", "stdcl", "stdcl"] * 2
    assert [row[1] for row in shown.rows] == ["none\n(baseline)", "spatial", "spatial+temporal"] * 2
    assert all(each.difference for each in table.cells if each.arm == "stdcl")
    assert write_table(table, display(table), tmp_path / "report")[-1].name == "accuracy.png"
    papers = [each.paper and each.paper.accuracy for each in table.cells]
    assert papers == [94.6, None, 94.8, 91.8, None, 94.6]


@pytest.mark.parametrize(
    "facts", [{"num_test": 200}, {"synthetic": True}, {"dataset": "custom", "protocol": "cross-view"}]
)
def test_no_published_number_stands_beside_other_data(tmp_path: Path, facts: dict[str, Any]) -> None:
    sweep = Sweep(tmp_path / "other", (TAU,))
    sweep.add({TAU: 0.8}, correct=180, **facts)
    table = sweep_table(sweep.save())
    assert table.cells[0].paper is None
    assert "paper" not in display(table).columns


def test_the_whole_configuration_decides_on_the_published_number(tmp_path: Path) -> None:
    for reduction, strategy, expected in ((8, "spatial+temporal", 94.8), (16, "spatial+temporal", None)):
        sweep = Sweep(tmp_path / f"r{reduction}", (TAU,))
        config = {"recipe": "lite", "contrast.strategy": strategy, "contrast.channel_reduction": reduction}
        sweep.add({TAU: 0.8}, correct=440, config=config)
        table = sweep_table(sweep.save())
        paper = table.cells[0].paper
        assert (paper and paper.accuracy) == expected
        assert ("94.8* [a]" in as_markdown(table)) == (expected is not None)
        assert ("training.epochs 10 (65)" in " ".join(shown_text(table).split())) == (expected is not None)
        assert (csv_rows(table)[0]["paper_differences"].count("training.epochs 10 (65)")) == (expected is not None)


def test_each_way_to_differ_from_the_paper_has_its_own_mark(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "encoders", ("encoder.name",))
    for encoder in ("ctrgcn", "agcn", "hyperformer"):
        config = {"recipe": "lite"} if encoder != "agcn" else {}
        sweep.add({"encoder.name": encoder}, arm="baseline", correct=430, config=config)
        sweep.add({"encoder.name": encoder}, correct=430, config=config)
    shown = display(sweep_table(sweep.save()))
    assert [row[-1].split("\n")[1:] for row in shown.rows] == [["[a]"], ["[a]"], [], [], ["[b]"], ["[b]"]]
    assert sum(note.startswith(("[a] not the paper's", "[b] not the paper's")) for note in shown.notes) == 2


def test_no_configuration_no_published_number(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "lost", (TAU,))
    sweep.add({TAU: 0.8}, correct=440, config=None)
    assert sweep_table(sweep.save()).cells[0].paper is None


def test_the_sweep_file_speaks_for_trials_that_have_not_started(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "planned", (TAU,))
    sweep.add({TAU: 0.8}, 1, correct=440)
    sweep.add({TAU: 0.5}, 1)
    directory = sweep.save()
    assert sweep_table(directory).cells[1].paper is None
    base = {"recipe": "full", "data": {"dataset": "nw-ucla", "path": "x"}, "encoder": {"name": "ctrgcn"}}
    content = {"name": "planned", "question": "?", "base": base, "grid": {TAU: [0.8, 0.5]}}
    (directory / "sweep.yaml").write_text(yaml.safe_dump(content))
    paper = sweep_table(directory).cells[1].paper
    assert paper is not None
    assert (paper.accuracy, paper.differences) == (94.8, {})


def test_a_trial_without_a_row_speaks_through_its_own_file(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "killed", (TAU,))
    sweep.add({TAU: 0.8}, correct=440, store=False)
    broken = sweep.add({TAU: 0.5}, epochs_done=1)
    (sweep.directory / "trials" / broken / "result.json").write_text('{"row": {}}')
    table = sweep_table(sweep.save())
    found = cell(table, contrast__temperature=0.8).last
    assert found is not None
    assert found.mean == 440 / 464
    assert any("not the result of a run" in remark for remark in remarks(table))


def test_results_that_do_not_belong_are_left_out_and_named(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "old", (TAU,))
    sweep.add({TAU: 0.5}, correct=400, plan=False)
    stale = sweep.add({TAU: 0.8}, correct=400, fingerprint="of an older base")
    sweep.add({TAU: 1.0}, correct=440)
    table = sweep_table(sweep.save())
    assert [each.parameters[TAU] for each in table.cells] == [0.8, 1.0]
    assert table.cells[0].last is None
    warned = "\n".join(remarks(table))
    assert "no longer in the plan: grid,temperature=0.5,seed=1" in warned
    assert f"another configuration than the plan's: {stale}" in warned


def test_inconsistent_trials_are_pointed_out(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "mixed", (TAU,))
    sweep.add({TAU: 0.5}, 1, correct=400)
    sweep.add({TAU: 0.5}, 2, correct=400, code_version="7654321", data_hash="beef")
    warned = "\n".join(remarks(sweep_table(sweep.save())))
    assert "different code versions: 1234567, 7654321" in warned
    assert "different data: beef, feed" in warned


def test_versions_that_train_by_the_same_code_are_a_note_and_no_fault(tmp_path: Path) -> None:
    """A run that was taken over was trained by another release, of which training is the same."""
    sweep = Sweep(tmp_path / "taken", (TAU,), file={"seeds": [1, 2], "baseline": False, "table": "temperature"})
    for seed, version in ((1, "1234567"), (2, "7654321")):
        key = sweep.add({TAU: 0.5}, seed, correct=400, code_version=version)
        result = RunResult({"epoch": 10, "accuracy": 400 / 464, "num_test": 464}, seed=seed, execution="same")
        write_result(RunFolder(sweep.directory / "trials" / key).result, result)
    directory = sweep.save()
    table = sweep_table(directory)
    said = "trials of code versions 1234567 (1) and 7654321 (1) (in brackets: trials): the code that trains is the same"
    assert said in "\n".join(notes(table))
    assert "code versions" not in "\n".join(remarks(table))
    paper = paper_table("temperature", [load_sweep_state(directory)])
    assert said in "\n".join(paper.machines)
    assert "code versions" not in "\n".join(paper.remarks)
    write_result(RunFolder(directory / "trials" / key).result, replace(result, execution="other"))
    assert "different code versions: 1234567, 7654321" in "\n".join(remarks(sweep_table(directory)))
    assert "code versions" not in "\n".join(notes(sweep_table(directory)))


def test_damaged_files_do_not_hide_the_rest(tmp_path: Path) -> None:
    sweep = temperature_sweep(tmp_path / "damaged", {0.5: [440], 0.8: [441]})
    first = sorted((sweep.directory / "results").iterdir())[0]
    first.write_bytes(first.read_bytes()[:100])
    key = sweep.planned[0]["key"]
    (sweep.directory / "trials" / key / "history.jsonl").write_text("broken\n{}\n")
    table = sweep_table(sweep.save())
    assert cell(table, contrast__temperature=0.5).last is None
    assert cell(table, contrast__temperature=0.8).last is not None
    assert first.name in shown_text(table).replace("\n    ", "")
    assert any("history.jsonl, line 1" in remark for remark in remarks(table))


def test_a_search(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "search", (TAU, "contrast.embedding_dim"), search="optuna")
    for index in range(14):
        pruned = index % 3 == 0
        facts = {"evaluated_on": "validation", "num_test": 200, "status": "pruned" if pruned else "finished"}
        sweep.add({TAU: 0.1 * (index + 1), "contrast.embedding_dim": 64}, correct=100 + index, **facts)
    sweep.add({TAU: 9.0, "contrast.embedding_dim": 64}, status="failed", error="no")
    table = sweep_table(sweep.save())
    shown = display(table)
    assert shown.columns[:3] == ("rank", "temperature", "embedding_dim")
    assert len(shown.rows) == 9
    assert [row[0] for row in shown.rows] == [str(rank) for rank in range(1, 10)]
    assert shown.rows[0][1] == "1.4"
    assert shown.rows[0][3] == "56.50"
    assert "trials: 9 finished, 5 pruned, 1 failed" in shown_text(table)
    assert "best-on-test" not in shown_text(table)
    assert len(csv_rows(table)) == 9
    assert write_table(table, display(table), tmp_path / "report")[-1].name == "accuracy.png"


def test_a_search_that_has_just_begun(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "search", (TAU,), search="optuna")
    table = sweep_table(sweep.save())
    assert "no finished trial" in shown_text(table)
    assert len(write_table(table, display(table), tmp_path / "report")) == 5


def test_markdown_and_latex_escape_what_is_special(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "a_b", (TAU,), question="Is 100 % & more | $x_1$ good?")
    sweep.add({TAU: 0.5}, correct=440)
    table = sweep_table(sweep.save())
    assert r"\caption{a\_b: Is 100 \% \& more $|$ \$x\_1\$ good?" in " ".join(latex.render(display(table)).split())
    lines = [line for line in markdown.render(display(table)).splitlines() if line.startswith("|")]
    assert len({line.count(" | ") for line in lines}) == 1
    assert "94.8*" in markdown.render(display(table))


def test_folders_that_are_no_sweep_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        sweep_table(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no plan\.json"):
        sweep_table(tmp_path)
    for content in ("{", "[]", json.dumps({"trials": [{"key": "a"}]})):
        (tmp_path / "plan.json").write_text(content)
        with pytest.raises(UserError, match="not the plan of a sweep"):
            sweep_table(tmp_path)


def test_configurations_with_lists_and_no_parameters(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "only", ())
    sweep.add({}, 1, arm="baseline", correct=430, config={"training": {"milestones": [1, 2]}})
    table = sweep_table(sweep.save())
    assert "none (baseline)" in shown_text(table)
    assert write_table(table, display(table), tmp_path / "report")[-1].name == "accuracy.png"
    sweep = Sweep(tmp_path / "lists", ("training.milestones",))
    for milestones in ([3, 5], [4]):
        sweep.add({"training.milestones": milestones}, correct=430)
    table = sweep_table(sweep.save())
    assert "[3, 5]" in shown_text(table)
    assert write_table(table, display(table), tmp_path / "report2")[-1].name == "accuracy.png"


def test_reports_need_no_torch_and_no_ray(tmp_path: Path) -> None:
    directory = temperature_sweep(tmp_path / "tau", {0.5: [440]}).save()
    code = f"""
import sys
from pathlib import Path
from stdcl.report.files import write_table
from stdcl.report.formats import text
from stdcl.report.table import sweep_table
from stdcl.report.wording import display
table = sweep_table(Path({str(directory)!r}))
text.render(display(table))
assert "matplotlib" not in sys.modules
write_table(table, display(table), Path({str(tmp_path / "report")!r}))
assert not {{"torch", "ray", "wandb", "optuna"}} & set(sys.modules), "a heavy import"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sweep_yaml_without_a_plan_of_trials_is_a_search(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "s", (TAU,), search="optuna")
    sweep.add({TAU: 0.5}, correct=200, num_test=230, evaluated_on="validation")
    sweep.save()
    (sweep.directory / "sweep.yaml").write_text(yaml.safe_dump({"name": "s"}))
    assert sweep_table(sweep.directory).search == "optuna"


def test_trials_of_different_machines_are_pointed_out(tmp_path: Path) -> None:
    def table(**facts: list[Any]) -> str:
        sweep = Sweep(tmp_path / "-".join(facts) / "s", (TAU,))
        for number in range(3):
            row = {"epoch": 9, "accuracy": 440 / 464, "num_test": 464}
            key = sweep.add({TAU: 0.5}, number + 1, correct=440)
            result = RunResult(row, **{"exchange": "candidates", **{name: v[number] for name, v in facts.items()}})
            write_result(RunFolder(sweep.directory / "trials" / key).result, result)
        return " ".join(shown_text(sweep_table(sweep.save())).split())

    assert "trials differ in" not in table(workers=[2, 2, 2], threads=[1, 1, 1], processor=["A", "A", "A"])
    assert "trials differ in workers 1 (1) and 2 (2) (in" in table(workers=[2, 1, 2])
    assert "exchange allgather (1) and candidates (2); processor A (1) and B (2)" in table(
        exchange=["candidates", "allgather", "candidates"], processor=["B", "A", "B"]
    )
    assert "trials differ in threads 1 (2) and 4 (1)" in table(threads=[4, 1, 1])
    assert "trials differ in" not in table(exchange=["", "candidates", ""])  # the baseline has no bank
    assert "precision bfloat16 (1) and float32 (2); tf32 convolutions (2) and none (1); driver 570.86 (1) and" in table(
        precision=["float32", "bfloat16", "float32"],
        tf32=["convolutions", "convolutions", "none"],
        driver=["570.86", "580.65", "580.65"],
    )


def test_rows_know_the_machine_where_the_folder_is_gone(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "s", (TAU,))
    for number, processor in enumerate(("A", "B", "B"), 1):
        key = sweep.add({TAU: 0.5}, number, correct=440, more={"processor": processor, "precision": "float32"})
        shutil.rmtree(sweep.directory / "trials" / key)
    said = " ".join(shown_text(sweep_table(sweep.save())).split())
    assert "trials differ in processor A (1) and B (2) (in brackets: trials)" in said


def test_a_searchs_importance_and_numbers_are_data(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "search", (TAU,), search="optuna")
    sweep.add({TAU: 0.5}, correct=100, num_test=200, evaluated_on="validation", name="trial=7,temperature=0.5,abc")
    directory = sweep.save()
    shares = {TAU: Share(0.75, 0.5, 1.0)}
    write_importance(SweepFolder(directory).importance, Importance("PED-ANOVA", 12, 3, shares))
    table = sweep_table(directory)
    said = " ".join(shown_text(table).split())
    assert "PED-ANOVA, 12 complete trials; 3 trials that were stopped early are left out" in said
    assert "temperature 75 % [50, 100]" in said
    assert display(table).columns[:2] == ("rank", "trial")
    assert display(table).rows[0][1] == "7"
    SweepFolder(directory).importance.write_text("{")
    assert any("not the importances" in remark for remark in remarks(sweep_table(directory)))


# ---- stated arms -----------------------------------------------------------------------------------------------------

STATED = {"plain": {"method.name": "none"}, "ours": {TAU: 0.5}, "rival": {"method.name": "frhead"}}


def stated(folder: Path, reference: str = "plain") -> Path:
    """A sweep that states its arms, over two streams; ``ours`` leads."""
    made = Sweep(folder, ("data.stream",))
    made.plan_facts = {"arms": STATED, "reference": reference}
    for stream in ("joint", "bone"):
        for arm, correct in (("plain", 400), ("ours", 410), ("rival", 404)):
            strategy = {"plain": "none", "ours": "spatial+temporal", "rival": "frhead"}[arm]
            for seed in (1, 2):
                facts = {"strategy": strategy, "config": None}
                made.add({"data.stream": stream}, seed, arm=arm, correct=correct + seed, **facts)
    return made.save()


def test_stated_arms_are_a_column_and_are_compared_within_a_stream(tmp_path: Path) -> None:
    table = sweep_table(stated(tmp_path / "arms"))
    assert [each.arm for each in table.cells] == ["plain", "ours", "rival"] * 2
    assert [each.reference for each in table.cells] == [True, False, False] * 2
    differences = [None if each.difference is None else round(464 * each.difference.mean) for each in table.cells]
    assert differences == [None, 10, 4] * 2
    shown = display(table)
    assert shown.columns[:2] == ("arm", "stream")
    assert [row[:2] for row in shown.rows[:3]] == [("plain", "joint"), ("ours", "joint"), ("rival", "joint")]
    assert any(column.startswith("vs plain") for column in shown.columns)


def test_the_reference_can_be_any_arm(tmp_path: Path) -> None:
    table = sweep_table(stated(tmp_path / "arms", reference="ours"))
    assert [each.arm for each in table.cells][:3] == ["ours", "plain", "rival"]
    assert any(column.startswith("vs ours") for column in display(table).columns)
    assert [cell_name(each, table.parameters) for each in table.cells][:2] == [
        "ours,stream=joint",
        "plain,stream=joint",
    ]
    assert find_cell(table, "rival,stream=bone").arm == "rival"


@pytest.mark.parametrize("accuracy", [float("nan"), float("inf"), -0.25, 1.5])
def test_a_result_without_an_accuracy_is_not_counted(
    tmp_path: Path, accuracy: float, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep(tmp_path / "tau", ("contrast.temperature",))
    for seed in (1, 2):
        sweep.add({"contrast.temperature": 0.5}, seed, correct=400)
    sweep.add({"contrast.temperature": 0.5}, 3, correct=400, name="odd")
    directory = sweep.save()
    (path,) = (directory / "results").glob("*odd*")
    rows = pq.read_table(path)
    column = rows.schema.get_field_index("accuracy")
    pq.write_table(rows.set_column(column, rows.schema.field(column), pa.array([accuracy])), path)
    (cell,) = sweep_table(directory).cells
    assert [trial.state for trial in cell.trials] == ["finished", "finished", "failed"]
    assert cell.last is not None
    assert cell.last.mean == pytest.approx(400 / 464)
    for command in ("table", "report"):
        assert main([command, str(directory)]) == 1
        assert "failed: odd: it finished, but its result has no accuracy" in " ".join(capsys.readouterr().out.split())
