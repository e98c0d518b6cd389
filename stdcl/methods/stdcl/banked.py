"""What methods that contrast through sharded banks have in common: everything but the head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stdcl.config.contrast import ContrastConfig
from stdcl.errors import UserError
from stdcl.methods.base import EpochCost, Method, Step, Task
from stdcl.methods.stdcl.feasibility import feasibility
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.comm import Comm


class BankedMethod(Method):
    """A method whose ``embed`` gives one embedding a branch, each with a bank of its own.

    Args:
        options: of the banks, their sampling and the loss.
        branches: names of the embeddings, and of the loss terms.
        task: the data and the run.

    Raises:
        UserError: no anchor could ever be active.
    """

    def __init__(self, options: ContrastConfig, branches: tuple[str, ...], task: Task) -> None:
        self._bank_options = options
        self._branches = branches
        self._task = task
        found = feasibility(options, self._slot_labels())
        if found.problems:
            raise UserError("\n".join(found.problems))
        self.remarks = found.remarks
        self.num_slots = len(self._slot_labels())
        self.contrast: Contrast | None = None

    def _slot_labels(self) -> Tensor:
        """Return (L,) classes of the bank's slots: one per training item, or one per clip."""
        clips = self._bank_options.readings.slots == "clip"
        return self._task.labels[: self._task.num_clips] if clips else self._task.labels

    def start(self, comm: Comm, device: torch.device, dtype: torch.dtype) -> None:
        """Make this rank's shard of the banks."""
        self.contrast = Contrast(
            self._bank_options,
            self._slot_labels(),
            comm=comm,
            device=device,
            dtype=dtype,
            seed=self._task.seed,
            dataset=self._task.identity,
            branches=self._branches,
        )

    @property
    def _started(self) -> Contrast:
        if self.contrast is None:
            raise RuntimeError("the banks do not exist yet: call start() first")
        return self.contrast

    def step(self, embeddings: Mapping[str, Tensor], step: Step) -> dict[str, Tensor]:
        """Return the loss of each branch (STD-CL, eq. 8-9)."""
        clips = self._bank_options.readings.slots == "clip"
        slots = step.items % self._task.num_clips if clips else step.items
        result = self._started.step(dict(embeddings), slots, step=step.number, batch_size=self._task.batch_size)
        return result.losses

    def rollback(self) -> None:
        """Take the last step's rows out of the banks again."""
        self._started.rollback()

    def report(self, cost: EpochCost) -> dict[str, float]:
        """Return ``contrast/...``: see ``Contrast.epoch_stats``, bytes sent per step, share of the step's time."""
        stats = self._started.epoch_stats()
        stats.pop("contrast_seconds")  # of the host; the cost also counts a GPU's
        stats["bytes_per_step"] = stats.pop("communication_bytes") / max(cost.steps, 1)
        stats["share_of_step"] = cost.method_seconds / cost.step_seconds if cost.step_seconds else 0.0
        return {f"contrast/{name}": value for name, value in stats.items()}

    def state(self) -> dict[str, Any]:
        """Return the epoch's running sums."""
        return {"statistics": self._started.statistics.state()}

    def save_shard(self, folder: Path) -> None:
        """Write this rank's rows of the banks."""
        self._started.save_shard(folder)

    def load(self, state: Mapping[str, Any], folder: Path) -> None:
        """Restore the banks and the running sums."""
        self._started.load(folder)
        self._started.statistics.load(state["statistics"])
