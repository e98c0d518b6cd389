"""The training loop on one rank: results, history, resumption to the bit, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch

from stdcl.config import RunConfig, fingerprint
from stdcl.errors import UserError
from stdcl.parallel.comm import LocalComm
from stdcl.results.history import read_history
from stdcl.results.result import read_result
from stdcl.results.scores import in_half_precision, read_scores
from stdcl.runs.evaluate import evaluate_run
from stdcl.training import checkpoint
from stdcl.training.evaluate import Evaluation, evaluate
from stdcl.training.trainer import Diverged, training
from tests.train.conftest import MakeConfig

CPU = torch.device("cpu")
TIMES = (
    "seconds",
    "total_seconds",
    "train_seconds",
    "sequences_per_second",
    "peak_memory_mib",
    "contrast/share_of_step",
)


def run(config: RunConfig, folder: Path, stop_after: int | None = None) -> list[dict[str, Any]]:
    """Train; leave after ``stop_after`` rows, as a scheduler would."""
    rows = []
    generator: Iterator[dict[str, Any]] = training(config, folder, comm=LocalComm(), device=CPU)
    for row in generator:
        rows.append(row)
        if stop_after is not None and len(rows) == stop_after:
            generator.close()  # type: ignore[attr-defined]
            break
    return rows


def metrics(row: dict[str, Any]) -> dict[str, Any]:
    """What must be equal between two runs: everything but times and memory."""
    return {key: value for key, value in row.items() if key not in TIMES}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = checkpoint.newest(folder / "checkpoints")
    assert newest is not None
    model: dict[str, torch.Tensor] = checkpoint.load_state(newest, CPU)["model"]
    return model


def assert_equal_runs(one: Path, other: Path) -> None:
    assert [metrics(r) for r in read_history(one / "history.jsonl")] == [
        metrics(r) for r in read_history(other / "history.jsonl")
    ]
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_a_training_leaves_history_result_and_two_checkpoints(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    rows = run(config, tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["done"] for row in rows] == [False, False, True]
    assert rows[-1]["num_test"] == 20
    assert rows[-1]["loss"] == pytest.approx(
        rows[-1]["ce"] + rows[-1]["loss_spatial"] + rows[-1]["loss_temporal"], rel=1e-12
    )
    assert len(read_history(tmp_path / "history.jsonl")) == 3
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["row"]["accuracy"] == rows[-1]["accuracy"]
    assert len(checkpoint.candidates(tmp_path / "checkpoints")) <= 2
    assert result["precision"] == "float32"
    assert result["tf32"] == ""
    assert result["steady_epoch_seconds"] is None, "three epochs"


def test_the_speed_of_a_training_is_that_of_its_second_to_fourth_epoch(make_config: MakeConfig, tmp_path: Path) -> None:
    rows = run(make_config(training={"epochs": 4}), tmp_path)
    for _ in range(2):  # it stays when the complete run is asked for again
        result = read_result(tmp_path / "result.json")
        assert result is not None
        assert result.steady_epoch_seconds == median(row["train_seconds"] for row in rows[1:4])
        assert result.measured()["precision"] == "float32"
        run(make_config(training={"epochs": 4}), tmp_path)


def test_a_finished_training_gives_its_last_row_again(make_config: MakeConfig, tmp_path: Path) -> None:
    first = run(make_config(), tmp_path)
    again = run(make_config(), tmp_path)
    assert [metrics(row) for row in again] == [metrics(first[-1])]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(make_config: MakeConfig, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(make_config(), tmp_path / name)
    assert_equal_runs(tmp_path / "a", tmp_path / "b")
    run(make_config(training={"seed": 9}), tmp_path / "c")
    first, other = weights(tmp_path / "a"), weights(tmp_path / "c")
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_resumed_training_ends_with_the_same_bits(make_config: MakeConfig, tmp_path: Path) -> None:
    run(make_config(), tmp_path / "whole")
    run(make_config(), tmp_path / "parts", stop_after=1)
    run(make_config(), tmp_path / "parts")
    assert_equal_runs(tmp_path / "whole", tmp_path / "parts")


def test_a_training_resumed_inside_an_epoch_ends_with_the_same_bits(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(training={"checkpoint_every_steps": 2})
    run(config, tmp_path / "whole")

    class Killed(Exception):
        pass

    real = checkpoint.save
    with pytest.MonkeyPatch.context() as patch:

        def save_then_die(root: Path, position: checkpoint.Position, *args: Any) -> Path:
            folder = real(root, position, *args)
            if position == checkpoint.Position(1, 2):
                raise Killed
            return folder

        patch.setattr(checkpoint, "save", save_then_die)
        with pytest.raises(Killed):
            run(config, tmp_path / "parts")
    newest = checkpoint.newest(tmp_path / "parts" / "checkpoints")
    assert newest is not None
    assert checkpoint.position_of(newest) == checkpoint.Position(1, 2)
    run(config, tmp_path / "parts")
    assert_equal_runs(tmp_path / "whole", tmp_path / "parts")


def test_a_truncated_checkpoint_falls_back_to_the_one_before(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(make_config(), tmp_path / "whole")
    run(make_config(), tmp_path / "parts", stop_after=2)
    newest, before, *_ = checkpoint.candidates(tmp_path / "parts" / "checkpoints")
    state = newest / "state.pt"
    state.write_bytes(state.read_bytes()[:-100])
    assert checkpoint.newest(tmp_path / "parts" / "checkpoints") == before
    assert "truncated" in caplog.text
    run(make_config(), tmp_path / "parts")
    assert_equal_runs(tmp_path / "whole", tmp_path / "parts")


def test_a_full_disk_ends_the_training_and_loses_nothing(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(make_config(), tmp_path / "whole")
    run(make_config(), tmp_path / "parts", stop_after=1)
    real = torch.save

    def full(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(checkpoint.CheckpointError, match="No space left on device"):
        run(make_config(), tmp_path / "parts")
    monkeypatch.setattr(torch, "save", real)
    assert not list((tmp_path / "parts" / "checkpoints").glob(".*"))
    run(make_config(), tmp_path / "parts")
    assert_equal_runs(tmp_path / "whole", tmp_path / "parts")


def test_another_configuration_in_the_same_folder_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    run(make_config(), tmp_path, stop_after=1)
    with pytest.raises(UserError, match="belongs to another training") as caught:
        run(make_config(data={"stream": "bone"}), tmp_path)
    assert "'joint' in the checkpoint, 'bone' in this run" in str(caught.value)


def test_other_data_in_the_same_folder_are_refused(
    make_config: MakeConfig, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from stdcl.data.nw_ucla.synthetic import prepare_synthetic

    run(make_config(), tmp_path, stop_after=1)
    other = tmp_path_factory.mktemp("other") / "store"
    prepare_synthetic(other, 60, 6)
    with pytest.raises(UserError, match="content hash"):
        run(make_config(data={"path": str(other)}), tmp_path)


def test_loss_that_is_not_finite_is_said(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="loss is"):
        run(make_config(training={"learning_rate": 1e30}), tmp_path)


def test_infeasible_counts_are_refused_with_numbers(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hard_positives"):
        run(make_config(contrast={"hard_positives": 128}), tmp_path)


def test_every_parameter_is_trained(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(training={"epochs": 2, "weight_decay": 0.0})
    run(config, tmp_path / "a", stop_after=1)
    before = weights(tmp_path / "a")
    run(config, tmp_path / "a")
    after = weights(tmp_path / "a")
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert still == []
    assert any(name.startswith("head.") for name in before)


def test_a_frozen_head_stays(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(contrast={"freeze_head": True}, training={"epochs": 2})
    run(config, tmp_path / "a", stop_after=1)
    before = weights(tmp_path / "a")
    run(config, tmp_path / "a")
    after = weights(tmp_path / "a")
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("head."))


def test_start_epoch_keeps_the_contrast_out_of_the_loss(make_config: MakeConfig, tmp_path: Path) -> None:
    rows = run(make_config(contrast={"start_epoch": 2}), tmp_path)
    assert rows[0]["loss"] == pytest.approx(rows[0]["ce"], rel=1e-12)
    assert rows[2]["loss"] > rows[2]["ce"] + 1.0
    assert rows[2]["contrast/active_share"] == 1.0


@pytest.mark.parametrize("strategy", ["none", "spatial", "global", "spatial+temporal+global"])
def test_every_strategy_trains(make_config: MakeConfig, tmp_path: Path, strategy: str) -> None:
    rows = run(make_config(contrast={"strategy": strategy}, training={"epochs": 1}), tmp_path)
    branches = set() if strategy == "none" else set(strategy.split("+"))
    assert {name.removeprefix("loss_") for name in rows[0] if name.startswith("loss_")} == branches


def test_evaluation_repeats_the_recorded_accuracy(make_config: MakeConfig, tmp_path: Path) -> None:
    rows = run(make_config(), tmp_path)
    report = evaluate_run(tmp_path)
    assert report.accuracy == rows[-1]["accuracy"]
    assert report.num_sequences == 20
    assert "equal to" in report.render()
    best = evaluate_run(tmp_path, which="best")
    assert best.accuracy == rows[-1]["best_accuracy"]
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert sum(c["sequences"] for c in written["per_class"].values()) == 20


def test_a_training_leaves_the_scores_of_its_last_epoch(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(training={"evaluate_every": 2, "seed": 4})
    rows = run(config, tmp_path)
    kept = read_scores(tmp_path / "scores.parquet")
    assert kept.accuracy == rows[-1]["accuracy"]
    assert (kept.seed, kept.arm, kept.fingerprint) == (4, "spatial+temporal", fingerprint(config))
    assert kept.logits.dtype == np.float16
    assert kept.subjects is not None
    assert all(f"s{subject:02d}" in name for subject, name in zip(kept.subjects, kept.ids, strict=True))
    assert kept.settings["contrast.temperature"] == 0.8
    before = kept.logits
    evaluate_run(tmp_path)
    again = read_scores(tmp_path / "scores.parquet")
    assert again.checkpoint == kept.checkpoint
    assert again.ids.tolist() == kept.ids.tolist()
    np.testing.assert_array_equal(in_half_precision(again).logits, before)


def test_scores_that_are_not_finite_cost_only_themselves(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stdcl.training import trainer

    def broken(*args: Any, **options: Any) -> Evaluation:
        result = evaluate(*args, **options)
        result.logits[2, 1] = np.nan
        return result

    monkeypatch.setattr(trainer, "evaluate", broken)
    rows = run(make_config(training={"epochs": 1}), tmp_path)
    assert "accuracy" in rows[-1]
    assert not (tmp_path / "scores.parquet").exists()
    assert "not finite" in caplog.text


def test_evaluation_takes_the_stream_of_the_checkpoint(make_config: MakeConfig, tmp_path: Path) -> None:
    run(make_config(data={"stream": "bone-motion"}, training={"epochs": 1}), tmp_path)
    # Whatever somebody writes into the folder's configuration: the checkpoint knows.
    text = (tmp_path / "config.yaml").read_text().replace("bone-motion", "joint")
    (tmp_path / "config.yaml").write_text(text)
    assert evaluate_run(tmp_path).stream == "bone-motion"


def test_evaluation_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such run"):
        evaluate_run(tmp_path / "absent")
    with pytest.raises(UserError, match="no whole checkpoint"):
        evaluate_run(tmp_path)


def test_validation_never_touches_the_test_rows(make_config: MakeConfig) -> None:
    from stdcl.training.components import open_data

    test = open_data(make_config())
    validation = open_data(make_config(data={"evaluate_on": "validation"}))
    held = set(validation.test.ids)
    assert held.isdisjoint(test.test.ids)
    assert held.isdisjoint(validation.train.ids)
    assert held | set(validation.train.ids) == set(test.train.ids)


def test_leftovers_of_a_killed_write_are_removed(make_config: MakeConfig, tmp_path: Path) -> None:
    run(make_config(), tmp_path, stop_after=1)
    root = tmp_path / "checkpoints"
    shutil.copytree(checkpoint.candidates(root)[0], root / ".epoch-0002-step-000000.part")
    run(make_config(), tmp_path)
    assert not list(root.glob(".*"))
