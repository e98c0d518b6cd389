"""What a trial does with GPUs that are declared to Ray and do not exist: it notes which it was given, on the CPU."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray
import torch

from stdcl.config import RunConfig
from stdcl.launch.device import Cards
from stdcl.parallel.comm import Comm
from stdcl.results.row import EpochRow
from tests.ray.stub import Stub

MEETING_SECONDS = 300.0
"""After which a trial no longer waits for the others: the test then fails instead of hanging."""

_given: list[torch.device] = []
"""The device that this process was told to compute on."""


def _compute_on_cpu(card: torch.device) -> torch.device:
    _given[:] = [card]
    return torch.device("cpu")


def _nothing() -> None:
    pass


DECLARED = Cards(backend="gloo", check=_nothing, use=_compute_on_cpu)


@dataclass(frozen=True)
class Witness(Stub):
    """A stub that notes on each rank what Ray gave it and for how long, in ``RUN_DIR/card-RANK.json``.

    Args:
        meet: so many trials have to have begun before any goes on, so that the first ones certainly overlap.
    """

    meet: int = 1

    def __call__(
        self, config: RunConfig, run_dir: Path, *, comm: Comm, device: torch.device, sweep: str, trial: str
    ) -> Iterator[EpochRow]:
        begin = time.monotonic()  # one clock for all processes of a machine
        meeting = run_dir.parents[1] / "meeting"
        if comm.rank == 0:
            meeting.mkdir(exist_ok=True)
            (meeting / run_dir.name).touch()
        while len(list(meeting.glob("*"))) < self.meet:
            if time.monotonic() > begin + MEETING_SECONDS:
                raise TimeoutError(f"{self.meet} trials do not run at the same time")
            time.sleep(0.05)
        for row in super().__call__(config, run_dir, comm=comm, device=device, sweep=sweep, trial=trial):
            if row["done"]:
                noted = {
                    "trial": run_dir.name,
                    "rank": comm.rank,
                    "begin": begin,
                    "end": time.monotonic(),
                    "cards": ray.get_gpu_ids(),
                    "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
                    "device": str(_given[0]),
                    "computed_on": str(device),
                }
                (run_dir / f"card-{comm.rank}.json").write_text(json.dumps(noted))
            yield row
