"""The loaders equal the published ones, as recorded in ``tests/golden/data_pipeline.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stdcl.data import augment
from stdcl.data.dataset import SkeletonDataset, Transform
from stdcl.data.protocols import split
from stdcl.data.store import SequenceStore

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "data_pipeline.json").read_text(encoding="utf-8")
)
TEST_CLIPS = [key for key in GOLDEN if key.endswith("/test")]
STREAMS = {"joint": "joint", "bone": "bone", "motion": "joint-motion", "bone_motion": "bone-motion"}
CONVENTIONS = {"ctrgcn": "plain", "hyperformer": "centred"}


def agrees(x: np.ndarray[Any, Any], expected: dict[str, Any], tolerance: float) -> None:
    flat = np.asarray(x, dtype=np.float64).reshape(-1)
    assert list(x.shape) == expected["shape"]
    assert flat.mean() == pytest.approx(expected["mean"], abs=tolerance)
    assert flat.std() == pytest.approx(expected["std"], abs=tolerance)
    assert np.abs(flat).max() == pytest.approx(expected["absmax"], abs=tolerance)
    np.testing.assert_allclose(flat[:6], expected["first6"], atol=tolerance)
    np.testing.assert_allclose(flat[-6:], expected["last6"], atol=tolerance)
    weighted = (flat * np.cos(0.01 * np.arange(len(flat)))).sum()
    assert weighted == pytest.approx(expected["wsum"], abs=tolerance * len(flat) ** 0.5)


@pytest.mark.parametrize("key", TEST_CLIPS)
def test_nw_ucla_streams(key: str, nw_ucla_store: Path) -> None:
    convention, stream, clip, _ = key.split("/")
    store = SequenceStore.open(nw_ucla_store)
    rows = split(store, store.rules, "cross-view", "nw-ucla").test
    transform = Transform("pick", 52, stream=STREAMS[stream], convention=CONVENTIONS[convention])  # type: ignore[arg-type]
    dataset = SkeletonDataset(store, rows, transform, train=False)
    item = dataset.ids.index(clip)
    batch = dataset.batch(0, np.array([item]))
    assert int(batch.labels[0]) == GOLDEN[key]["label"]
    agrees(batch.x[0].numpy(), GOLDEN[key], 3e-6)


def test_nw_ucla_view_transform(nw_ucla_store: Path) -> None:
    key = next(k for k in GOLDEN if k.startswith("train_view_transform"))
    store = SequenceStore.open(nw_ucla_store)
    for scale in (1.0, 0.7):
        x = augment.centre_clip(store.sequence(store.ids.index(key.split("/")[1])).astype(np.float64), 1)
        x = augment.rotate(x, augment.view_matrix(augment.View(30, -45, scale)))
        agrees(augment.min_max(x, *augment.extent(x))[:, 0], GOLDEN[key], 3e-6)


def test_ntu_centre_crop_and_resize() -> None:
    key = next(k for k in GOLDEN if k.startswith("ntu/centre_crop_resize"))
    x = np.random.RandomState(0).standard_normal((3, 300, 25, 2)).astype(np.float32)
    x[:, 83:] = 0
    clip = np.ascontiguousarray(x.transpose(1, 3, 2, 0))
    valid = augment.valid_frames(clip)
    assert valid == 83
    out = augment.resample(clip, augment.centre_crop(valid), 64)
    agrees(out.transpose(3, 0, 2, 1), GOLDEN[key], 1e-6)


def test_ntu_rotation() -> None:
    key = next(k for k in GOLDEN if k.startswith("ntu/rot"))
    np.testing.assert_allclose(augment.axis_rotation(0.1, -0.2, 0.25), GOLDEN[key], atol=1e-7)
