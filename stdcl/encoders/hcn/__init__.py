"""HCN (Li et al., "Co-occurrence Feature Learning", IJCAI 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from stdcl.config.section import EncoderOptions, Positive
from stdcl.specs import EncoderSpec, PublishedInput


class HCNOptions(EncoderOptions):
    """HCN (Li et al., 2018)."""

    name: Literal["hcn"]
    hidden: Positive = 512
    """Width of the first fully connected layer."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    hook: Literal["final", "mid", "point"] = "final"
    """Where the contrastive head takes its feature map."""


def published_input(dataset: str, stream: str, shapes: Mapping[str, tuple[int, ...]]) -> PublishedInput:
    """Return what HCN-pytorch reads; its window and its hidden width are shapes of its parameters."""
    settings: dict[str, Any] = {"data.centre": "frame", "data.align": False}
    for name, key in (("conv2.weight", "data.frames"), ("fc7.0.weight", "encoder.hidden")):
        if name in shapes:
            settings[key] = shapes[name][0]
    if dataset == "nw-ucla":
        return PublishedInput(settings, ("no public HCN was trained on NW-UCLA; the input is that of its NTU code",))
    notes: tuple[str, ...] = (
        "that code takes the first two bodies of each frame in the file's order; here bodies are tracked and cleaned",
        "it leaves padded frames at zero; here there are none",
    )
    if stream != "joint":
        notes += ("it knows the joint stream alone; others are derived as CTR-GCN does",)
    return PublishedInput(settings, notes)


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
        published_input=published_input,
        recipes="stdcl:recipes/hcn",
    ),
)
