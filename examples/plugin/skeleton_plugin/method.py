"""Center loss (Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from skeleton_plugin import CenterLossOptions
from stdcl.methods.base import Features, FeatureShapes, Method, Step, Task
from stdcl.parallel.comm import Comm


class Centres(nn.Module):
    """A trained centre a class: (K, C)."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(classes, channels))

    def forward(self, pooled: Tensor) -> Tensor:
        """Return (n, K), half the squared distance of each sequence to each centre."""
        return (pooled[:, None] - self.centre).square().sum(2) / 2


class CenterLoss(Method):
    """Cross-entropy, and each sequence's distance to the centre of its class."""

    def __init__(self, options: CenterLossOptions, task: Task, shapes: FeatureShapes) -> None:
        self.head = Centres(task.num_classes, shapes.pooled)
        self._weight = options.weight

    def start(self, comm: Comm, device: torch.device, dtype: torch.dtype) -> None:
        """Keep the ranks, over which the loss is summed."""
        self._comm = comm

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Return the distances to all centres."""
        assert self.head is not None
        return {"distances": self.head(features.pooled)}

    def step(self, embeddings: Mapping[str, Tensor], step: Step) -> dict[str, Tensor]:
        """Return the mean distance over the global batch: this rank's gradient, every rank's value."""
        own = embeddings["distances"].gather(1, step.labels[:, None]).sum() / step.global_size
        whole = self._comm.all_reduce(own.detach().clone())
        return {"center": own + (whole - own.detach())}

    def weights(self, epoch: int) -> Mapping[str, float]:
        """Return the weight of the one term."""
        return {"center": self._weight}
