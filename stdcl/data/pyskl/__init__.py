"""Annotation pickles of PYSKL and MMAction2: poses of a detector in the plane, or Kinect's in space."""

from __future__ import annotations

from stdcl.specs import DatasetSpec

SPECS = (
    DatasetSpec(
        name="pyskl",
        title="an annotation pickle of PYSKL or MMAction2",
        prepare="stdcl.data.pyskl.prepare:prepare",
        prepare_options=("raw", "classes", "scores"),
        clip_suffixes=(".pkl",),
        read_clips="stdcl.data.pyskl.prepare:read_clips",
        export="stdcl.data.pyskl.export:export",
        recipe_family="ntu",
    ),
)
