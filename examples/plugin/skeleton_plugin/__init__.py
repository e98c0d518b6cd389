"""An encoder, a training method and a dataset for stdcl: their records, which import no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stdcl.config.section import EncoderOptions, MethodOptions, Positive
from stdcl.skeleton import Skeleton
from stdcl.specs import DatasetSpec, EncoderSpec, MethodSpec, SplitSpec


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

STICK = Skeleton(
    name="stick",
    joint_names=("hip", "head", "left hand", "right hand", "neck", "left foot", "right foot"),
    parents=(0, 4, 4, 4, 0, 0, 0),
    centre=0,
    origin=0,
)
STICK_CLASSES = ("wave", "bow", "jump")
STICKS = DatasetSpec(
    name="sticks",
    title="stick figures",
    prepare="skeleton_plugin.dataset:prepare",
    prepare_options=("raw",),
    synthesise="skeleton_plugin.dataset:synthesise",
    clip_suffixes=(".csv",),
    read_clips="skeleton_plugin.dataset:read_clips",
    protocols={"by-subject": SplitSpec("subject", frozenset({1, 2, 3}), None, num_train=90, num_test=60)},
    frames=16,
    skeleton=STICK,
    num_persons=1,
    classes=STICK_CLASSES,
)
