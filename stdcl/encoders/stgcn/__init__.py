"""ST-GCN (Yan et al., "Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action Recognition", 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from stdcl.config.section import EncoderOptions
from stdcl.specs import EncoderSpec, PublishedInput


class STGCNOptions(EncoderOptions):
    """ST-GCN (Yan et al., 2018)."""

    name: Literal["stgcn"]
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of a block's outputs that is dropped in training; not in the first block."""


def published_input(dataset: str, stream: str, shapes: Mapping[str, tuple[int, ...]]) -> PublishedInput:
    """Return what the public code's own NTU pipeline gives the network, as far as a configuration can repeat it."""
    return PublishedInput(
        {"data.convention": "plain", "data.align": False, "data.frames": 300},
        (
            "ST-GCN's own NTU files hold camera coordinates, not centred, and clips of 300 frames padded with zeros; "
            "such a checkpoint is not scored on what it was trained on",
        ),
    )


SPECS = (
    EncoderSpec(
        name="stgcn",
        title="ST-GCN",
        options=STGCNOptions,
        build="stdcl.encoders.stgcn.network:STGCN",
        # yysijie/st-gcn; its blocks count from 0.
        published=(
            (r"^in_bn\.", "data_bn."),
            (r"^fc\.", "fcn."),
            *((rf"^b{block}\.edge$", f"edge_importance.{block - 1}") for block in range(1, 11)),
            *((rf"^b{block}\.", f"st_gcn_networks.{block - 1}.") for block in range(1, 11)),
            (r"\.bn1\.", ".tcn.0."),
            (r"\.time\.", ".tcn.2."),
            (r"\.bn2\.", ".tcn.3."),
            (r"\.graph\.", ".gcn.conv."),
            (r"\.res\.conv\.", ".residual.0."),
            (r"\.res\.bn\.", ".residual.1."),
        ),
        adjacency="stdcl.skeleton:configuration_partition",
        published_input=published_input,
        recipes="stdcl:recipes/stgcn",
    ),
)
