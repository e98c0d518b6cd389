"""ProtoGCN (Liu et al., "Revealing Key Details to See Differences", CVPR 2025): the network.

Its class-specific contrast of prototypes is a method of its own, `stdcl.methods.protogcn`.
"""

from __future__ import annotations

from typing import Literal

from stdcl.config.section import EncoderOptions
from stdcl.specs import EncoderSpec


class ProtoGCNOptions(EncoderOptions):
    """ProtoGCN's network (Liu et al., 2025); its own contrast is ``method: {name: protogcn}``."""

    name: Literal["protogcn"]


SPECS = (
    EncoderSpec(
        name="protogcn",
        title="ProtoGCN",
        options=ProtoGCNOptions,
        build="stdcl.encoders.protogcn.network:ProtoGCN",
        recipes="stdcl:recipes/protogcn",
    ),
)
