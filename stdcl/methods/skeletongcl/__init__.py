"""SkeletonGCL (Huang et al., "Graph Contrastive Learning for Skeleton-Based Action Recognition", ICLR 2023).

The graph that the last block refines from a sequence is projected to a vector, and the vectors of all training items
are contrasted through a bank, with the sampling and loss that STD-CL took over. Read in this order: ``options``,
``head``, ``method``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stdcl.methods.skeletongcl.options import SkeletonGCLOptions
from stdcl.specs import MethodSpec
from stdcl.taps import GRAPH

STREAMS = ("joint", "bone", "joint-motion", "bone-motion")
# Encoder -> (dataset, protocol) -> the temperature of each stream in the public scripts.
TEMPERATURES: Mapping[str, Mapping[tuple[str, str], tuple[float, ...]]] = {
    "ctrgcn": {
        ("ntu60", "x-sub"): (0.8, 0.5, 0.5, 0.5),
        ("ntu60", "x-view"): (0.8, 0.5, 1.0, 0.8),
        ("ntu120", "x-sub"): (0.8, 0.5, 0.8, 1.0),
        ("ntu120", "x-set"): (0.5, 0.5, 0.5, 0.5),
    },
    "agcn": {
        ("ntu60", "x-sub"): (0.5, 1.0, 0.5, 1.0),
        ("ntu60", "x-view"): (0.8, 0.8, 1.0, 0.5),
        ("ntu120", "x-sub"): (1.0, 1.0, 0.5, 0.5),
        ("ntu120", "x-set"): (0.8, 0.5, 1.0, 0.5),
    },
}
ELSEWHERE = 0.8
"""The default of the public scripts, which those for NW-UCLA leave as it is."""


def settle(options: Mapping[str, Any], data: Mapping[str, Any], encoder: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill what ``preset: release`` stands for: a projection without training, own slots kept, the temperature."""
    if options.get("preset") != "release":
        return options
    by_place = TEMPERATURES.get(str(encoder.get("name")), {})
    chosen = by_place.get((str(data.get("dataset")), str(data.get("protocol"))), ())
    by_stream = dict(zip(STREAMS, chosen, strict=False))
    released = {
        "projection": "frozen",
        "exclude_own_slot": False,
        "temperature": by_stream.get(str(data.get("stream", "joint")), ELSEWHERE),
    }
    return {**released, **options}


SPECS = (
    MethodSpec(
        name="skeletongcl",
        title="SkeletonGCL",
        options=SkeletonGCLOptions,
        build="stdcl.methods.skeletongcl.method:SkeletonGCL",
        taps=lambda options: (GRAPH,),
        settle=settle,
        unscientific=("preset", "exchange"),
    ),
)
