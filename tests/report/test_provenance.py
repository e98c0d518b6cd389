"""Where a cell comes from: everything is named, changes mark the cells that depend on them and no others."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from stdcl.cli.command import main
from stdcl.config.yaml_text import dump_yaml
from stdcl.errors import UserError
from stdcl.report.bundle import write_bundle
from stdcl.report.files import write_report
from stdcl.report.portable import folders_named, portable_added, portable_plan, portable_sweep, without_folders
from stdcl.report.provenance import cell_name, find_cell, provenance, stale
from stdcl.report.table import sweep_table
from stdcl.results.ask import write_ask
from stdcl.results.importance import Importance, Share, read_importance, write_importance
from stdcl.results.layout import RunFolder, SweepFolder
from stdcl.results.plan import PlannedTrial, add_to_plan, read_plan
from stdcl.results.result import RunResult, read_result, write_result
from stdcl.results.status import sweep_status
from stdcl.results.store import TrialRow, append, read_attempts
from tests.report.sweeps import Sweep, answers

TAU = "contrast.temperature"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    sweep = Sweep(tmp_path / "tau", (TAU,), seeds=[1, 2], file={"seeds": [1, 2]})
    for seed in (1, 2):
        facts = {"command": "stdcl sweep tau.yaml", "wandb_id": f"run{seed}"}
        sweep.add({}, seed, arm="baseline", right=answers(0.9, seed), **facts)
        for value in (0.5, 0.8):
            sweep.add({TAU: value}, seed, right=answers(0.9, seed, shift=value / 100), **facts)
    return sweep.save()


def test_a_cell_is_found_by_row_name_and_part(directory: Path) -> None:
    table = sweep_table(directory)
    names = [cell_name(cell, table.parameters) for cell in table.cells]
    assert names == ["baseline", "temperature=0.5", "temperature=0.8"]
    for number, name in enumerate(names, 1):
        assert find_cell(table, name) is find_cell(table, str(number)) is table.cells[number - 1]
    with pytest.raises(UserError, match=r"no cell of tau is named 'temprature=0.5' .*temperature=0.5.*1 baseline"):
        find_cell(table, "temprature=0.5")


def test_parts_of_a_name_in_any_order_must_mean_one_cell(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "two", ("encoder.name", TAU))
    for encoder in ("ctrgcn", "hcn"):
        for value in (0.5, 0.8):
            sweep.add({"encoder.name": encoder, TAU: value}, correct=400)
    table = sweep_table(sweep.save())
    assert find_cell(table, "temperature=0.8,encoder=hcn").parameters == {"encoder.name": "hcn", TAU: 0.8}
    with pytest.raises(UserError, match="2 cells of two are named 'encoder=hcn'"):
        find_cell(table, "encoder=hcn")


def test_everything_that_a_number_depends_on_is_named(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", str(directory), "temperature=0.5", "--check"]) == 0
    said = capsys.readouterr().out
    scores = directory / "trials" / "grid,temperature=0.5,seed=2" / "scores.parquet"
    for part in (
        "row 2: temperature=0.5",
        "over 2 of 2 seeds",
        "f-grid,temperature=0.5,seed=2",
        "unlike baseline",
        f"{TAU} 0.5 (–)",
        "unlike the published recipe  nothing",
        "attempt 0",
        "code 1234567",
        "feed",
        "precision",
        hashlib.sha256(scores.read_bytes()).hexdigest(),
        "run2",
        "stdcl sweep tau.yaml",
        "computed again from 2 files of scores",
    ):
        assert part in said
    # Options of a method that the baseline does not have are no difference of the configuration.
    assert "hard_positives" not in said
    assert "temperature=0.8" not in said


def test_a_changed_input_marks_its_cells_and_no_others(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = SweepFolder(directory).report
    assert stale(sweep_table(directory), report) == {}  # nothing to hold them against
    assert main(["report", str(directory)]) == 0
    assert stale(sweep_table(directory), report) == {}
    trials = directory / "trials"
    (trials / "grid,temperature=0.5,seed=1" / "config.yaml").write_text("changed: true\n")
    (trials / "grid,temperature=0.8,seed=2" / "scores.parquet").unlink()
    (trials / "grid,temperature=0.8,seed=2" / "history.jsonl").write_text("")
    assert stale(sweep_table(directory), report) == {
        "temperature=0.5": ["grid,temperature=0.5,seed=1/config.yaml has changed"],
        "temperature=0.8": [
            "grid,temperature=0.8,seed=2/history.jsonl is new",
            "grid,temperature=0.8,seed=2/scores.parquet is missing",
        ],
    }
    capsys.readouterr()
    assert main(["why", str(directory), "baseline"]) == 0
    assert main(["why", str(directory), "0.5"]) == 2
    assert main(["why", str(directory)]) == 1
    assert capsys.readouterr().out.count("STALE") == 3


def test_a_changed_reference_marks_what_is_compared_with_it(directory: Path) -> None:
    assert main(["report", str(directory)]) == 0
    reference = next(cell for cell in sweep_table(directory).cells if cell.reference).trials[0].key
    (directory / "trials" / reference / "scores.parquet").unlink()
    said = [f"{reference}/scores.parquet is missing"]
    found = stale(sweep_table(directory), SweepFolder(directory).report)
    assert found == {"baseline": said, "temperature=0.5": said, "temperature=0.8": said}
    assert main(["report", str(directory)]) == 1, "a part of the scores is missing"


def test_scores_of_another_accuracy_do_not_agree(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = directory / "trials"
    other = (trials / "baseline,seed=2" / "scores.parquet").read_bytes()
    (trials / "grid,temperature=0.5,seed=1" / "scores.parquet").write_bytes(other)
    assert main(["why", str(directory), "temperature=0.5", "--check"]) == 1
    assert "DOES NOT AGREE: grid,temperature=0.5,seed=1" in capsys.readouterr().out
    assert main(["why", str(directory), "temperature=0.8", "--check"]) == 0


def test_where_a_result_was_taken_from_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "tau", (TAU,))
    shown = {}
    for seed, origin, place in ((1, tmp_path / "first/trials/a", "first/trials/a"), (2, "/elsewhere/home/one", "one")):
        key = sweep.add({}, seed, correct=400)
        row = {"epoch": 10, "accuracy": 400 / 464, "num_test": 464}
        write_result(RunFolder(tmp_path / "tau" / "trials" / key).result, RunResult(row, taken_from=str(origin)))
        shown[key] = place
    found = provenance(sweep_table(sweep.save()), tmp_path / "tau")
    assert {key: each.environment["taken_from"] for key, each in found.items()} == shown


def test_every_attempt_has_its_code_version(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "a", (TAU,))
    key = sweep.add({TAU: 0.5}, correct=400)
    directory = sweep.save()
    row = TrialRow(
        sweep="a", key=key, attempt=1, status="finished", arm="grid", seed=1, parameters={TAU: 0.5}, dataset="nw-ucla",
        protocol="cross-view", evaluated_on="test", stream="joint", encoder="ctrgcn", strategy="spatial+temporal",
        fingerprint=f"f-{key}", code_version="7654321", accuracy=0.9, num_test=464,
    )  # fmt: skip
    append(directory / "results", row)
    found = provenance(sweep_table(directory), directory)[key].attempts
    assert [(each.number, each.code_version) for each in found] == [(0, "1234567"), (1, "7654321")]


def test_a_bundle_holds_what_a_reviewer_needs_and_is_the_same_every_time(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "one.tar.gz", tmp_path / "two.tar.gz"]
    (directory / "trials" / "baseline,seed=1" / "checkpoints").mkdir()
    (directory / "trials" / "baseline,seed=1" / "checkpoints" / "last.pt").write_bytes(b"large")
    config = directory / "trials" / "baseline,seed=1" / "config.yaml"
    whole = yaml.safe_load(config.read_text(encoding="utf-8"))
    config.write_text(
        dump_yaml(whole | {"data": whole["data"] | {"path": "/home/ada/stores/nw-ucla"}}), encoding="utf-8"
    )
    for path in paths:
        assert main(["report", str(directory), "--html", "--bundle", str(path)]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with tarfile.open(paths[0]) as archive:
        names = archive.getnames()
        found = {name: file.read() for name in names if (file := archive.extractfile(name)) is not None}
    for name in (
        "tau/plan.json",
        "tau/sweep.yaml",
        "tau/trials/baseline,seed=1/config.yaml",
        "tau/trials/baseline,seed=1/scores.parquet",
        "tau/report/report.html",
        "tau/report/table_tau.csv",
    ):
        assert name in names
    assert not [name for name in names if "checkpoints" in name]
    packed = yaml.safe_load(found["tau/trials/baseline,seed=1/config.yaml"])
    assert packed == whole | {"data": whole["data"] | {"path": "nw-ucla"}}, "no folder of this machine"
    assert b"stdcl sweep tau.yaml" in found["tau/commands.sh"]
    sums = {
        f"tau/{name}": digest
        for digest, name in (line.split("  ", 1) for line in found.pop("tau/SHA256SUMS").decode().splitlines())
    }
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}


def test_a_table_from_before_a_result_is_made_anew(directory: Path, tmp_path: Path) -> None:
    def packed(name: str) -> str:
        write_bundle([directory], tmp_path / "all.tar.gz")
        with tarfile.open(tmp_path / "all.tar.gz") as archive:
            member = archive.extractfile(f"tau/report/{name}")
            assert member is not None
            return member.read().decode()

    report = SweepFolder(directory).report
    last = max(file.stat().st_mtime_ns for file in directory.glob("results/*.parquet"))
    first = {name: packed(name) for name in ("table.txt", "table.csv", "trials.csv")}
    assert not (report / "table.txt").exists(), "packing writes nothing into the sweep"
    write_report(directory)
    assert {name: (report / name).read_text() for name in first} == first

    for name in first:
        (report / name).write_text("of an interruption")
        os.utime(report / name, ns=(last, last))
    assert packed("table.txt") == "of an interruption", "as new as the results: what stdcl table was asked for"
    for name in first:
        os.utime(report / name, ns=(last - 1, last - 1))
    assert {name: packed(name) for name in first} == first
    main(["report", str(directory), "--out", str(tmp_path / "there")])
    assert (report / "table.txt").read_text() == "of an interruption", "what is written goes elsewhere"
    main(["report", str(directory)])
    assert {name: (report / name).read_text() for name in first} == first


def test_a_bundle_has_one_folder_for_each_sweep_with_its_sums(directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "tau"
    shutil.copytree(directory, other)
    with pytest.raises(UserError, match="another sweep named 'tau'"):
        write_bundle([directory, other], tmp_path / "all.tar.gz")
    assert not (tmp_path / "all.tar.gz").exists()
    plan = json.loads(SweepFolder(other).plan.read_text(encoding="utf-8"))
    SweepFolder(other).plan.write_text(json.dumps(plan | {"sweep": "second"}), encoding="utf-8")
    names = write_bundle([directory, other], tmp_path / "all.tar.gz")
    assert {name for name in names if name.endswith("SHA256SUMS")} == {"tau/SHA256SUMS", "second/SHA256SUMS"}


def test_a_bundle_holds_all_that_a_search_goes_on_with(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "found", (TAU,), search="optuna")
    for number, value in enumerate((0.5, 0.8)):
        sweep.add({TAU: value}, correct=400, name=f"trial={number}", evaluated_on="validation")
    folder = SweepFolder(sweep.save())
    for trial in sweep.planned:
        add_to_plan(folder.plan, PlannedTrial(**trial))
    add_to_plan(folder.plan, PlannedTrial("trial=2", "grid", {TAU: 0.9, "data.path": "/home/ada/far"}, 1))
    write_ask(folder.run("trial=2").ask, "paused")
    write_importance(folder.importance, Importance("fANOVA", 8, 0, {TAU: Share(1.0, 0.9, 1.0)}))
    (folder.root / "found_confirm.yaml").write_text("name: found_confirm\nbase: {data: {path: /home/ada/far}}\n")
    write_bundle([folder.root], tmp_path / "all.tar.gz")
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        archive.extractall(tmp_path / "there", filter="data")
    there = SweepFolder(tmp_path / "there" / "found")
    before, after = (sweep_status(each).trials for each in (folder, there))
    assert {key: trial.state for key, trial in after.items()} == {key: trial.state for key, trial in before.items()}
    assert [trial.state for trial in after.values()] == ["finished", "finished", "paused"]
    plan = read_plan(there.plan)
    assert plan is not None
    assert plan.trials[2].parameters == {TAU: 0.9, "data.path": "far"}
    assert read_importance(there.importance) == read_importance(folder.importance)
    assert yaml.safe_load((there.root / "found_confirm.yaml").read_text()) == {
        "name": "found_confirm",
        "base": {"data": {"path": "far"}},
    }


def test_whole_paths_of_a_plan_become_names(tmp_path: Path) -> None:
    plan = {"arms": {"far": {"data.path": "/home/ada/far", "init_from.run": f"{tmp_path}/old/a"}}, "trials": []}
    placed = {"arms": {"far": {"data.path": "far", "init_from.run": "old/a"}}, "trials": []}
    assert json.loads(portable_plan(json.dumps(plan).encode(), tmp_path)) == placed
    line, cut = json.dumps(plan).encode() + b"\n", b'{"arms": {"n'
    *whole, last = portable_added(line + line + cut, tmp_path).split(b"\n")
    assert [json.loads(each) for each in whole] == [placed, placed]
    assert last == cut, "a line that is being written"
    for content in (b"\xd9", b"{", b'{"arms": {}}'):
        assert portable_plan(content, tmp_path) == content
        assert portable_added(content + b"\n", tmp_path) == content + b"\n"


def test_a_bundle_names_other_runs_by_their_places(directory: Path, tmp_path: Path) -> None:
    key, storage = "baseline,seed=1", directory.parent.absolute()
    result = RunResult({"epoch": 10, "accuracy": 400 / 464, "num_test": 464}, seed=1)
    other, far = f"{storage}/first/trials/a", "/home/ada/old/one"
    write_result(RunFolder(directory / "trials" / key).result, replace(result, taken_from=other, init_from=far))
    (part,) = [path for path in (directory / "results").glob("*.parquet") if "baseline_seed=1" in path.name]
    (row,) = read_attempts(part.parent).query("key == @key").to_dict("records")
    part.unlink()
    facts = {
        name: row[name] for name in TrialRow.__dataclass_fields__ if row[name] is not None and row[name] == row[name]
    }
    facts |= {"parameters": json.loads(row["parameters"]), "more": json.loads(row["more"]) | {"taken_from": other}}
    append(part.parent, TrialRow(**facts))
    write_bundle([directory], tmp_path / "all.tar.gz")
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        archive.extractall(tmp_path / "there", filter="data")
    there = tmp_path / "there" / "tau"
    assert not [path for path in there.rglob("*") if path.is_file() and str(storage).encode() in path.read_bytes()]
    packed = read_result(RunFolder(there / "trials" / key).result)
    assert packed == replace(result, taken_from="first/trials/a", init_from="one")
    before, after = read_attempts(part.parent), read_attempts(there / "results")
    assert before.drop(columns="more").equals(after.drop(columns="more"))
    assert '"taken_from": "first/trials/a"' in after.query("key == @key")["more"].item()
    assert after.query("key != @key")["more"].tolist() == before.query("key != @key")["more"].tolist()


def test_a_bundle_names_no_folder_that_a_command_or_the_sweeps_file_names(tmp_path: Path) -> None:
    """A whole path is what completion in a shell types, and what a relative one in a sweep's file is settled to."""
    store, text = "/home/ada/my stores/nw-ucla", "/home/ada/<texts>.npz"
    base = {
        "data": {"dataset": "nw-ucla", "path": store},
        "encoder": {"name": "ctrgcn"},
        "init_from": {"run": f"{tmp_path}/old/a"},
    }
    file = {"base": base, "seeds": [1, 2]}
    sweep = Sweep(tmp_path / "tau", (TAU,), seeds=[1, 2], file=file)
    commands = (
        f"stdcl sweep /home/ada/tau.yaml --set 'base.data.path={store}' --set 'paths={{ntu60: /home/ada/ntu60}}'",
        f"stdcl sweep {tmp_path}/found/tau.yaml --set 'base.method.texts={text}'",
    )
    for seed, command in enumerate(commands, 1):
        sweep.add({}, seed, arm="baseline", right=answers(0.9, seed), command=command)
        sweep.add({TAU: 0.5}, seed, right=answers(0.9, seed, shift=0.1), command=command)
    directory = sweep.save()
    assert main(["report", str(directory), "--html", "--bundle", str(tmp_path / "all.tar.gz")]) == 0
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        archive.extractall(tmp_path / "there", filter="data")
    there = tmp_path / "there" / "tau"
    for path in (each for each in there.rglob("*") if each.is_file()):
        assert b"/home/ada" not in path.read_bytes(), path
        assert str(tmp_path).encode() not in path.read_bytes(), path
    saved = yaml.safe_load((there / "sweep.yaml").read_text(encoding="utf-8"))
    assert saved["base"]["data"]["path"] == "nw-ucla"
    assert saved["base"]["init_from"]["run"] == "old/a"
    typed = set(read_attempts(there / "results")["command"])
    assert typed == {
        "stdcl sweep tau.yaml --set 'base.data.path=nw-ucla' --set 'paths={ntu60: ntu60}'",
        "stdcl sweep found/tau.yaml --set 'base.method.texts=<texts>.npz'",
    }
    assert set((there / "commands.sh").read_text().splitlines()) >= typed


def test_a_short_path_is_not_taken_for_a_part_of_other_words() -> None:
    page = b"<p>stdcl sweep /p --set a=/p &#x27;/p&#x27;</p> docs/p https://h/p /pq /p-1"
    assert (
        without_folders(page, {"/p": "p"})
        == b"<p>stdcl sweep p --set a=p &#x27;p&#x27;</p> docs/p https://h/p /pq /p-1"
    )


def test_whole_paths_of_a_sweeps_file_become_names(tmp_path: Path) -> None:
    """Wherever they stand: in the base, an arm, a cell, the paths of datasets, earlier sweeps."""
    written = {
        "question": "Is /home/ada better?",
        "base": {"method": {"texts": "/home/ada/texts.npz"}, "data": {"path": "nw-ucla"}},
        "arms": {"far": {"data.path": "/home/ada/far", "init_from.run": f"{tmp_path}/old/a"}},
        "paths": {"ntu60": "/home/ada/ntu60"},
        "warm_start": ["first", f"{tmp_path}/second", "/home/ada/third"],
    }
    assert yaml.safe_load(portable_sweep(dump_yaml(written).encode(), tmp_path)) == written | {
        "base": {"method": {"texts": "texts.npz"}, "data": {"path": "nw-ucla"}},
        "arms": {"far": {"data.path": "far", "init_from.run": "old/a"}},
        "paths": {"ntu60": "ntu60"},
        "warm_start": ["first", "second", "third"],
    }
    for damaged in (b"\xd9", b"a: {: ["):
        assert portable_sweep(damaged, tmp_path) == damaged


@pytest.mark.parametrize(
    "word",
    ["tracking.url=https://wandb.example/a", "../tau.yaml", "~/tau.yaml", "$HOME/tau.yaml", "a/b", "/", "x='unclosed"],
)
def test_what_is_no_whole_path_of_a_command_stays(word: str) -> None:
    assert folders_named(f"stdcl sweep {word}", Path("/storage")) == {}


@pytest.mark.parametrize("content", [b"", b"\xd9", b"data: {: ["])
def test_a_bundle_holds_a_damaged_configuration_as_it_lies(directory: Path, tmp_path: Path, content: bytes) -> None:
    (directory / "trials" / "baseline,seed=1" / "config.yaml").write_bytes(content)
    write_bundle([directory], tmp_path / "all.tar.gz")
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        packed = archive.extractfile("tau/trials/baseline,seed=1/config.yaml")
        assert packed is not None
        assert packed.read() == content


def test_a_folder_where_a_file_must_go_is_said_without_a_traceback(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = SweepFolder(directory).report / "inputs.json"
    inputs.mkdir(parents=True)
    (inputs / "kept").touch()
    assert main(["report", str(directory)]) != 0
    assert f"error: {inputs}: is a directory" in capsys.readouterr().err
    assert [path.name for path in inputs.iterdir()] == ["kept"]
