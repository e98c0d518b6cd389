"""``stdcl evaluate`` and ``stdcl train`` on runs of which something is gone."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from stdcl import cli
from stdcl.errors import UserError
from stdcl.results.features import read_features
from stdcl.results.layout import RunFolder
from stdcl.results.result import read_result, write_result
from stdcl.results.scores import read_scores
from stdcl.runs.evaluate import evaluate_run, find_checkpoint, read_config
from stdcl.training.components import new_encoder, open_data
from tests.report.sweeps import Sweep
from tests.train.conftest import small_raw


@pytest.fixture(scope="module")
def file(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "run.yaml"
    path.write_text(yaml.safe_dump(small_raw(small_store, training={"epochs": 2})))
    return path


@pytest.fixture(scope="module")
def trained(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    assert cli.main(["train", str(file), "--out", str(out)]) == 0
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunFolder:
    """A finished run of two epochs."""
    return RunFolder(Path(shutil.copytree(trained, tmp_path / "a run")))


def test_the_epoch_before_is_not_scored_as_the_last(run: RunFolder) -> None:
    (run.checkpoints / "epoch-0002-step-000000" / "state.pt").write_bytes(b"")
    scores = run.scores().read_bytes()
    with pytest.raises(UserError) as caught:
        evaluate_run(run.root)
    text = str(caught.value)
    assert "trained to epoch 2" in text
    assert "epoch-0001-step-000000, is of epoch 1" in text
    assert run.scores().read_bytes() == scores


def test_without_checkpoints_neither_command_sends_to_the_other(
    file: Path, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    history = run.history.read_bytes()
    shutil.rmtree(run.checkpoints)
    assert cli.main(["evaluate", str(run.root)]) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert "stdcl train" not in said
    assert "scores.parquet holds what it scored" in said
    assert cli.main(["train", str(file), "--out", str(run.root)]) == 0
    said = capsys.readouterr().out
    assert "stdcl evaluate" not in said
    assert "its checkpoints were deleted" in said
    assert run.history.read_bytes() == history, "the run was trained again"


def test_another_training_in_a_complete_folder_is_refused(
    file: Path, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run.checkpoints)
    command = ["train", str(file), "--out", str(run.root), "--set", "training.epochs=3"]
    assert cli.main(command) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert "holds the result of another training" in said
    assert "--out DIR" in said


def test_the_runs_after_one_that_cannot_be_evaluated_are(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert cli.main(["evaluate", str(tmp_path / "empty"), str(run.root)]) == cli.BAD_INPUT
    said = capsys.readouterr()
    assert "no whole checkpoint" in said.err
    assert "equal to the" in said.out


def test_features_are_what_the_classifier_saw(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Sequence by sequence, the encoder's pooled vector."""
    assert cli.main(["evaluate", str(run.root), "--features"]) == cli.DONE
    assert f"features: {run.features()}" in capsys.readouterr().out
    found, scores = read_features(run.features()), read_scores(run.scores())
    assert found.ids.tolist() == scores.ids.tolist()
    assert found.labels.tolist() == scores.labels.tolist()
    assert (found.fingerprint, found.data_hash, found.classes) == (scores.fingerprint, scores.data_hash, scores.classes)
    folder, state = find_checkpoint(run.root, "last")
    data = open_data(read_config(folder, state))
    encoder = new_encoder(read_config(folder, state), data.layout)
    encoder.load_state_dict(
        {k.removeprefix("encoder."): v for k, v in state["model"].items() if k.startswith("encoder.")}
    )
    with torch.inference_mode():
        output = encoder.eval()(data.test.batch(0, np.arange(len(found.ids))).x)
    np.testing.assert_allclose(found.vectors, output.pooled.numpy(), rtol=1e-5, atol=1e-6)


def test_a_sweeps_finished_trials_are_evaluated(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep(tmp_path / "sweep", ("contrast.temperature",))
    done = sweep.add({"contrast.temperature": 0.5}, correct=10, num_test=20)
    sweep.add({"contrast.temperature": 0.8})
    directory = sweep.save()
    trial = directory / "trials" / done
    shutil.rmtree(trial)
    shutil.copytree(run.root, trial)
    RunFolder(trial).scores().unlink()
    assert cli.main(["evaluate", str(directory)]) == cli.DONE
    assert "equal to the" in capsys.readouterr().out
    assert RunFolder(trial).scores().is_file()


def test_runs_from_before_score_files_are_completed(run: RunFolder) -> None:
    """Of a sweep that finished before trials wrote their scores: the same numbers as its own."""
    recorded = read_scores(run.scores())
    run.scores().unlink()
    report = evaluate_run(run.root)
    assert report.recorded == report.accuracy
    again = read_scores(run.scores())
    assert again.correct.tolist() == recorded.correct.tolist()
    assert not run.features().exists()


def test_an_accuracy_that_cannot_be_saved_is_shown(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("stdcl.runs.evaluate.write_scores", refuse)
    assert cli.main(["evaluate", str(run.root)]) == cli.FAILED
    said = capsys.readouterr().out
    assert "accuracy" in said
    assert "Read-only file system" in said


def test_a_store_that_was_moved_is_found_by_name(
    run: RunFolder, small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "data" / "moved"
    shutil.copytree(small_store, moved)
    from stdcl.training import checkpoint

    state = checkpoint.load_state

    def elsewhere(folder: Path, device: object) -> dict[str, object]:
        found = state(folder, device)  # type: ignore[arg-type]
        return {**found, "config": found["config"].replace(str(small_store), str(tmp_path / "gone"))}

    monkeypatch.setattr(checkpoint, "load_state", elsewhere)
    with pytest.raises(UserError, match="--data DIR"):
        evaluate_run(run.root)
    monkeypatch.setitem(os.environ, "STDCL_DATA", str(tmp_path / "data"))
    assert evaluate_run(run.root, data_path=Path("moved")).not_saved == ""


def test_a_result_says_each_code_once(run: RunFolder) -> None:
    result = read_result(run.result)
    assert result is not None
    assert result.code_versions == (result.code_version,)
    write_result(run.result, replace(result, code_versions=("one", "two")))
    again = read_result(run.result)
    assert again is not None
    assert again.code_versions == ("one", "two")
