"""GAP's layers: five vectors of a sequence in the space of the texts (section 3.3)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stdcl.errors import UserError
from stdcl.methods.gap.parts import PARTS, Joints


class PartHeads(nn.Module):
    """A linear map of the classifier's input, and one of the mean map of each part; and the scales of the cosines.

    Args:
        pooled: width of the classifier's input.
        channels: C of the feature map.
        num_joints: V of the feature map.
        parts: joints of each part.
        dim: D, width of the texts' features.
        scale: see the options.

    Raises:
        UserError: a part names a joint that the map does not have.
    """

    average: Tensor

    def __init__(
        self,
        pooled: int,
        channels: int,
        num_joints: int,
        parts: Joints,
        dim: int,
        scale: Literal["plain", "exponential"] = "plain",
    ) -> None:
        super().__init__()
        self.body = nn.Linear(pooled, dim)
        nn.init.kaiming_normal_(self.body.weight, mode="fan_out")
        nn.init.zeros_(self.body.bias)
        self.parts = nn.ModuleDict({name: nn.Linear(channels, dim) for name in PARTS})
        self.scale = nn.Parameter(torch.full((1 + len(PARTS),), math.log(1 / 0.07)))
        self._exponential = scale == "exponential"
        average = torch.zeros(len(PARTS), num_joints)
        for row, name in zip(average, PARTS, strict=True):
            outside = [joint for joint in parts[name] if not 0 <= joint < num_joints]
            if outside:
                raise UserError(f"GAP: part '{name}' names joint {outside[0]}; joints are 0 to {num_joints - 1}")
            row[list(parts[name])] = 1 / len(parts[name])
        self.register_buffer("average", average, persistent=False)

    def features(self, feature_map: Tensor, pooled: Tensor) -> Tensor:
        """Return (n, 5, D) for (n, M, C, T, V) and (n, C'): body, head, hand, hip, foot. Absent persons count."""
        places = feature_map.mean(dim=(1, 3), dtype=self.average.dtype)  # (n, C, V)
        by_part = torch.einsum("ncv,pv->pnc", places, self.average)
        each = [self.parts[name](part) for name, part in zip(PARTS, by_part, strict=True)]
        return torch.stack([self.body(pooled), *each], dim=1)

    def forward(self, feature_map: Tensor, pooled: Tensor) -> Tensor:
        """Return the unit features, times their scales: (n, 5, D). Their products with unit texts are the logits."""
        scale = self.scale.exp() if self._exponential else self.scale
        return functional.normalize(self.features(feature_map, pooled), dim=2) * scale[:, None]
