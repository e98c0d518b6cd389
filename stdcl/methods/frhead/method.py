"""FR-Head as a training method: heads at several depths, whose features are refined by class prototypes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stdcl.errors import UserError
from stdcl.methods.base import Features, FeatureShapes, Task
from stdcl.methods.frhead.head import RefinementHeads
from stdcl.methods.frhead.loss import refine
from stdcl.methods.frhead.options import FRHeadOptions, taps_of
from stdcl.methods.prototypes import Batch, Compared, PrototypeMethod
from stdcl.seeding import torch_seed


class FRHead(PrototypeMethod):
    """Feature refinement at several depths.

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
        self.taps = taps_of(options)
        if options.prototypes and options.prototypes < task.num_classes:
            raise UserError(
                f"method.prototypes is {options.prototypes}, but the data have {task.num_classes} classes; it must be "
                "at least that, or 0"
            )
        super().__init__(
            task,
            options.prototypes or task.num_classes,
            [f"{tap}/similarity_{kind}" for tap in self.taps for kind in ("spatial", "temporal")],
            options.embedding_dim,
            options.threshold,
            "frhead",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(task.seed, "head"))
            self.head = RefinementHeads({name: shapes.taps[name] for name in self.taps}, options.embedding_dim)

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Return ``{"features": (n, 2 L, D)}``."""
        return {"features": self.head(features.taps)}

    def compare(self, batch: Batch) -> Compared:
        """See `refine`."""
        return refine(batch, self.prototypes, self._options)

    def named(self, losses: Tensor) -> dict[str, Tensor]:
        """Return the loss of each depth, spatial and temporal added."""
        return dict(zip(self.taps, losses.view(-1, 2).sum(dim=1).unbind(), strict=True))

    def weights(self, epoch: int) -> Mapping[str, float]:
        """Return the weight of each depth, all 0 before ``start_epoch``."""
        options = self._options
        on = options.weight if epoch >= options.start_epoch else 0.0
        return {tap: on * weight for tap, weight in zip(self.taps, options.depth_weights, strict=True)}
