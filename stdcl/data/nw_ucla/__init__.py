"""Northwestern-UCLA (Wang et al., "Cross-view Action Modeling, Learning and Recognition", CVPR 2014)."""

from __future__ import annotations

from stdcl.skeleton import NW_UCLA
from stdcl.specs import DatasetSpec, SplitSpec

CLASSES = (
    "pick up with one hand",
    "pick up with two hands",
    "drop trash",
    "walk around",
    "sit down",
    "stand up",
    "donning",
    "doffing",
    "throw",
    "carry",
)
"""Class names in the order of the labels."""

SPECS = (
    DatasetSpec(
        name="nw-ucla",
        title="NW-UCLA",
        prepare="stdcl.data.nw_ucla.prepare:prepare",
        prepare_options=("raw", "allow_partial"),
        clip_suffixes=(".json",),
        read_clips="stdcl.data.nw_ucla.raw:read_clips",
        synthesise="stdcl.data.nw_ucla.synthetic:synthesise",
        protocols={"cross-view": SplitSpec("view", frozenset({1, 2}), frozenset({3}), 1020, 464)},
        frames=52,
        loader="pick",
        skeleton=NW_UCLA,
        num_persons=1,
        classes=CLASSES,
        recipe="nw-ucla",
    ),
)
