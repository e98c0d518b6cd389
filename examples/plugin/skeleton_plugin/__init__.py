"""An encoder and a training method for stdcl: their records, which import no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stdcl.config.section import EncoderOptions, MethodOptions, Positive
from stdcl.specs import EncoderSpec, MethodSpec


class MeanPoseOptions(EncoderOptions):
    """Two 1x1 convolutions, then the mean."""

    name: Literal["mean_pose"]
    width: Positive = 32
    """Channels of both convolutions."""


class CenterLossOptions(MethodOptions):
    """Center loss (Wen et al., ECCV 2016), with the centres as parameters."""

    name: Literal["center_loss"]
    weight: float = Field(default=0.01, ge=0)
    """Of the squared distance to the class's centre."""


MEAN_POSE = EncoderSpec(
    name="mean_pose", title="mean pose", options=MeanPoseOptions, build="skeleton_plugin.encoder:MeanPose"
)
CENTER_LOSS = MethodSpec(
    name="center_loss", title="center loss", options=CenterLossOptions, build="skeleton_plugin.method:CenterLoss"
)
