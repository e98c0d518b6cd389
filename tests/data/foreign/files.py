"""Files in the formats of other projects, made from random numbers."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np


def pyskl_content(dimensions: int = 2, joints: int = 17, clips: int = 8, seed: int = 0) -> dict[str, Any]:
    """Annotations as PYSKL has them; in the plane, every seventh joint of the first clip was not detected."""
    rng = np.random.default_rng(seed)
    annotations = []
    for number in range(clips):
        shape = (1 + number % 2, 9 + number, joints)
        points = rng.uniform(100, 900, (*shape, dimensions))
        annotation: dict[str, Any] = {
            "frame_dir": f"S001C001P{1 + number:03d}R001A{1 + number % 3:03d}",
            "label": number % 3,
            "total_frames": shape[1],
            "img_shape": (1080, 1920),
            "original_shape": (1080, 1920),
            "keypoint": points.astype(np.float16 if dimensions == 2 else np.float32),
        }
        if dimensions == 2:
            score = rng.uniform(0.3, 1.0, shape).astype(np.float16)
            if number == 0:
                score[:, :, ::7] = 0
                annotation["keypoint"][score == 0] = 0
            annotation["keypoint_score"] = score
        annotations.append(annotation)
    names = [each["frame_dir"] for each in annotations]
    split = {"xsub_train": names[:5], "xsub_val": names[5:], "xview_train": names[::2], "xview_val": names[1::2]}
    return {"split": split, "annotations": annotations}


def write_pyskl(path: Path, protocol: int = 4, **how: Any) -> dict[str, Any]:
    content = pyskl_content(**how)
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return content


def write_ctrgcn(path: Path, classes: int = 60, frames: int = 40, **changes: Any) -> dict[str, np.ndarray]:
    """Padded arrays as CTR-GCN's preparation writes them; the second person is there in every other clip."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for part, clips in (("train", 6), ("test", 4)):
        x = np.zeros((clips, frames, 2, 25, 3), dtype=np.float32)
        for number in range(clips):
            x[number, : 10 + number, : 1 + number % 2] = rng.normal(size=(10 + number, 1 + number % 2, 25, 3))
        arrays[f"x_{part}"] = x.reshape(clips, frames, 150)
        arrays[f"y_{part}"] = np.eye(classes)[rng.integers(0, classes, clips)]
    arrays |= changes
    np.savez(path, **arrays)
    return arrays
