"""STD-CL as a training method: the decoupling head, the sharded banks and their loss (paper, section 3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stdcl.config.contrast import ContrastConfig
from stdcl.methods.base import Features, FeatureShapes, Task
from stdcl.methods.stdcl.banked import BankedMethod
from stdcl.methods.stdcl.head import DecouplingHead, branches_of, undecoupled
from stdcl.seeding import torch_seed


class STDCL(BankedMethod):
    """Spatial, temporal and global contrast, those that ``contrast.strategy`` names.

    Args:
        options: the contrast section of a run.
        task: the data and the run.
        shapes: of the encoder's features.

    Raises:
        UserError: no anchor could ever be active, or the head does not fit the encoder.
    """

    head: DecouplingHead

    def __init__(self, options: ContrastConfig, task: Task, shapes: FeatureShapes) -> None:
        super().__init__(options, branches_of(options.strategy), task)
        self._options = options
        self.remarks += undecoupled(self._branches, shapes.feature_map)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(task.seed, "head"))
            self.head = DecouplingHead(options, shapes.feature_map, shapes.pooled)

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Return ``{branch: (n, D)}`` (eq. 4-5)."""
        embeddings: dict[str, Tensor] = self.head(features.feature_map, features.pooled, features.present)
        return embeddings

    def weights(self, epoch: int) -> Mapping[str, float]:
        """Return w_s and w_t of eq. 10 and the global weight, all 0 before ``start_epoch``."""
        options = self._options
        if epoch < options.start_epoch:
            return dict.fromkeys(self._branches, 0.0)
        by_branch = {
            "spatial": options.weight_spatial,
            "temporal": options.weight_temporal,
            "global": options.weight_global,
        }
        return {branch: by_branch[branch] for branch in self._branches}
