"""CTR-GCN (Chen et al., "Channel-wise Topology Refinement Graph Convolution", ICCV 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from stdcl.config.section import EncoderOptions
from stdcl.encoders.renaming import GRAPH_SHELL, MULTI_SCALE
from stdcl.specs import EncoderSpec, FusionWeights, PublishedInput


class CTRGCNOptions(EncoderOptions):
    """CTR-GCN (Chen et al., 2021)."""

    name: Literal["ctrgcn"]


def published_input(dataset: str, stream: str, shapes: Mapping[str, tuple[int, ...]]) -> PublishedInput:
    """Return what CTR-GCN's code reads."""
    return PublishedInput(
        {
            "data.convention": "plain",
            "data.align": False,
            "data.centre": "clip",
            "data.frames": 52 if dataset == "nw-ucla" else 64,
        }
    )


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
        published_input=published_input,
        recipes="stdcl:recipes/ctrgcn",
        fusion=FusionWeights("ctr-gcn", {2: (1.0, 1.0), 3: (0.6, 0.6, 0.4), 4: (0.6, 0.6, 0.4, 0.4)}),
    ),
)
