"""FR-Head (Zhou et al., "Learning Discriminative Representations for Skeleton Based Action Recognition", CVPR 2023).

Read in this order: ``options``, ``head`` (features at several depths), ``loss`` (prototypes and ambiguous samples),
``method`` (all of it over ranks).
"""

from __future__ import annotations

from stdcl.methods.frhead.options import FRHeadOptions, taps_of
from stdcl.specs import FusionWeights, MethodSpec

SPECS = (
    MethodSpec(
        name="frhead",
        title="FR-Head",
        options=FRHeadOptions,
        build="stdcl.methods.frhead.method:FRHead",
        taps=taps_of,
        presets="stdcl.methods:frhead/presets",
        fusion=FusionWeights(
            "fr-head",
            {2: (1.0, 1.0), 4: (0.6, 0.6, 0.4, 0.4)},
            {
                "ntu120": {2: (1.0, 1.0), 4: (0.6, 0.75, 0.3, 0.15)},
                "ntu60/x-sub": {2: (1.0, 1.0), 4: (2.0, 2.0, 1.0, 1.0)},
            },
        ),
    ),
)
