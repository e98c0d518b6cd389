"""The network of 2s-AGCN (Shi et al., "Two-Stream Adaptive Graph Convolutional Networks", CVPR 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from stdcl.config.section import EncoderOptions
from stdcl.encoders.renaming import GRAPH_SHELL
from stdcl.specs import EncoderSpec, FusionWeights, PublishedInput


class AGCNOptions(EncoderOptions):
    """2s-AGCN (Shi et al., 2019)."""

    name: Literal["agcn"]


def published_input(dataset: str, stream: str, shapes: Mapping[str, tuple[int, ...]]) -> PublishedInput:
    """Return what the network reads in CTR-GCN's framework."""
    older = (
        "2s-AGCN's own older code has the same parameters but another input: 300 frames, centred in each frame, bodies "
        "turned once per clip, padded by repetition; such a checkpoint is not scored on what it was trained on"
    )
    return PublishedInput(
        {
            "data.convention": "plain",
            "data.align": False,
            "data.centre": "clip",
            "data.frames": 52 if dataset == "nw-ucla" else 64,
        },
        () if dataset == "nw-ucla" else (older,),
    )


SPECS = (
    EncoderSpec(
        name="agcn",
        title="2s-AGCN",
        options=AGCNOptions,
        build="stdcl.encoders.agcn.network:AGCN",
        paper_name="2S-AGCN",
        # As trained in CTR-GCN's framework, without or with its constant adjacency.
        published=(
            *GRAPH_SHELL,
            (r"\.gcn1\.B$", ".gcn1.PA"),
            (r"\.s(\d)\.theta\.", r".conv_a.\1."),
            (r"\.s(\d)\.phi\.", r".conv_b.\1."),
            (r"\.s(\d)\.out\.", r".conv_d.\1."),
        ),
        published_input=published_input,
        recipes="stdcl:recipes/agcn",
        fusion=FusionWeights("2s-agcn", {2: (1.0, 1.0)}),
    ),
)
