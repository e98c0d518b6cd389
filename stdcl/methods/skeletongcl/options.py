"""SkeletonGCL's options."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from stdcl.config.contrast import ContrastConfig
from stdcl.config.section import MethodOptions, Natural, Positive


class SkeletonGCLOptions(MethodOptions):
    """SkeletonGCL (Huang et al., 2023): contrast of the last block's graphs, as its public code has it (one bank)."""

    name: Literal["skeletongcl"]
    projection: Literal["trained", "frozen"] = "trained"
    """frozen: the projection stays at its random start, as in the public code, whose optimiser does not hold it."""
    weight: float = Field(default=1.0, ge=0)
    """Of the contrastive loss."""
    temperature: float = Field(default=0.8, gt=0)
    embedding_dim: Positive = 256
    """Width of the projected graph."""
    hard_positives: Positive = 128
    """Least similar slots of the anchor's class."""
    hard_negatives: Natural = 512
    """Most similar slots of other classes."""
    random_negatives: Natural = 512
    """Slots of other classes drawn at random, without replacement."""
    exclude_own_slot: bool = True
    """Whether an anchor's own slot is barred from its positives; false in the public code."""
    shortage: Literal["skip", "clamp"] = "skip"
    """An anchor with fewer candidates than asked for: leave it out, or use what exists (always so with slots: clip)."""
    slots: Literal["item", "clip"] = "item"
    """One slot per training item (a clip's repeats have their own), or one per clip."""
    start_epoch: Natural = 0
    """First epoch (from 0) whose loss holds the term; the bank is filled from epoch 0."""
    exchange: Literal["candidates", "allgather"] = "candidates"
    """What travels between ranks: anchors and candidates' scores, or the bank itself. Equal up to rounding."""

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("slots") == "clip":
            return {"shortage": "clamp", **given}
        return given

    @model_validator(mode="after")
    def _has_negatives(self) -> SkeletonGCLOptions:
        if self.hard_negatives + self.random_negatives == 0:
            raise ValueError("hard_negatives and random_negatives cannot both be 0: the loss needs negatives")
        return self

    def bank(self) -> ContrastConfig:
        """Return the options of the bank, its sampling and loss: those of one branch of STD-CL."""
        readings = {"exclude_own_slot": self.exclude_own_slot, "shortage": self.shortage, "slots": self.slots}
        own = {"name", "preset", "projection", "weight", "start_epoch", *readings}
        fixed = {"write": "before", "negative_sets": "separate", "reduction": "mean"}
        shared = self.model_dump(exclude=own)
        return ContrastConfig.model_validate({"strategy": "global", "readings": fixed | readings, **shared})
