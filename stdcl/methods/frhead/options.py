"""FR-Head's options."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from stdcl.config.section import MethodOptions, Natural, Positive
from stdcl.taps import block_tap


class FRHeadOptions(MethodOptions):
    """FR-Head (Zhou et al., 2023): feature refinement at several depths, by class prototypes."""

    name: Literal["frhead"]
    version: Literal["v1", "v0", "v2"] = "v1"
    """Whom the penalties affect. v1: true positives, on the logit of their class (the paper's equation); v0: every
    sample (the public code's default); v2: every sample, on the logits of all classes (an ablation of the code)."""
    penalties: Literal["both", "false-negatives", "false-positives", "none"] = "both"
    """Which means of ambiguous samples penalise."""
    depths: tuple[Positive, ...] = Field(default=(1, 5, 8, 10), min_length=1, strict=False)
    """The blocks (from 1) whose outputs are refined."""
    depth_weights: tuple[float, ...] = Field(default=(0.1, 0.2, 0.5, 1.0), min_length=1, strict=False)
    """Weight of each depth's loss, beside weight."""
    weight: float = Field(default=0.1, ge=0)
    """Of the sum over depths."""
    embedding_dim: Positive = 256
    """Width of the features, and about that of the squeezed maps."""
    temperature: float = Field(default=0.125, gt=0)
    """Divides every logit."""
    penalty: float = Field(default=0.125, ge=0)
    """Factor of the penalties of v0 and v1; by default the temperature, as in the paper's equation."""
    weighting: bool = True
    """Whether 1 - p of a sample's own class weighs its penalties (v0 and v1)."""
    threshold: float = Field(default=0.0, ge=0, lt=1)
    """A true positive's probability of its own class must be above it."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Share of the old prototype in the new one."""
    prototypes: Natural = 0
    """Prototypes for so many classes, at least the dataset's; 0: the dataset's. Those of no class stay random and act
    as negatives, as in the public NTU60 models."""
    start_epoch: Natural = 0
    """First epoch (from 0) whose loss holds the terms; prototypes move from epoch 0."""

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, given: Any) -> Any:
        if isinstance(given, dict) and "temperature" in given:
            return {"penalty": given["temperature"], **given}
        return given

    @model_validator(mode="after")
    def _fits(self) -> FRHeadOptions:
        if len(self.depths) != len(self.depth_weights):
            raise ValueError(
                f"depth_weights has {len(self.depth_weights)} values, but depths has {len(self.depths)}: give one each"
            )
        if list(self.depths) != sorted(set(self.depths)):
            raise ValueError(f"depths {list(self.depths)} must increase")
        return self


def taps_of(options: FRHeadOptions) -> tuple[str, ...]:
    """Return the names of the encoder's outputs that are refined."""
    return tuple(block_tap(depth) for depth in options.depths)
