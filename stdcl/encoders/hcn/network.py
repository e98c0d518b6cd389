"""HCN: joints become the channels of a convolutional network (Li et al., "Co-occurrence Feature Learning", IJCAI 2018).

Two equal branches, of positions and of their differences in time, read each person; from ``conv3`` on the second
image axis is the former feature axis, so only the maps up to ``conv2`` still know joints.

Everything is laid out channels-last. Pooling goes before the activation and the dropout wherever the published
network has it after them: a maximum commutes with both (neither reorders the values of a channel), and a quarter of
the values is left for them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stdcl.encoders.base import Encoder, EncoderOutput, FeatureAxes, Layout
from stdcl.encoders.keyed import keyed_dropout
from stdcl.errors import UserError

Hook = Literal["final", "mid", "point"]

_HALVINGS = 16
_SITE_POSITION, _SITE_MOTION, _SITE_CONV5, _SITE_CONV6, _SITE_FC7 = range(5)


class _Branch(nn.Module):
    """conv1 to conv4 of one branch, on (R, 3, T, V) channels-last images of R sequences and persons."""

    def __init__(self, num_joints: int, num_frames: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 1)
        self.conv2 = nn.Conv2d(64, num_frames, (3, 1), padding=(1, 0))
        self.conv3 = nn.Conv2d(num_joints, 32, 3, padding=1)
        self.conv4 = nn.Conv2d(32, 64, 3, padding=1)

    def point(self, x: Tensor) -> Tensor:
        """Return the map of each joint: (R, W, T, V), channels-last."""
        out: Tensor = self.conv2(F.relu(self.conv1(x)))
        return out

    def co_occurrence(self, point: Tensor) -> Tensor:
        """Return the map over time and features, (R, 64, T // 4, W // 4), before dropout."""
        swapped = point.permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(self.conv3(swapped), 2)
        return F.max_pool2d(self.conv4(x), 2)


class HCN(Encoder):
    """The hierarchical co-occurrence network.

    The window, its clip length, is fixed by the layout: ``conv2`` has as many channels as there are frames. With one
    person the maximum over persons is the identity.

    Args:
        layout: what is read; at least 16 frames.
        hidden: width of the first fully connected layer.
        dropout: rate after conv4, conv5, conv6 (whole channels) and fc7.
        hook: the map handed to the contrastive head. ``final``: conv6 after the maximum over persons, (256, T//16,
            T//16), the classifier's input. ``mid``: the branches' joined map after conv4, (128, T//4, T//4).
            ``point``: conv2 of both branches, (2 T, T, V), the last that knows joints. All after the maximum over
            persons, so M is 1.

    Raises:
        UserError: if the layout has fewer than 16 frames.
    """

    def __init__(self, layout: Layout, *, hidden: int = 512, dropout: float = 0.5, hook: Hook = "final") -> None:
        super().__init__(layout)
        self.axes = FeatureAxes(frames=True, joints=hook == "point")
        frames = layout.num_frames
        if frames < _HALVINGS:
            raise UserError(f"HCN: data.frames is {frames}; its four halvings need at least {_HALVINGS}")
        self.hook = hook
        self.dropout = dropout
        self.position = _Branch(layout.num_joints, frames)
        self.motion = _Branch(layout.num_joints, frames)
        self.conv5 = nn.Conv2d(128, 128, 3, padding=1)
        self.conv6 = nn.Conv2d(128, 256, 3, padding=1)
        self.fc7 = nn.Linear(256 * (frames // _HALVINGS) ** 2, hidden)
        self.fc8 = nn.Linear(hidden, layout.num_classes)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, *, keys: Tensor | None = None, labels: Tensor | None = None) -> EncoderOutput:
        self.check_input(x)
        n, _, frames, joints, persons = x.shape
        if frames != self.layout.num_frames:
            raise UserError(f"HCN: {frames} frames; this network is built for a window of {self.layout.num_frames}")
        images = x.permute(0, 4, 2, 3, 1).reshape(n * persons, frames, joints, 3).contiguous()
        point_p = self.position.point(images.permute(0, 3, 1, 2))
        point_m = self.motion.point(frame_differences(images).permute(0, 3, 1, 2))
        mid = torch.cat(
            [
                self._drop_channels(self.position.co_occurrence(point_p), keys, _SITE_POSITION, persons),
                self._drop_channels(self.motion.co_occurrence(point_m), keys, _SITE_MOTION, persons),
            ],
            dim=1,
        )
        deep = self._drop_channels(F.relu(F.max_pool2d(self.conv5(mid), 2)), keys, _SITE_CONV5, persons)
        deep = self._drop_channels(F.relu(F.max_pool2d(self.conv6(deep), 2)), keys, _SITE_CONV6, persons)
        final = _over_persons(deep, persons)
        pooled = final.flatten(1)
        hidden = keyed_dropout(F.relu(self.fc7(pooled)), self.dropout, keys, _SITE_FC7, training=self.training)
        match self.hook:
            case "final":
                feature_map = final
            case "mid":
                feature_map = _over_persons(mid, persons)
            case "point":
                feature_map = _over_persons(torch.cat([point_p, point_m], dim=1), persons)
        return EncoderOutput(self.fc8(hidden), feature_map.unsqueeze(1), pooled)

    def _drop_channels(self, x: Tensor, keys: Tensor | None, site: int, persons: int) -> Tensor:
        """Drop whole channels of (N * M, C, H, W), each person's own."""
        if not self.training or self.dropout == 0:
            return x
        split = x.view(x.shape[0] // persons, persons, *x.shape[1:])
        return keyed_dropout(split, self.dropout, keys, site, training=True, axes=2).flatten(0, 1)


def frame_differences(x: Tensor) -> Tensor:
    """Return x[t+1] - x[t] along axis 1, stretched from T - 1 back to T by linear interpolation (half-pixel centres).

    Args:
        x: (R, T, ...), T at least 2.
    """
    frames = x.shape[1]
    steps = x[:, 1:] - x[:, :-1]
    # Sources (t + 1/2) (T - 1) / T - 1/2, clamped: between t - 1 and t, with weight (t + 1/2) / T on the earlier.
    t = torch.arange(1, frames - 1, device=x.device, dtype=torch.float64)
    earlier = ((t + 0.5) / frames).to(x.dtype).view(1, -1, *([1] * (x.dim() - 2)))
    middle = steps[:, :-1] * earlier + steps[:, 1:] * (1 - earlier)
    return torch.cat([steps[:, :1], middle, steps[:, -1:]], dim=1)


def _over_persons(x: Tensor, persons: int) -> Tensor:
    """Element-wise maximum over persons: (N * M, C, H, W) to (N, C, H, W)."""
    return x if persons == 1 else x.view(x.shape[0] // persons, persons, *x.shape[1:]).amax(1)
