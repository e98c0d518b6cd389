"""HCN (Li et al., "Co-occurrence Feature Learning", IJCAI 2018)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stdcl.config.section import EncoderOptions, Positive
from stdcl.specs import EncoderSpec


class HCNOptions(EncoderOptions):
    """HCN (Li et al., 2018)."""

    name: Literal["hcn"]
    hidden: Positive = 512
    """Width of the first fully connected layer."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    hook: Literal["final", "mid", "point"] = "final"
    """Where the contrastive head takes its feature map."""


SPECS = (
    EncoderSpec(
        name="hcn",
        title="HCN",
        options=HCNOptions,
        build="stdcl.encoders.hcn.network:HCN",
        feature_options=("hook",),
        published=(
            (r"^position\.(conv[134])\.", r"\1.0."),
            (r"^position\.", ""),
            (r"^motion\.(conv[134])\.", r"\1m.0."),
            (r"^motion\.(conv2)\.", r"\1m."),
            (r"^(conv[56]|fc7)\.", r"\1.0."),
        ),
        recipes="stdcl:recipes/hcn",
    ),
)
