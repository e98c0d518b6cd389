"""SkeletonGCL as a training method: the projection, and the sharded bank that STD-CL uses, with one branch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from stdcl.methods.base import Features, FeatureShapes, Task
from stdcl.methods.skeletongcl.head import Projection
from stdcl.methods.skeletongcl.options import SkeletonGCLOptions
from stdcl.methods.stdcl.banked import BankedMethod
from stdcl.seeding import torch_seed
from stdcl.taps import GRAPH


class SkeletonGCL(BankedMethod):
    """Contrast of the last block's graphs.

    Args:
        options: the method section of a run.
        task: the data and the run.
        shapes: of the encoder's features; the encoder offers the tap ``graph``.

    Raises:
        UserError: no anchor of some class could ever be active.
    """

    taps = (GRAPH,)
    head: Projection

    def __init__(self, options: SkeletonGCLOptions, task: Task, shapes: FeatureShapes) -> None:
        super().__init__(options.bank(), (GRAPH,), task)
        self._options = options
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(task.seed, "head"))
            places = math.prod(shapes.taps[GRAPH])
            self.head = Projection(places, options.embedding_dim, task.num_classes, options.projection)

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Return ``{"graph": (n, D)}``."""
        return {GRAPH: self.head(features.taps[GRAPH])}

    def weights(self, epoch: int) -> Mapping[str, float]:
        """Return the weight of the term, 0 before ``start_epoch``."""
        return {GRAPH: self._options.weight if epoch >= self._options.start_epoch else 0.0}
