"""A stand-in for the training loop with its contract (rows, checkpoint, history, result) and no training in it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from stdcl import atomic
from stdcl.config import RunConfig, fingerprint
from stdcl.errors import UserError
from stdcl.parallel.comm import Comm
from stdcl.results.row import EpochRow, add_figures, to_file


@dataclass(frozen=True)
class Stub:
    """Counts to ``training.epochs``; the state is a number that every rank adds to, so lost epochs show.

    Args:
        seconds: of one epoch.
        kill: (rank, epoch): that rank kills itself once (a marker file remembers) in the middle of that epoch.
        hang: (rank, epoch): that rank stops answering, once.
        struck_seeds: the accident comes to trainings with these seeds alone; to all if empty.
        fail_seeds: trainings with these seeds raise ValueError in epoch 2, until a file ``mended`` is in the storage.
        refuse_seeds: trainings with these seeds raise UserError before the first row.
    """

    seconds: float = 0.0
    kill: tuple[int, int] | None = None
    hang: tuple[int, int] | None = None
    struck_seeds: tuple[int, ...] = ()
    fail_seeds: tuple[int, ...] = ()
    refuse_seeds: tuple[int, ...] = ()

    def __call__(
        self, config: RunConfig, run_dir: Path, *, comm: Comm, device: torch.device, sweep: str, trial: str
    ) -> Iterator[EpochRow]:
        seed, epochs = config.training.seed, config.training.epochs
        if seed in self.refuse_seeds:
            raise UserError(f"seed {seed} is refused")
        checkpoint = run_dir / "checkpoint.json"
        state = {"epoch": 0, "value": 0.0}
        if checkpoint.is_file():
            state = json.loads(checkpoint.read_text())
        start = int(state["epoch"])
        if start == epochs:
            yield self._row(config, state)
            return
        run_dir.mkdir(parents=True, exist_ok=True)
        for epoch in range(start + 1, epochs + 1):
            mended = (run_dir.parents[2] / "mended").exists()
            if seed in self.fail_seeds and epoch == 2 and comm.rank == 0 and not mended:
                raise ValueError(f"a fault in seed {seed}")
            if not self.struck_seeds or seed in self.struck_seeds:
                self._accident(run_dir, comm.rank, epoch)
            time.sleep(self.seconds)
            total = comm.all_reduce(torch.tensor([float(comm.rank + 1)]), "sum").item()
            state = {"epoch": epoch, "value": state["value"] + total}
            row = self._row(config, state)
            if comm.rank == 0:
                with (run_dir / "history.jsonl").open("a") as stream:
                    stream.write(json.dumps({**to_file(row), "pid": os.getpid()}) + "\n")
                atomic.write_json(checkpoint, state)
                if epoch == epochs:
                    result = {"status": "finished", "row": to_file(row), "fingerprint": fingerprint(config)}
                    atomic.write_json(run_dir / "result.json", result)
            comm.barrier()
            yield row

    def _row(self, config: RunConfig, state: dict[str, float]) -> EpochRow:
        done = state["epoch"] == config.training.epochs
        accuracy = 1.0 - (config.contrast.temperature - 0.8) ** 2 - 1.0 / (1 + state["epoch"])
        if config.contrast.strategy == "none":
            accuracy -= 0.05
        accuracy = min(max(accuracy, 0.0), 1.0)
        row: EpochRow = {
            "epoch": int(state["epoch"]),
            "accuracy": accuracy,
            "best_accuracy": accuracy,
            "best_epoch": int(state["epoch"]),
            "num_test": 464,
            "loss": 1.0,
            "total_seconds": state["epoch"] * 0.5,
            "peak_memory_mib": 100.0,
            "done": done,
        }
        add_figures(row, {"value": state["value"]})
        return row

    def _accident(self, run_dir: Path, rank: int, epoch: int) -> None:
        marker = run_dir / "accident"
        if (rank, epoch) == self.kill and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if (rank, epoch) == self.hang and not marker.exists():
            marker.touch()
            time.sleep(3600)
