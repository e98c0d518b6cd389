"""FR-Head as a training method: heads, prototypes, and the loss over the global batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stdcl.errors import UserError
from stdcl.methods.base import EpochCost, Features, FeatureShapes, Method, Step, Task
from stdcl.methods.frhead.head import RefinementHeads
from stdcl.methods.frhead.loss import Members, members, refine
from stdcl.methods.frhead.options import FRHeadOptions, taps_of
from stdcl.methods.running import RunningMeans
from stdcl.parallel.comm import Comm, CountingComm
from stdcl.parallel.global_batch import gather_batch
from stdcl.seeding import torch_seed


class FRHead(Method):
    """Feature refinement at several depths.

    Every rank holds all prototypes and computes the loss of the global batch, so they are equal on all ranks.

    Args:
        options: the method section of a run.
        task: the data and the run.
        shapes: of the encoder's features.

    Raises:
        UserError: the heads do not fit the encoder, or there are fewer prototypes than classes.
    """

    head: RefinementHeads

    def __init__(self, options: FRHeadOptions, task: Task, shapes: FeatureShapes) -> None:
        self._options = options
        self._task = task
        self.taps = taps_of(options)
        if options.prototypes and options.prototypes < task.num_classes:
            raise UserError(
                f"method.prototypes is {options.prototypes}, but the data have {task.num_classes} classes; it must be "
                "at least that, or 0"
            )
        self._num_classes = options.prototypes or task.num_classes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(task.seed, "head"))
            self.head = RefinementHeads({name: shapes.taps[name] for name in self.taps}, options.embedding_dim)
        generator = torch.Generator().manual_seed(torch_seed(task.seed, "prototypes"))
        wanted = (2 * len(self.taps), self._num_classes, options.embedding_dim)
        self.prototypes = torch.randn(wanted, generator=generator, dtype=torch.float64)
        self._before = self.prototypes
        self._placed: tuple[CountingComm, RunningMeans] | None = None

    def start(self, comm: Comm, device: torch.device, dtype: torch.dtype) -> None:
        """Move the prototypes to the device."""
        self.prototypes = self._before = self.prototypes.to(device=device, dtype=dtype)
        cosines = [f"{tap}/similarity_{kind}" for tap in self.taps for kind in ("spatial", "temporal")]
        self._placed = CountingComm(comm), RunningMeans([*Members._fields, *cosines], device)

    @property
    def _started(self) -> tuple[CountingComm, RunningMeans]:
        if self._placed is None:
            raise RuntimeError("the method is not placed yet: call start() first")
        return self._placed

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Return ``{"features": (n, 2 L, D)}``."""
        return {"features": self.head(features.taps)}

    def step(self, embeddings: Mapping[str, Tensor], step: Step) -> dict[str, Tensor]:
        """Return the loss of each depth, spatial and temporal added, and move the prototypes."""
        comm, means = self._started
        options, dtype = self._options, self.prototypes.dtype
        features = embeddings["features"]
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(dtype)
            logits = step.logits.detach().to(dtype)
            confidence = logits.softmax(dim=1).gather(1, step.labels[:, None])
            batch = gather_batch(
                comm,
                torch.cat([features.flatten(1), confidence], dim=1),
                torch.stack([step.labels, logits.argmax(dim=1)], dim=1),
                batch_size=self._task.batch_size,
                size=step.global_size,
            )
            labels, predicted = batch.numbers.unbind(1)
            confidence = batch.rows[:, -1].detach()
            parts = members(labels, predicted, confidence, self._num_classes, options.threshold)
            gathered = batch.rows[:, :-1].view(-1, *features.shape[1:])
            refined = refine(gathered, labels, confidence, parts, self.prototypes, options)
        self._before, self.prototypes = self.prototypes, refined.prototypes
        own = self.prototypes[:, labels].transpose(0, 1)
        cosines = functional.cosine_similarity(gathered.detach(), own, dim=2).sum(dim=0)
        means.add(torch.cat([torch.stack([kind.sum() for kind in parts]), cosines]), step.global_size)
        return dict(zip(self.taps, refined.losses.view(-1, 2).sum(dim=1).unbind(), strict=True))

    def weights(self, epoch: int) -> Mapping[str, float]:
        """Return the weight of each depth, all 0 before ``start_epoch``."""
        options = self._options
        on = options.weight if epoch >= options.start_epoch else 0.0
        return {tap: on * weight for tap, weight in zip(self.taps, options.depth_weights, strict=True)}

    def rollback(self) -> None:
        """Take back the last step's move of the prototypes."""
        self.prototypes = self._before

    def report(self, cost: EpochCost) -> dict[str, float]:
        """Return ``frhead/...``: shares of true positives, false negatives and false positives among the sequences,
        and the mean cosine between a feature and the prototype of its class."""
        comm, means = self._started
        return {f"frhead/{name}": value for name, value in (means.close() | cost.shares(comm)).items()}

    def state(self) -> dict[str, Any]:
        """Return the prototypes and the epoch's running sums."""
        return {"prototypes": self.prototypes, "statistics": self._started[1].state()}

    def load(self, state: Mapping[str, Any], folder: Path) -> None:
        """Restore the prototypes and the running sums, on any number of ranks."""
        saved: Tensor = state["prototypes"]
        if saved.shape != self.prototypes.shape:
            raise UserError(
                f"{folder}: its prototypes are {tuple(saved.shape)}, this run's {tuple(self.prototypes.shape)}: they "
                "belong to another configuration"
            )
        self.prototypes = self._before = saved.to(self.prototypes)
        self._started[1].load(state["statistics"])
