"""STD-CL as a training method: the decoupling head, the sharded banks and their loss (paper, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stdcl.config.model import ContrastConfig
from stdcl.errors import UserError
from stdcl.methods.base import EpochCost, Features, FeatureShapes, Method, Step, Task
from stdcl.methods.stdcl.feasibility import check_feasible
from stdcl.methods.stdcl.head import DecouplingHead
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.comm import Comm
from stdcl.seeding import torch_seed


class STDCL(Method):
    """Spatial, temporal and global contrast, those that ``contrast.strategy`` names.

    Args:
        options: the contrast section of a run.
        task: the data and the run.
        shapes: of the encoder's features.

    Raises:
        UserError: no anchor of some class could ever be active, or the head does not fit the encoder.
    """

    head: DecouplingHead

    def __init__(self, options: ContrastConfig, task: Task, shapes: FeatureShapes) -> None:
        self._options = options
        self._task = task
        problems = check_feasible(options, self._slot_labels())
        if problems:
            raise UserError("\n".join(problems))
        self.num_slots = len(self._slot_labels())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(task.seed, "head"))
            self.head = DecouplingHead(options, shapes.feature_map, shapes.pooled)
        self.contrast: Contrast | None = None

    def _slot_labels(self) -> Tensor:
        """Return (L,) classes of the bank's slots: one per training item, or one per clip."""
        clips = self._options.slots == "clip"
        return self._task.labels[: self._task.num_clips] if clips else self._task.labels

    def start(self, comm: Comm, device: torch.device, dtype: torch.dtype) -> None:
        """Make this rank's shard of the banks."""
        self.contrast = Contrast(
            self._options,
            self._slot_labels(),
            comm=comm,
            device=device,
            dtype=dtype,
            seed=self._task.seed,
            dataset=self._task.identity,
        )

    @property
    def _started(self) -> Contrast:
        if self.contrast is None:
            raise RuntimeError("the banks do not exist yet: call start() first")
        return self.contrast

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Return ``{branch: (n, D)}`` (eq. 4-5)."""
        embeddings: dict[str, Tensor] = self.head(features.feature_map, features.pooled, features.present)
        return embeddings

    def step(self, embeddings: Mapping[str, Tensor], step: Step) -> dict[str, Tensor]:
        """Return the loss of each branch (eq. 8-9)."""
        clips = self._options.slots == "clip"
        slots = step.items % self._task.num_clips if clips else step.items
        result = self._started.step(dict(embeddings), slots, step=step.number, batch_size=self._task.batch_size)
        return result.losses

    def weights(self, epoch: int) -> Mapping[str, float]:
        """Return w_s and w_t of eq. 10 and the global weight, all 0 before ``start_epoch``."""
        options = self._options
        if epoch < options.start_epoch:
            return dict.fromkeys(self._started.branches, 0.0)
        by_branch = {
            "spatial": options.weight_spatial,
            "temporal": options.weight_temporal,
            "global": options.weight_global,
        }
        return {branch: by_branch[branch] for branch in self._started.branches}

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
