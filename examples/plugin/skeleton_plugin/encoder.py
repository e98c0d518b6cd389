"""A small encoder: two 1x1 convolutions, then the mean over frames, joints and persons."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skeleton_plugin import MeanPoseOptions
from stdcl.encoders.base import Encoder, EncoderOutput, Layout
from stdcl.encoders.graph import InputNorm, pool
from stdcl.encoders.layers import Pointwise
from stdcl.parallel.batch_norm import BatchNorm


class MeanPose(Encoder):
    """An encoder with a record, ``skeleton_plugin.MEAN_POSE``: ``encoder: {name: mean_pose}``."""

    def __init__(self, layout: Layout, width: int) -> None:
        super().__init__(layout)
        self.in_bn = InputNorm(layout.num_persons, layout.num_joints)
        self.first = Pointwise(3, width)
        self.bn = BatchNorm(width)
        self.second = Pointwise(width, width)
        self.fc = nn.Linear(width, layout.num_classes)

    def forward(self, x: Tensor, *, keys: Tensor | None = None, labels: Tensor | None = None) -> EncoderOutput:
        """Encode (N, 3, T, V, M)."""
        self.check_input(x)
        features = self.bn(self.first(self.in_bn(x)), relu=True)  # (N M, V, T, C)
        features = torch.relu(self.second(features))
        feature_map, pooled = pool(features, self.layout.num_persons)
        return EncoderOutput(self.fc(pooled), feature_map, pooled)


class PlainOptions(MeanPoseOptions):
    """The same options under a name that is the import path."""

    name: str  # type: ignore[assignment]


class MeanPosePlain(MeanPose):
    """The same without a record: ``encoder: {name: "skeleton_plugin.encoder:MeanPosePlain"}``."""

    options = PlainOptions
