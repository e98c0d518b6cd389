"""Datasets of one's own, described by a YAML file."""

from __future__ import annotations

from stdcl.specs import DatasetSpec

SPECS = (
    DatasetSpec(
        name="custom",
        title="a dataset of one's own",
        prepare="stdcl.data.custom.prepare:prepare",
        prepare_options=("spec",),
        clip_suffixes=(".npz", ".parquet"),
        read_clips="stdcl.data.custom.prepare:read_new_clips",
        # The recipes made for larger data with several persons.
        recipe="custom",
        recipe_family="ntu",
    ),
)
