"""The padded arrays of CTR-GCN's preparation: ``x_train``, ``y_train``, ``x_test``, ``y_test`` in one ``.npz``."""

from __future__ import annotations

from stdcl.specs import DatasetSpec

SPECS = (
    DatasetSpec(
        name="ctrgcn-npz",
        title="an .npz of CTR-GCN's preparation",
        prepare="stdcl.data.ctrgcn_npz.prepare:prepare",
        prepare_options=("raw", "classes"),
        clip_suffixes=(".npz",),
        read_clips="stdcl.data.ctrgcn_npz.prepare:read_clips",
        export="stdcl.data.ctrgcn_npz.export:export",
        recipe_family="ntu",
    ),
)
