"""CTR-GCN's padded arrays: read without their padding, written back equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stdcl import specs
from stdcl.data.dataset import SkeletonDataset, Transform
from stdcl.data.export import export_store
from stdcl.data.prepare import prepare_dataset
from stdcl.data.protocols import split
from stdcl.data.store import SequenceStore
from stdcl.errors import UserError
from tests.data.foreign.files import write_ctrgcn, write_pyskl


@pytest.mark.parametrize(("classes", "dtype"), [(60, np.float32), (120, np.float64), (7, np.float32)])
def test_the_round_trip_gives_the_same_arrays(tmp_path: Path, classes: int, dtype: Any) -> None:
    arrays = write_ctrgcn(tmp_path / "NTU_CS.npz", classes)
    arrays = {name: array.astype(dtype) if name.startswith("x") else array for name, array in arrays.items()}
    np.savez_compressed(tmp_path / "NTU_CS.npz", **arrays)
    done = prepare_dataset("ctrgcn-npz", tmp_path / "store", raw=[tmp_path / "NTU_CS.npz"])
    said = done.render()
    assert "neither names nor subjects" in said
    store = SequenceStore.open(tmp_path / "store")
    store.verify()
    assert store.manifest.classes[:1] == (specs.dataset("ntu60").classes[:1] if classes > 7 else ("class 000",))
    assert store.column("frames").tolist() == [*range(10, 16), *range(10, 14)]  # without padding
    assert store.column("persons").tolist() == [1, 2, 1, 2, 1, 2, 1, 2, 1, 2]
    parts = split(store, store.rules, "file", "NTU_CS")
    assert (len(parts.train), len(parts.test)) == (6, 4)
    assert SkeletonDataset(store, parts.train, Transform("resample", 16), train=True).batch(0, np.arange(6)).x.any()
    export_store(tmp_path / "store", "ctrgcn-npz", tmp_path / "back.npz")
    with np.load(tmp_path / "back.npz", allow_pickle=False) as back:
        assert sorted(back.files) == sorted(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(back[name], array)
            assert back[name].dtype == array.dtype
    with pytest.raises(UserError, match="something is there already"):
        export_store(tmp_path / "store", "ctrgcn-npz", tmp_path / "back.npz")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x_train": np.zeros((6, 40, 75), np.float32)}, "clips x frames x 150"),
        ({"x_train": np.zeros((6, 40, 150), np.float32)}, r"x_train\[0\]: no body"),
        ({"x_test": np.full((4, 40, 150), np.nan, np.float32)}, r"x_test\[3\]: not finite"),
        ({"x_test": np.full((4, 40, 150), 1e30, np.float32)}, r"x_test\[0\]: out of range"),
        ({"y_train": np.zeros((6, 60))}, "not one-hot in row 0"),
        ({"y_train": np.zeros((5, 60))}, "one-hot labels of 6 clips"),
        ({"y_test": np.eye(61)[:4]}, "different numbers of classes"),
        ({"x_train": np.array([{}], dtype=object)}, "pickled objects are never read"),
    ],
)
def test_faults_are_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    write_ctrgcn(tmp_path / "f.npz", **changes)
    with pytest.raises(UserError, match=said):
        prepare_dataset("ctrgcn-npz", tmp_path / "store", raw=[tmp_path / "f.npz"])
    assert not (tmp_path / "store").exists()


def test_other_and_damaged_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", data=np.zeros(3))
    with pytest.raises(UserError, match="no array 'x_train'; it has data"):
        prepare_dataset("ctrgcn-npz", tmp_path / "store", raw=[tmp_path / "other.npz"])
    write_ctrgcn(tmp_path / "f.npz")
    whole = (tmp_path / "f.npz").read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 10):
        (tmp_path / "cut.npz").write_bytes(whole[:size])
        with pytest.raises(UserError, match="cannot be read"):
            prepare_dataset("ctrgcn-npz", tmp_path / "store", raw=[tmp_path / "cut.npz"])
    np.savez_compressed(tmp_path / "f.npz", **dict(np.load(tmp_path / "f.npz")))
    packed = bytearray((tmp_path / "f.npz").read_bytes())
    packed[200:260] = bytes(byte ^ 0x5A for byte in packed[200:260])  # a damaged stream of zlib
    header = whole.replace(b"'shape': (6,", b"'shape': (6 ", 1).replace(
        b"'fortran_order': False", b"'fortran_order': (((((", 1
    )
    for number, damaged in enumerate((bytes(packed), header)):
        (tmp_path / "damaged.npz").write_bytes(damaged)
        with pytest.raises(UserError, match="'x_train' cannot be read"):
            prepare_dataset("ctrgcn-npz", tmp_path / f"damaged{number}", raw=[tmp_path / "damaged.npz"])
    with pytest.raises(UserError, match="no such file"):
        prepare_dataset("ctrgcn-npz", tmp_path / "store", raw=[tmp_path / "absent.npz"])


def test_a_store_of_other_joints_is_refused(tmp_path: Path) -> None:
    write_pyskl(tmp_path / "f.pkl")
    prepare_dataset("pyskl", tmp_path / "store", raw=[tmp_path / "f.pkl"])
    with pytest.raises(UserError, match="25 joints in space"):
        export_store(tmp_path / "store", "ctrgcn-npz", tmp_path / "back.npz")


def test_clips_that_are_not_at_their_origin_are_moved_there(tmp_path: Path) -> None:
    content = write_pyskl(tmp_path / "f.pkl", dimensions=3, joints=25)
    assert content["annotations"][0]["keypoint"].min() > 99
    prepare_dataset("pyskl", tmp_path / "store", raw=[tmp_path / "f.pkl"])
    export_store(tmp_path / "store", "ctrgcn-npz", tmp_path / "back.npz", protocol="xsub")
    prepare_dataset("ctrgcn-npz", tmp_path / "again", raw=[tmp_path / "back.npz"])
    store, again = SequenceStore.open(tmp_path / "store"), SequenceStore.open(tmp_path / "again")
    rows = split(store, store.rules, "xsub", "f").train
    for number, row in enumerate(rows.tolist()):
        moved = again.sequence(again.ids.index(f"train-{number:06d}"))
        assert not moved[0, 0, store.skeleton.origin].any()
        expected = store.sequence(row) - store.sequence(row)[0, 0, store.skeleton.origin]
        np.testing.assert_array_equal(moved, expected)


def test_joints_of_another_tree_are_not_taken_for_ntus(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "clip.npz",
        values=np.random.default_rng(0).normal(size=(2, 9, 25, 3)).reshape(18, 25, 3),
        lengths=np.array([9, 9]),
        label=np.array([0, 1]),
        subject=np.array([1, 2]),
    )
    names = ", ".join(f"j{joint}" for joint in range(25))
    parents = ", ".join(str(max(joint - 1, 0)) for joint in range(25))
    (tmp_path / "spec.yaml").write_text(
        f"name: chain\njoints: [{names}]\nparents: [{parents}]\nclasses: [a, b]\nfiles: [clip.npz]\n"
        "splits: {s: {column: subject, train: [1]}}\n"
    )
    prepare_dataset("custom", tmp_path / "store", spec=tmp_path / "spec.yaml")
    with pytest.raises(UserError, match="25 joints in space"):
        export_store(tmp_path / "store", "ctrgcn-npz", tmp_path / "back.npz")
