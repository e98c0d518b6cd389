"""GAP's options."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from stdcl.config.section import MethodOptions, Natural, Positive
from stdcl.methods.gap.parts import PARTS

RANDOM = "random"
"""The value of ``texts`` that stands for no language at all."""


class GAPOptions(MethodOptions):
    """GAP (Xiang et al., 2023) with a frozen text tower: body and parts matched with texts about their classes."""

    name: Literal["gap"]
    texts: str = Field(default=RANDOM, min_length=1)
    """A file of text features (stdcl text-features), a relative one under $STDCL_DATA as data.path; or random:
    orthogonal vectors in their place, a control."""
    weight: float = Field(default=0.8, ge=0)
    """Of the mean of the five matching losses."""
    scale: Literal["plain", "exponential"] = "plain"
    """How the learned scale acts on cosines: as it is (the public code: about 2.66 at the start), or as its exponential
    (CLIP: about 14.3)."""
    parts: Literal["joint", "released-bone"] = "joint"
    """Joint sets of the four parts; released-bone: those of the public code's classes for bone streams."""
    part_joints: dict[str, tuple[Natural, ...]] = Field(default_factory=dict, strict=False)
    """Joints (from 0) of head, hand, hip and foot, for a skeleton whose parts are not known."""
    dim: Positive = 512
    """Width of random texts; a file has its own."""
    start_epoch: Natural = 0
    """First epoch (from 0) whose loss holds the term."""

    @model_validator(mode="after")
    def _parts_named(self) -> GAPOptions:
        if self.part_joints and sorted(self.part_joints) != sorted(PARTS):
            raise ValueError(f"part_joints names {', '.join(self.part_joints)}; it must name {', '.join(PARTS)}")
        empty = [name for name, joints in self.part_joints.items() if not joints]
        if empty:
            raise ValueError(f"part_joints: {', '.join(empty)} has no joint")
        return self
