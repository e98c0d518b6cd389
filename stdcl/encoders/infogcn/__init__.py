"""InfoGCN (Chi et al., "Representation Learning for Human Skeleton-based Action Recognition", CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from stdcl.config.section import EncoderOptions, Positive
from stdcl.encoders.renaming import MULTI_SCALE, SHELL
from stdcl.errors import UserError
from stdcl.specs import EncoderSpec, FusionWeights, PublishedInput


class InfoGCNOptions(EncoderOptions):
    """InfoGCN (Chi et al., 2022)."""

    name: Literal["infogcn"]
    heads: Positive = Field(default=3, le=64)
    """Each is a convolution of its own in every block."""
    noise_ratio: float = Field(default=0.5, ge=0)
    prior_gain: float = Field(default=3.0, gt=0)
    weight_class_mmd: float = Field(default=0.1, ge=0)
    """Weight of the distance between the class means of z and their priors."""
    weight_mean_mmd: float = Field(default=1e-4, ge=0)
    """Weight of the norm of the batch mean of z."""


def published_input(dataset: str, stream: str, shapes: Mapping[str, tuple[int, ...]]) -> PublishedInput:
    """Return what InfoGCN's code reads: its own relative positions, of aligned bodies on NTU."""
    if stream.startswith("bone"):
        own = stream.replace("bone", "relative-1")
        raise UserError(
            f"--stream {stream}: InfoGCN's code has no such stream; what it calls bone is {own} (each joint minus its"
            " parent, the root keeping its position)"
        )
    if dataset == "nw-ucla":
        return PublishedInput({"data.orientation": "children", "data.align": False, "data.frames": 52})
    return PublishedInput(
        {"data.orientation": "parent", "data.align": True, "data.frames": 64},
        ("that code leaves a person who is not in the first frame at zero; here such a person is turned and kept",),
    )


SPECS = (
    EncoderSpec(
        name="infogcn",
        title="InfoGCN",
        options=InfoGCNOptions,
        build="stdcl.encoders.infogcn.network:InfoGCN",
        published=(
            *MULTI_SCALE,
            *SHELL,
            (r"^pos$", "pos_embedding"),
            (r"^emb\.", "to_joint_embedding."),
            (r"^b(\d+)\.tcn\.", r"l\1.tcn."),
            (r"^b(\d+)\.gcn\.topo$", r"l\1.agcn.shared_topology"),
            (r"^b(\d+)\.gcn\.h(\d+)\.", r"l\1.agcn.conv_d.\2."),
            (r"^b(\d+)\.gcn\.ln\.", r"l\1.agcn.attn.ln."),
            (r"^b(\d+)\.gcn\.qk\.", r"l\1.agcn.attn.to_qk."),
            (r"^b(\d+)\.gcn\.", r"l\1.agcn."),
            (r"^mu\.", "fc_mu."),
            (r"^logvar\.", "fc_logvar."),
            (r"^dec\.", "decoder."),
        ),
        # The public code draws its priors anew; only training reads them.
        unpublished=frozenset({"priors"}),
        published_input=published_input,
        recipes="stdcl:recipes/infogcn",
        fusion=FusionWeights("infogcn", by_kind=(1.5, 1.0)),
    ),
)
