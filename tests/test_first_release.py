"""Runs and sweeps of release 0.1.0 are resumed, tabled and evaluated; its configurations keep their fingerprints.

The folders under ``tests/fixtures/first_release`` were written by that release; ``make.py`` there says how.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from stdcl.config import RunConfig, fingerprint, read_run_file
from stdcl.config.sweep import load_sweep
from stdcl.data.store import read_manifest
from stdcl.data.synthetic import ensure_data
from stdcl.launch.worker_group import launch
from stdcl.parallel.comm import Comm, LocalComm
from stdcl.report.load import load_sweep_state
from stdcl.report.table import sweep_table
from stdcl.results.history import read_history
from stdcl.results.layout import RunFolder
from stdcl.results.row import from_file
from stdcl.results.scores import read_run
from stdcl.runs.evaluate import evaluate_run
from stdcl.training.components import build_components
from tests.distributed.ranks import run_on_ranks
from tests.fixtures.first_release import make, narrow

HERE = Path(make.__file__).parent
EXPECTED: dict[str, Any] = json.loads((HERE / "expected.json").read_text())
ROOT = Path(__file__).resolve().parents[1]
SAME_MACHINE = make.machine() == EXPECTED["machine"]

MEASURED = {"seconds", "total_seconds", "train_seconds", "sequences_per_second", "contrast/share_of_step"}
"""Numbers of a row that differ between any two runs."""
MEASURED |= {"peak_memory_mib"}

FLOAT64 = 2.0**-52 * 1e6
"""Bound between processors: 15 steps of sums over some 1e3 terms each, and a factor for what training amplifies."""

_AS_PUBLISHED = "the recipe is now as published: "
NEW_FINGERPRINTS: dict[str, str] = {
    **{f"hcn {dataset} full": f"{_AS_PUBLISHED}without random rotation" for dataset in ("ntu60", "ntu120")},
    **{f"infogcn {dataset} full": f"{_AS_PUBLISHED}aligned, relative-1" for dataset in ("ntu60", "ntu120")},
    "quickstart.yaml": "another encoder and three seeds, so that its accuracies are well above chance",
}
"""Sweep file or recipe whose fingerprints have changed since, with the reason."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic store, made again."""
    path = tmp_path_factory.mktemp("first-release") / "store"
    file = path.parent / "run.yaml"
    content = make.run_file(1)
    file.write_text(yaml.safe_dump({**content, "data": {**content["data"], "path": str(path)}}))
    ensure_data(read_run_file(file))
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A copy of the folders, to be changed."""
    return Path(shutil.copytree(HERE / "runs", tmp_path / "runs"))


@pytest.fixture
def narrowed() -> Iterator[None]:
    """The narrow network in the place of HCN."""
    remove = narrow.install()
    yield
    remove()


def configured(content: dict[str, Any], store: Path, folder: Path) -> RunConfig:
    """Load a run file's content with the store that was made again."""
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump({**content, "data": {**content["data"], "path": str(store)}}))
    return read_run_file(file)


def assert_same_rows(folder: Path, expected: list[dict[str, Any]], bound: float) -> None:
    """Compare a history number by number: equal bits on the machine of the fixture, within ``bound`` elsewhere."""
    found: list[dict[str, Any]] = [dict(row) for row in read_history(RunFolder(folder).history)]
    expected = [dict(from_file(row)) for row in expected]
    assert [row["epoch"] for row in found] == [row["epoch"] for row in expected]
    for row, old in zip(found, expected, strict=True):
        missing = old.keys() - row.keys() - MEASURED
        assert not missing
        for name in old.keys() - MEASURED:
            if SAME_MACHINE:
                assert row[name] == old[name], f"epoch {row['epoch']}: {name}"
            else:
                assert math.isclose(row[name], old[name], rel_tol=bound, abs_tol=bound), f"{row['epoch']}: {name}"


def test_the_data_are_the_same(store: Path) -> None:
    assert read_manifest(store).content_hash == EXPECTED["data_hash"]


@pytest.mark.parametrize("name", sorted(EXPECTED["fingerprints"]))
def test_shipped_sweeps_keep_their_fingerprints(name: str) -> None:
    if name in NEW_FINGERPRINTS:
        pytest.skip(NEW_FINGERPRINTS[name])
    sweep = load_sweep(ROOT / "sweeps" / name)
    trials = sweep.trials() or sweep.boundary_trials()
    assert {trial.key: trial.fingerprint for trial in trials} == EXPECTED["fingerprints"][name]


@pytest.mark.parametrize("name", sorted(EXPECTED["recipes"]))
def test_recipes_keep_their_fingerprints(name: str, tmp_path: Path) -> None:
    if name in NEW_FINGERPRINTS:
        pytest.skip(NEW_FINGERPRINTS[name])
    encoder, dataset, recipe = name.split()
    data = {"dataset": dataset, "path": "nothing"}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({"recipe": recipe, "data": data, "encoder": {"name": encoder}}))
    assert fingerprint(read_run_file(file)) == EXPECTED["recipes"][name]


@pytest.mark.parametrize("encoder", sorted(EXPECTED["parameters"]))
def test_states_of_encoders_and_head_have_the_same_names_and_shapes(encoder: str, store: Path, tmp_path: Path) -> None:
    config = configured(make.whole_run(encoder), store, tmp_path)
    model = build_components(config, LocalComm(), torch.device("cpu")).model
    state = [[name, list(value.shape), str(value.dtype)] for name, value in model.state_dict().items()]
    digest = hashlib.sha256(json.dumps(state).encode()).hexdigest()
    assert {"count": len(state), "sha256": digest} == EXPECTED["parameters"][encoder]


@pytest.mark.parametrize(
    "encoder", [pytest.param(name, marks=() if name == "hcn" else pytest.mark.slow) for name in sorted(make.ENCODERS)]
)
def test_an_undisturbed_run_gives_the_same_numbers(encoder: str, store: Path, tmp_path: Path) -> None:
    if not SAME_MACHINE:
        pytest.skip(f"float32 numbers of {EXPECTED['machine']}; this machine is {make.machine()}")
    launch(configured(make.whole_run(encoder), store, tmp_path), tmp_path / "run")
    assert_same_rows(tmp_path / "run", EXPECTED["encoders"][encoder], 0.0)


def test_a_finished_run_is_not_trained_again(runs: Path, store: Path, tmp_path: Path) -> None:
    folder = runs / "train" / "finished"
    before = {path: path.read_bytes() for path in folder.glob("checkpoints/*/*")}
    seen: list[Any] = []
    last = launch(configured(make.run_file(1), store, tmp_path), folder, on_row=seen.append, loop=narrow.Narrow())
    assert len(seen) == 1
    assert last["accuracy"] == EXPECTED["undisturbed"]["finished"][-1]["accuracy"]
    assert before == {path: path.read_bytes() for path in folder.glob("checkpoints/*/*")}
    assert_same_rows(folder, EXPECTED["undisturbed"]["finished"], 0.0)


@pytest.mark.usefixtures("narrowed")
def test_a_finished_run_is_evaluated(runs: Path, store: Path) -> None:
    folder = runs / "train" / "finished"
    old = read_run(folder)
    report = evaluate_run(folder, data_path=store)
    assert report.accuracy == report.recorded == EXPECTED["undisturbed"]["finished"][-1]["accuracy"]
    new = read_run(folder)
    assert list(new.ids) == list(old.ids)
    assert (new.labels == old.labels).all()
    # Logits are stored in float32.
    assert abs(new.logits - old.logits).max() <= 4 * 2.0**-23 * abs(old.logits).max()


def resume_on_a_rank(comm: Comm, content: dict[str, Any], store: str, folder: str) -> None:
    config = configured(content, Path(store), Path(folder).parent / f"rank{comm.rank}")
    for _ in narrow.Narrow()(config, Path(folder), comm=comm, device=torch.device("cpu"), sweep="train", trial=""):
        pass


def test_an_interrupted_run_of_two_workers_is_resumed(runs: Path, store: Path) -> None:
    folder = runs / "train" / "interrupted"
    for rank in range(2):
        (folder.parent / f"rank{rank}").mkdir()
    run_on_ranks(resume_on_a_rank, 2, make.run_file(2), str(store), str(folder))
    assert_same_rows(folder, EXPECTED["undisturbed"]["interrupted"], FLOAT64)


@pytest.mark.parametrize("name", ["finished_sweep", "interrupted_sweep"])
def test_sweeps_are_tabled_as_before(name: str, runs: Path) -> None:
    old = pd.read_csv(runs / name / "report" / "trials.csv")
    state = load_sweep_state(runs / name)
    assert not [remark for remark in state.remarks if "left out" in remark]
    assert len(state.trials) == len(old) == 4
    for trial in state.trials:
        (was,) = old.loc[old["key"] == trial.key].to_dict("records")
        assert (trial.state == "finished") == (was["state"] == "finished")
        if trial.state == "finished":
            assert trial.row["accuracy"] == was["last_accuracy"]
            assert trial.row["best_accuracy"] == was["best_accuracy"]
            # That release counted epochs from 0, and megabytes of 10^6 bytes.
            assert trial.row["best_epoch"] == was["best_epoch"] + 1
            assert trial.row["peak_memory_mib"] * 2**20 == pytest.approx(was["peak_memory_mb"] * 1e6)
            assert trial.epochs_done == was["epochs"]
    found = {cell.arm: cell.last.mean for cell in sweep_table(runs / name).cells if cell.last is not None}
    # What was called grid is named by its method today.
    expected = old.loc[old["state"] == "finished"].groupby("arm")["last_accuracy"].mean().rename({"grid": "stdcl"})
    assert found == pytest.approx(dict(expected), abs=1e-12)


def test_a_killed_search_is_tabled(runs: Path) -> None:
    state = load_sweep_state(runs / "interrupted_search")
    assert [trial.epochs_done for trial in state.trials] == [4, 4, 2]
    assert [trial.state == "finished" for trial in state.trials] == [True, True, False]
    assert len(sweep_table(runs / "interrupted_search").top) == 2


def test_the_plan_of_an_interrupted_sweep_knows_what_is_missing(runs: Path, store: Path) -> None:
    from stdcl.sweep.driver import run_sweep

    lines: list[str] = []
    file = runs / "interrupted_sweep.yaml"
    assert (
        run_sweep(file, [f"data.path={store}"], dry_run=True, storage=runs, check=lambda _: (), say=lines.append) == 0
    )
    listed = [line.split() for line in lines if "seed=" in line]
    assert [line[2] for line in listed] == ["finished"] * 3 + ["interrupted"]


def check_nothing(config: RunConfig) -> tuple[str, ...]:
    """Stand in for the check of a configuration against its data."""
    return ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["interrupted_sweep", "interrupted_search"])
def test_interrupted_sweeps_are_resumed(name: str, runs: Path, store: Path) -> None:
    from stdcl.sweep.driver import run_sweep

    lines: list[str] = []
    say: Callable[[str], None] = lines.append
    file = runs / f"{name}.yaml"
    overrides = [f"data.path={store}"]
    assert run_sweep(file, overrides, storage=runs, loop=narrow.Narrow(), check=check_nothing, say=say) == 0
    state = load_sweep_state(runs / name)
    assert len(state.trials) == 4
    if name == "interrupted_sweep":
        assert {trial.state for trial in state.trials} == {"finished"}
        for trial in state.trials:
            assert_same_rows(trial.folder, EXPECTED["undisturbed"]["sweep"][trial.key], FLOAT64)
