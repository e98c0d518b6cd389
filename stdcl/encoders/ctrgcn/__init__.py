"""CTR-GCN (Chen et al., "Channel-wise Topology Refinement Graph Convolution", ICCV 2021)."""

from __future__ import annotations

from typing import Literal

from stdcl.config.section import EncoderOptions
from stdcl.encoders.renaming import GRAPH_SHELL, MULTI_SCALE
from stdcl.specs import EncoderSpec, FusionWeights


class CTRGCNOptions(EncoderOptions):
    """CTR-GCN (Chen et al., 2021)."""

    name: Literal["ctrgcn"]


SPECS = (
    EncoderSpec(
        name="ctrgcn",
        title="CTR-GCN",
        options=CTRGCNOptions,
        build="stdcl.encoders.ctrgcn.network:CTRGCN",
        paper_name="CTR-AGCN",
        published=(
            *MULTI_SCALE,
            *GRAPH_SHELL,
            (r"\.gcn1\.A$", ".gcn1.PA"),
            (r"\.s(\d)\.q\.", r".convs.\1.conv1."),
            (r"\.s(\d)\.k\.", r".convs.\1.conv2."),
            (r"\.s(\d)\.v\.", r".convs.\1.conv3."),
            (r"\.s(\d)\.r\.", r".convs.\1.conv4."),
        ),
        recipes="stdcl:recipes/ctrgcn",
        fusion=FusionWeights("ctr-gcn", {2: (1.0, 1.0), 3: (0.6, 0.6, 0.4), 4: (0.6, 0.6, 0.4, 0.4)}),
    ),
)
