"""SkeletonGCL's projection: a graph, flattened, to a vector (section 3.2)."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from stdcl.methods.stdcl.head import init_projection


class Projection(nn.Module):
    """One linear map of the flattened graph: subset, then receiving joint, then sending joint.

    Args:
        places: S V V, numbers of a graph.
        dim: D.
        num_classes: K, on which the public code's start depends.
        projection: ``frozen``: weights from N(0, 2/K), never trained, as in the public code; ``trained``: the start of
            STD-CL's projections, whose rows do not depend on K.
    """

    def __init__(self, places: int, dim: int, num_classes: int, projection: Literal["trained", "frozen"]) -> None:
        super().__init__()
        self.project = nn.Linear(places, dim)
        init_projection(self.project)
        if projection == "frozen":
            nn.init.normal_(self.project.weight, 0.0, math.sqrt(2.0 / num_classes))
            self.requires_grad_(False)

    def forward(self, graph: Tensor) -> Tensor:
        """Map (n, S, V, V) to (n, D), not normalised."""
        projected: Tensor = self.project(graph.flatten(1).to(self.project.weight.dtype))
        return projected
