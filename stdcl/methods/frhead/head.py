"""FR-Head's layers: a spatial and a temporal feature from the map of each of several blocks (section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stdcl.errors import UserError
from stdcl.parallel.batch_norm import BatchNorm


class Squeeze(nn.Module):
    """One feature of one map: ``fc(flatten(ReLU(BN(squeeze(x)))))``, flattened channel by channel.

    Args:
        channels: C of the map.
        places: joints, or frames, of the map.
        dim: D, width of the feature; each place is squeezed to ``floor(D / places)`` channels.
    """

    def __init__(self, channels: int, places: int, dim: int) -> None:
        super().__init__()
        reduced = dim // places
        self.squeeze = nn.Linear(channels, reduced)
        self.bn = BatchNorm(reduced)
        self.fc = nn.Linear(reduced * places, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, places, C) to (n, D)."""
        squeezed = self.bn(self.squeeze(x), relu=True)
        feature: Tensor = self.fc(squeezed.transpose(1, 2).flatten(1))
        return feature


class Depth(nn.Module):
    """The spatial and the temporal feature of one block's map."""

    def __init__(self, channels: int, frames: int, joints: int, dim: int) -> None:
        super().__init__()
        self.spatial = Squeeze(channels, joints, dim)
        self.temporal = Squeeze(channels, frames, dim)
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, M, C, T, V) in any precision to (n, 2, D): spatial, temporal. Absent persons count in the mean."""
        dtype = self.spatial.fc.weight.dtype
        over_frames = x.mean(dim=(1, 3), dtype=dtype).transpose(1, 2)
        over_joints = x.mean(dim=(1, 4), dtype=dtype).transpose(1, 2)
        return torch.stack([self.spatial(over_frames), self.temporal(over_joints)], dim=1)


class RefinementHeads(nn.ModuleDict):
    """A ``Depth`` for each tapped block, by the tap's name.

    Args:
        shapes: (M, C, T, V) of each tap.
        dim: D.

    Raises:
        UserError: a map has more joints or frames than D, or is no map.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dim: int) -> None:
        super().__init__()
        for name, shape in shapes.items():
            _, channels, frames, joints = shape
            if max(frames, joints) > dim:
                raise UserError(
                    f"method.embedding_dim is {dim}, but {name} has {frames} frames and {joints} joints; it must be at "
                    f"least {max(frames, joints)}"
                )
            self[name] = Depth(channels, frames, joints, dim)

    def forward(self, taps: Mapping[str, Tensor]) -> Tensor:
        """Return (n, 2 L, D): spatial and temporal of the first depth, then of the next."""
        return torch.cat([depth(taps[name]) for name, depth in self.items()], dim=1)
