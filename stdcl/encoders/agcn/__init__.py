"""The network of 2s-AGCN (Shi et al., "Two-Stream Adaptive Graph Convolutional Networks", CVPR 2019)."""

from __future__ import annotations

from typing import Literal

from stdcl.config.section import EncoderOptions
from stdcl.encoders.renaming import GRAPH_SHELL
from stdcl.specs import EncoderSpec, FusionWeights


class AGCNOptions(EncoderOptions):
    """2s-AGCN (Shi et al., 2019)."""

    name: Literal["agcn"]


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
        recipes="stdcl:recipes/agcn",
        fusion=FusionWeights("2s-agcn", {2: (1.0, 1.0)}),
    ),
)
