"""ProtoGCN's contrast as a training method."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stdcl.methods.base import Features, FeatureShapes, Task
from stdcl.methods.protogcn import ProtoGCNOptions, taps_of
from stdcl.methods.protogcn.head import Reconstruction
from stdcl.methods.prototypes import Batch, Compared, PrototypeMethod, cosines_to, cross_entropy, moved
from stdcl.seeding import torch_seed
from stdcl.taps import GRAPH

TERM = "contrast"


class PrototypeContrast(PrototypeMethod):
    """Class-specific contrast: the rebuilt graph of a sequence is classified by its cosine to class prototypes.

    Args:
        options: the method section of a run.
        task: the data and the run.
        shapes: of the encoder's features.
    """

    head: Reconstruction

    def __init__(self, options: ProtoGCNOptions, task: Task, shapes: FeatureShapes) -> None:
        super().__init__(task, task.num_classes, ["similarity"], options.embedding_dim, options.threshold, "protogcn")
        self._options = options
        self.taps = taps_of(options)
        subsets, joints, _ = shapes.taps[GRAPH]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(task.seed, "head"))
            self.head = Reconstruction(subsets, joints, options.prototypes, options.embedding_dim)

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Return ``{"features": (n, 1, D)}``."""
        graph = features.taps[GRAPH].to(self.head.fc.weight.dtype)
        return {"features": self.head(graph)[:, None]}

    def compare(self, batch: Batch) -> Compared:
        """Return the loss; its gradient also flows through the batch's share of the class prototypes."""
        options = self._options
        updated = moved(self.prototypes, batch.features, batch.parts.true_positives, options.momentum)
        logits = cosines_to(updated, batch.features) / options.temperature
        return Compared(cross_entropy(logits, batch.labels), updated.detach())

    def named(self, losses: Tensor) -> dict[str, Tensor]:
        """Return the one term."""
        return {TERM: losses[0]}

    def weights(self, epoch: int) -> Mapping[str, float]:
        """Return the term's weight, 0 before ``start_epoch``."""
        return {TERM: self._options.weight if epoch >= self._options.start_epoch else 0.0}
