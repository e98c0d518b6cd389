"""Hyperformer (Zhou et al., "Hypergraph Transformer for Skeleton-based Action Recognition", 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from stdcl.config.section import Auto, EncoderOptions
from stdcl.encoders.renaming import MULTI_SCALE, SHELL
from stdcl.specs import EncoderSpec, FusionWeights, PublishedInput, datasets


class HyperformerOptions(EncoderOptions):
    """Hyperformer (Zhou et al., 2022)."""

    name: Literal["hyperformer"]
    hyperedges: Annotated[str, Auto()]
    """Which of the skeleton's joint groupings to use; auto: the published one for the stream."""


def settle(options: Mapping[str, Any], data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Choose the published joint grouping: on NW-UCLA the bone streams have one of their own."""
    if options.get("hyperedges", "auto") != "auto":
        return options
    dataset = datasets().get(str(data.get("dataset")))
    groupings = dataset.skeleton.hyperedges if dataset is not None and dataset.skeleton is not None else {}
    bone = str(data.get("stream", "joint")).startswith("bone")
    return {**options, "hyperedges": "bone" if bone and "bone" in groupings else "default"}


def published_input(dataset: str, stream: str, shapes: Mapping[str, tuple[int, ...]]) -> PublishedInput:
    """Return what Hyperformer's code reads: joints relative to the centre, and its grouping for the stream."""
    grouping = "bone" if dataset == "nw-ucla" and stream.startswith("bone") else "default"
    return PublishedInput(
        {
            "data.convention": "centred",
            "data.align": False,
            "data.centre": "clip",
            "data.frames": 52 if dataset == "nw-ucla" else 64,
            "encoder.hyperedges": grouping,
        }
    )


SPECS = (
    EncoderSpec(
        name="hyperformer",
        title="Hyperformer",
        options=HyperformerOptions,
        build="stdcl.encoders.hyperformer.network:Hyperformer",
        convention="centred",
        settle=settle,
        paper_name="Hyperformer",
        published=(
            *MULTI_SCALE,
            *SHELL,
            (r"^b(\d+)\.tcn\.", r"l\1.tcn1."),
            (r"^b(\d+)\.skip\.", r"l\1.vit1.skip_proj."),
            (r"^b(\d+)\.att\.e\.", r"l\1.vit1.pe_proj."),
            (r"^b(\d+)\.att\.ln\.", r"l\1.vit1.norm1."),
            (r"^b(\d+)\.att\.", r"l\1.vit1.attn."),
        ),
        published_input=published_input,
        recipes="stdcl:recipes/hyperformer",
        fusion=FusionWeights("hyperformer", {4: (0.4, 0.6, 0.2, 0.2)}, {"nw-ucla": {4: (0.4, 0.4, 0.3, 0.2)}}),
    ),
)
