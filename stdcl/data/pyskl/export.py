"""A store as an annotation pickle of PYSKL and MMAction2."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from stdcl import atomic
from stdcl.data.missing import missing
from stdcl.data.store import SequenceStore


def export(store: SequenceStore, out: Path, *, protocol: str) -> str:
    """Write all sequences and all protocols, see ``stdcl.data.export.Export``.

    Two-dimensional data get two coordinates and ``keypoint_score`` (0: missing; 1 where scores were not kept). Missing
    joints of three-dimensional data become zeros, as the format has no mark for them.
    """
    source = store.manifest.source
    flat = store.manifest.third == "score" or source.get("dimensions") == 2
    dtype = np.dtype(str(source.get("dtype", "float32")))
    annotations = []
    for record in store.records():
        x = record.values.transpose(1, 0, 2, 3)
        gone = missing(x) | ~np.asarray(np.any(x, axis=(2, 3)))[..., None]
        annotation: dict[str, Any] = {
            "frame_dir": record.id,
            "label": record.label,
            "total_frames": x.shape[1],
            "keypoint": np.where(gone[..., None], 0, x[..., : 2 if flat else 3]).astype(dtype),
        }
        if "image" in source:
            annotation |= {key: tuple(source["image"]) for key in ("img_shape", "original_shape")}
        if flat:
            score = x[..., 2] if store.manifest.third == "score" else np.ones_like(x[..., 2])
            annotation["keypoint_score"] = np.where(gone, 0, score).astype(dtype if dtype.kind == "f" else "f4")
        annotations.append(annotation)
    split: dict[str, list[str]] = {}
    named = source.get("split") if isinstance(source.get("split"), dict) else {}
    ids = np.asarray(store.ids)
    for name, rule in store.rules.items():
        titles = named.get(name) if named else None
        for title, mask in zip(titles or (f"{name}_train", f"{name}_val"), rule.masks(store), strict=True):
            split[title] = ids[mask].tolist()
    with atomic.staging_file(out) as part, part.open("wb") as stream:
        pickle.dump({"split": split, "annotations": annotations}, stream, protocol=4)
    said = (
        f"{out}: {len(annotations):,} annotations, {'two' if flat else 'three'}-dimensional, split {', '.join(split)}"
    )
    if flat and store.manifest.third != "score":
        said += "; the store has no scores: keypoint_score is 1 where a joint is there, else 0"
    return said
