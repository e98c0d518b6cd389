"""The prototype reconstruction network: the graph of a sequence as a mixture of learned prototypes of motion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stdcl.parallel.batch_norm import BatchNorm


class Reconstruction(nn.Module):
    """``fc(mean over S of ReLU(BN(post(memory softmax(query g)))))`` of each pair of joints' relation g (S,).

    Args:
        subsets: S, relations per pair of joints.
        joints: V.
        prototypes: P.
        dim: D, width of the feature.
    """

    def __init__(self, subsets: int, joints: int, prototypes: int, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(subsets, prototypes, bias=False)
        self.memory = nn.Linear(prototypes, subsets, bias=False)
        self.post = nn.Linear(subsets, subsets)
        self.bn = BatchNorm(subsets)
        self.fc = nn.Linear(joints * joints, dim)

    def forward(self, graph: Tensor) -> Tensor:
        """Map (n, S, V, V) to (n, D)."""
        pairs = graph.flatten(2).transpose(1, 2)  # (n, V V, S)
        rebuilt = self.memory(torch.softmax(self.query(pairs), dim=-1))
        feature: Tensor = self.fc(self.bn(self.post(rebuilt), relu=True).mean(dim=2))
        return feature
