"""Progress within an epoch, and leaving in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stdcl.parallel.comm import LocalComm
from stdcl.results.progress import RunProgress, read_progress
from stdcl.training import callbacks
from stdcl.training.callbacks import Callback, ShowProgress, Training
from stdcl.training.checkpoint import Position
from stdcl.training.trainer import Stopped, Trainer, training
from tests.train.conftest import MakeConfig
from tests.train.test_trainer import assert_equal_runs, run

CPU = torch.device("cpu")


class Watch(Callback):
    """Collects what the progress file says after each moment; a second passes per step and per batch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1000.0
        self.seen: list[RunProgress | None] = []

    def clock(self) -> float:
        return self.now

    def _look(self, seconds: float) -> None:
        self.seen.append(read_progress(self.path))
        self.now += seconds

    def on_start(self, trainer: Training, settings: Any, facts: Any) -> None:
        self._look(5.0)

    def on_step_start(self, trainer: Training, epoch: int, step: int) -> None:
        self.now += 1.0

    def on_step_end(self, trainer: Training, epoch: int, step: int, steps: int) -> None:
        self._look(0.0)

    def on_evaluate(self, trainer: Training, epoch: int) -> None:
        self._look(2.0)

    def on_evaluate_batch(self, trainer: Training, epoch: int, done: int, total: int) -> None:
        self._look(2.0)

    def on_save(self, trainer: Training, position: Any) -> None:
        self._look(1.0)

    def on_end(self, trainer: Training, summary: Any, status: str) -> None:
        self._look(0.0)


def watched(make_config: MakeConfig, folder: Path, **sections: Any) -> tuple[Trainer, Watch]:
    trainer = Trainer(make_config(**sections), folder, LocalComm(), CPU)
    watch = Watch(trainer.folder.progress)
    # The clock is looked at when a step begins, before the second of that step passes.
    trainer.callbacks = [ShowProgress(trainer.folder.progress, watch.clock), watch]
    return trainer, watch


def test_the_file_says_how_far_a_run_is(make_config: MakeConfig, tmp_path: Path) -> None:
    # 80 items in batches of 16: five steps of a second; one evaluation batch of 20, four seconds in all.
    trainer, watch = watched(make_config, tmp_path / "run", training={"epochs": 2, "warmup_epochs": 0})
    list(trainer.run())
    seen = [(p.phase, p.epoch, p.done, p.total, p.rate, p.seconds_left) for p in watch.seen if p is not None]
    assert len(seen) == len(watch.seen)
    assert seen[0] == ("starting", 0, 0, 0, None, None)
    assert seen[1:6] == [("training", 0, n, 5, 16.0, float(5 - n + 5)) for n in range(1, 6)]
    assert seen[6] == ("evaluating", 0, 0, 20, None, 5.0)
    assert seen[7] == ("evaluating", 0, 20, 20, 10.0, 5.0)
    assert seen[8] == ("saving", 0, 20, 20, None, None)
    # The evaluation took four seconds, and one is left.
    assert seen[9:14] == [("training", 1, n, 5, 16.0, float(5 - n + 4)) for n in range(1, 6)]
    assert seen[14] == ("evaluating", 1, 0, 20, None, 4.0)
    assert seen[-1] == ("finished", 2, 0, 0, None, None)


def test_the_file_is_written_once_a_second_at_most(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[RunProgress] = []
    monkeypatch.setattr(callbacks, "write_progress", lambda path, progress: written.append(progress))
    trainer, watch = watched(make_config, tmp_path / "run", training={"epochs": 1, "warmup_epochs": 0})
    watch.on_step_start = lambda trainer, epoch, step: None  # type: ignore[method-assign]
    list(trainer.run())
    assert [progress.phase for progress in written] == ["starting", "training", "evaluating", "evaluating", "saving",
                                                        "finished"]  # fmt: skip


def test_a_file_that_cannot_be_written_costs_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "run" / "progress.json" / "x").mkdir(parents=True)
    assert len(run(make_config(), tmp_path / "run")) == 3


def stop_at(calls: int) -> Any:
    """Answer no so many times, then yes."""
    answers: Iterator[bool] = iter([False] * calls)
    return lambda: next(answers, True)


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (0, "stopped after step 1 of 5 of epoch 1"),
        (3, "stopped after step 4 of 5 of epoch 1"),
        (4, "stopped after epoch 1 of 3"),
        (5, "stopped after step 1 of 5 of epoch 2"),
    ],
)
def test_leaving_when_asked_loses_nothing(make_config: MakeConfig, tmp_path: Path, calls: int, said: str) -> None:
    # A checkpoint every third epoch only: leaving writes one of its own.
    config = make_config(training={"checkpoint_every": 3})
    run(config, tmp_path / "whole")
    with pytest.raises(Stopped, match=said):
        list(training(config, tmp_path / "stopped", comm=LocalComm(), device=CPU, stop=stop_at(calls)))
    progress = read_progress(tmp_path / "stopped" / "progress.json")
    assert progress is not None
    assert progress.phase == "interrupted"
    run(config, tmp_path / "stopped")
    assert_equal_runs(tmp_path / "whole", tmp_path / "stopped")


def test_saving_when_asked_changes_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(training={"checkpoint_every": 3})
    run(config, tmp_path / "whole")
    answers, killed = iter([False, False, True]), tmp_path / "killed"
    rows = training(config, killed, comm=LocalComm(), device=CPU, save_now=lambda: next(answers, False))
    next(rows)
    rows.close()
    assert [path.name for path in (killed / "checkpoints").iterdir()] == [Position(0, 3).name]
    run(config, killed)
    assert_equal_runs(tmp_path / "whole", killed)


def test_a_request_after_the_last_step_changes_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(training={"epochs": 1, "warmup_epochs": 0})
    rows = list(training(config, tmp_path / "run", comm=LocalComm(), device=CPU, stop=stop_at(4)))
    assert [row["done"] for row in rows] == [True]
