"""Class prototypes that follow the true positives of each global batch: what FR-Head and ProtoGCN have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from stdcl.errors import UserError
from stdcl.methods.base import EpochCost, Method, Step, Task
from stdcl.methods.running import RunningMeans
from stdcl.parallel.comm import Comm, CountingComm
from stdcl.parallel.global_batch import gather_batch
from stdcl.seeding import torch_seed

EPS = 1e-12


class Members(NamedTuple):
    """Which sample is what, of which class: each (B, K) of 0 and 1."""

    true_positives: Tensor
    false_negatives: Tensor
    false_positives: Tensor


class Batch(NamedTuple):
    """A global batch.

    Attributes:
        features: (B, Z, D), with the graph of this rank's own.
        labels: (B,) int64.
        confidence: (B,) probability of the sample's own class, without a graph.
        parts: which sample is what.
    """

    features: Tensor
    labels: Tensor
    confidence: Tensor
    parts: Members


class Compared(NamedTuple):
    """What a step gives.

    Attributes:
        losses: (Z,), of each feature, means over the batch.
        prototypes: (Z, K, D), updated, without a graph.
    """

    losses: Tensor
    prototypes: Tensor


def members(labels: Tensor, predicted: Tensor, confidence: Tensor, num_classes: int, threshold: float) -> Members:
    """Sort the samples of a batch.

    Args:
        labels: (B,) int64.
        predicted: (B,) int64, the class of the largest logit (of equals, the first).
        confidence: (B,) probability of the sample's own class.
        num_classes: K.
        threshold: a true positive's confidence must be above it.
    """
    dtype = confidence.dtype
    own = functional.one_hot(labels, num_classes).to(dtype)
    said = functional.one_hot(predicted, num_classes).to(dtype)
    right = labels == predicted
    wrong = (~right).to(dtype).unsqueeze(1)
    return Members(own * (right & (confidence > threshold)).to(dtype).unsqueeze(1), own * wrong, said * wrong)


def class_means(features: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of each class's members (Z, K, D), zero where there are none, and whether there are any (K,)."""
    counts = member.sum(dim=0)
    sums = torch.einsum("bk,bzd->zkd", member, features)
    return sums / counts.clamp(min=1)[:, None], counts > 0


def moved(prototypes: Tensor, features: Tensor, true_positives: Tensor, momentum: float) -> Tensor:
    """Return the prototypes (Z, K, D) after a step; the gradient flows through the batch's share."""
    mean, present = class_means(features, true_positives)
    return torch.where(present[:, None], momentum * prototypes + (1 - momentum) * mean, prototypes)


def cosines_to(prototypes: Tensor, features: Tensor) -> Tensor:
    """Return the cosine of each feature (B, Z, D) and prototype (Z, K, D): (Z, B, K)."""
    unit = functional.normalize(features, dim=2, eps=EPS)
    return torch.einsum("bzd,zkd->zbk", unit, functional.normalize(prototypes, dim=2, eps=EPS))


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean over the batch of ``logits`` (Z, B, K): (Z,)."""
    terms = -torch.log_softmax(logits, dim=2).gather(2, labels.expand(len(logits), -1)[:, :, None])[:, :, 0]
    return (terms if weights is None else terms * weights).mean(dim=1)


class PrototypeMethod(Method):
    """A method whose features are compared with class prototypes.

    Every rank holds all prototypes and computes the loss of the global batch, so they are equal on all ranks. A
    subclass makes the head, returns ``{"features": (n, Z, D)}`` from ``embed``, and implements ``compare`` and
    ``named``.

    Args:
        task: the data and the run.
        num_classes: K, at least the dataset's.
        features: a name for each of the Z features.
        dim: D.
        threshold: a true positive's probability of its own class must be above it.
        prefix: of the names in reports.
    """

    def __init__(
        self, task: Task, num_classes: int, features: Sequence[str], dim: int, threshold: float, prefix: str
    ) -> None:
        self._task = task
        self._num_classes = num_classes
        self._features = tuple(features)
        self._threshold = threshold
        self._prefix = prefix
        generator = torch.Generator().manual_seed(torch_seed(task.seed, "prototypes"))
        self.prototypes = torch.randn((len(features), num_classes, dim), generator=generator, dtype=torch.float64)
        self._before = self.prototypes
        self._placed: tuple[CountingComm, RunningMeans] | None = None

    def compare(self, batch: Batch) -> Compared:
        """Return the losses of a global batch, and the prototypes after it."""
        raise NotImplementedError

    def named(self, losses: Tensor) -> dict[str, Tensor]:
        """Return the loss terms by name from the losses (Z,) of the features."""
        raise NotImplementedError

    def start(self, comm: Comm, device: torch.device, dtype: torch.dtype) -> None:
        """Move the prototypes to the device."""
        self.prototypes = self._before = self.prototypes.to(device=device, dtype=dtype)
        self._placed = CountingComm(comm), RunningMeans([*Members._fields, *self._features], device)

    @property
    def _started(self) -> tuple[CountingComm, RunningMeans]:
        if self._placed is None:
            raise RuntimeError("the method is not placed yet: call start() first")
        return self._placed

    def step(self, embeddings: Mapping[str, Tensor], step: Step) -> dict[str, Tensor]:
        """Return the loss terms of the global batch, and move the prototypes."""
        comm, means = self._started
        dtype = self.prototypes.dtype
        features = embeddings["features"]
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(dtype)
            logits = step.logits.detach().to(dtype)
            confidence = logits.softmax(dim=1).gather(1, step.labels[:, None])
            gathered = gather_batch(
                comm,
                torch.cat([features.flatten(1), confidence], dim=1),
                torch.stack([step.labels, logits.argmax(dim=1)], dim=1),
                batch_size=self._task.batch_size,
                size=step.global_size,
            )
            labels, predicted = gathered.numbers.unbind(1)
            confidence = gathered.rows[:, -1].detach()
            parts = members(labels, predicted, confidence, self._num_classes, self._threshold)
            batch = Batch(gathered.rows[:, :-1].view(-1, *features.shape[1:]), labels, confidence, parts)
            compared = self.compare(batch)
        self._before, self.prototypes = self.prototypes, compared.prototypes
        own = self.prototypes[:, labels].transpose(0, 1)
        cosines = functional.cosine_similarity(batch.features.detach(), own, dim=2).sum(dim=0)
        means.add(torch.cat([torch.stack([kind.sum() for kind in parts]), cosines]), step.global_size)
        return self.named(compared.losses)

    def rollback(self) -> None:
        """Take back the last step's move of the prototypes."""
        self.prototypes = self._before

    def report(self, cost: EpochCost) -> dict[str, float]:
        """Return shares of true positives, false negatives and false positives among the sequences, and the mean cosine
        between a feature and the prototype of its class."""
        comm, means = self._started
        return {f"{self._prefix}/{name}": value for name, value in (means.close() | cost.shares(comm)).items()}

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
