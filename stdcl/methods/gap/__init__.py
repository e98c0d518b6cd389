"""GAP (Xiang et al., "Generative Action Description Prompts for Skeleton-based Action Recognition", ICCV 2023).

Features of the whole body and of four parts are matched with features of texts about their classes. The text tower is
frozen here: its features come from a file, or are random (a control that separates language from five heads with class
targets). Read in this order: ``options``, ``parts``, ``head``, ``loss``, ``prompts`` and ``texts``, ``method``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stdcl.methods.gap.options import GAPOptions
from stdcl.specs import FusionWeights, MethodSpec


def settle(options: Mapping[str, Any], data: Mapping[str, Any], encoder: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill the weight, which the public code sets by dataset, and the joint sets of its classes for bone streams."""
    out = {"weight": 1.0 if data.get("dataset") == "nw-ucla" else 0.8, **options}
    bone = str(data.get("stream", "joint")).removesuffix("-motion") in ("bone", "relative-1")
    if options.get("preset") == "release" and bone and str(data.get("dataset")).startswith("ntu"):
        out.setdefault("parts", "released-bone")
    return out


SPECS = (
    MethodSpec(
        name="gap",
        title="GAP",
        options=GAPOptions,
        build="stdcl.methods.gap.method:GAP",
        settle=settle,
        presets="stdcl.methods:gap/presets",
        fusion=FusionWeights("gap", {2: (1.0, 1.0), 4: (0.8, 0.8, 0.2, 0.2)}),
    ),
)
