"""ProtoGCN's prototype reconstruction and class-specific contrast (Liu et al., CVPR 2025; as its public code).

Read in this order: ``head`` (the graph rebuilt from prototypes of motion), ``method`` (its contrast with prototypes of
the classes).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stdcl.config.section import MethodOptions, Natural, Positive
from stdcl.specs import MethodSpec
from stdcl.taps import GRAPH


class ProtoGCNOptions(MethodOptions):
    """ProtoGCN's contrast (Liu et al., 2025): the last graph, rebuilt from prototypes of motion, and class prototypes.

    Its public code drops 10 % of the rebuilt graph in training; here nothing is dropped.
    """

    name: Literal["protogcn"]
    prototypes: Positive = 100
    """Prototypes of motion that the graph is rebuilt from (public code: 100 for NTU60, 400 for NTU120)."""
    embedding_dim: Positive = 256
    """Width of the feature that is contrasted."""
    temperature: float = Field(default=0.125, gt=0)
    """Divides every cosine."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Share of the old class prototype in the new one."""
    threshold: float = Field(default=0.0, ge=0, lt=1)
    """A sequence moves its class's prototype if it is classified rightly, with a probability above this."""
    weight: float = Field(default=0.3, ge=0)
    """Of the loss (public code: 0.3 for NTU60, 0.2 for NTU120)."""
    start_epoch: Natural = 0
    """First epoch (from 0) whose loss holds the term; prototypes move from epoch 0."""


def taps_of(options: ProtoGCNOptions) -> tuple[str, ...]:
    """Return the names of the encoder's outputs that are read."""
    return (GRAPH,)


SPECS = (
    MethodSpec(
        name="protogcn",
        title="ProtoGCN's contrast",
        options=ProtoGCNOptions,
        build="stdcl.methods.protogcn.method:PrototypeContrast",
        taps=taps_of,
    ),
)
