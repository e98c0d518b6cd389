"""Annotation pickles of PYSKL and MMAction2: read, trained on, written back; hostile ones are refused."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stdcl import specs
from stdcl.data.dataset import SkeletonDataset, Transform
from stdcl.data.export import export_store
from stdcl.data.missing import missing
from stdcl.data.plain_pickle import read_plain_pickle
from stdcl.data.prepare import BadFilesError, prepare_dataset
from stdcl.data.protocols import split
from stdcl.data.store import SequenceStore
from stdcl.encoders.base import Layout
from stdcl.encoders.build import build_encoder
from stdcl.errors import UserError
from stdcl.skeleton import COCO17, OPENPOSE18
from tests.data.foreign.files import pyskl_content, write_pyskl


def prepared(folder: Path, **options: Any) -> SequenceStore:
    prepare_dataset("pyskl", folder / "store", raw=[folder / "file.pkl"], **options)
    return SequenceStore.open(folder / "store")


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(np.array_equal(a, b)) and getattr(a, "dtype", None) == getattr(b, "dtype", None)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(("dimensions", "joints"), [(2, 17), (3, 25)])
def test_the_round_trip_gives_the_same_annotations(tmp_path: Path, dimensions: int, joints: int, protocol: int) -> None:
    content = write_pyskl(tmp_path / "file.pkl", protocol, dimensions=dimensions, joints=joints)
    scores = "keep" if dimensions == 2 else None
    store = prepared(tmp_path, scores=scores)
    store.verify()
    said = export_store(tmp_path / "store", "pyskl", tmp_path / "back.pkl")
    assert "8 annotations" in said
    back = pickle.loads((tmp_path / "back.pkl").read_bytes())  # our own file
    back["annotations"].sort(key=lambda each: each["frame_dir"])
    content["annotations"].sort(key=lambda each: each["frame_dir"])
    assert equal(back["annotations"], content["annotations"])
    assert {name: sorted(ids) for name, ids in back["split"].items()} == {
        name: sorted(ids) for name, ids in content["split"].items()
    }
    (tmp_path / "file.pkl").write_bytes((tmp_path / "back.pkl").read_bytes())
    again = prepare_dataset("pyskl", tmp_path / "store", raw=[tmp_path / "file.pkl"], scores=scores)
    assert "nothing to do" in again.render()


def test_what_the_store_says(tmp_path: Path) -> None:
    write_pyskl(tmp_path / "file.pkl")
    done = prepare_dataset("pyskl", tmp_path / "store", raw=[tmp_path / "file.pkl"])
    said = done.render()
    assert "not detected: 27 of" in said
    assert "scores are not kept" in said
    assert "classes are numbered" in said
    store = SequenceStore.open(tmp_path / "store")
    manifest = store.manifest
    assert (manifest.skeleton, manifest.max_persons, manifest.third) == (COCO17, 2, "coordinate")
    assert manifest.missing_joints == 27
    batch = SkeletonDataset(store, np.arange(8), Transform("resample", frames=16), train=False).batch(0, np.arange(8))
    assert 0.5 < float(batch.x[:, 1].std()) < 2  # metres, not pixels
    assert store.column("subject").tolist() == list(range(1, 9))
    assert list(store.rules) == ["xsub", "xview"]
    assert len(split(store, store.rules, "xsub", "file").train) == 5


def test_class_names_are_read(tmp_path: Path) -> None:
    write_pyskl(tmp_path / "file.pkl")
    (tmp_path / "names.txt").write_text("\ufeffdrink\neat\nwave\n", encoding="utf-8")
    assert prepared(tmp_path, classes=tmp_path / "names.txt").manifest.classes == ("drink", "eat", "wave")
    (tmp_path / "names.txt").write_text("drink\neat\n")
    with pytest.raises(UserError, match="2 different names; the data have 3 classes"):
        prepare_dataset("pyskl", tmp_path / "x", raw=[tmp_path / "file.pkl"], classes=tmp_path / "names.txt")


@pytest.mark.parametrize("joints", [17, 18])
@pytest.mark.parametrize("scores", ["drop", "keep"])
@pytest.mark.parametrize("encoder", sorted(specs.encoders()))
def test_every_encoder_takes_two_dimensional_poses(tmp_path: Path, encoder: str, scores: str, joints: int) -> None:
    write_pyskl(tmp_path / "file.pkl", joints=joints)
    store = prepared(tmp_path, scores=scores)
    assert store.skeleton == {17: COCO17, 18: OPENPOSE18}[joints]
    for stream in ("joint", "bone-motion"):
        transform = Transform("resample", frames=64, stream=stream, convention=specs.encoder(encoder).convention)
        batch = SkeletonDataset(store, np.arange(8), transform, train=True).batch(0, np.arange(4))
        assert tuple(batch.x.shape) == (4, 3, 64, joints, 2)
        assert bool(batch.x.isfinite().all())
    layout = Layout(joints, 2, 64, 3, store.skeleton)
    chosen = specs.encoder(encoder).settle({"name": encoder}, {"dataset": "pyskl", "stream": "joint"})
    options = specs.encoder(encoder).options.model_validate(chosen)
    network = build_encoder(options, layout)
    assert tuple(network.eval()(batch.x).logits.shape) == (4, 3)


def test_scores_are_no_coordinates(tmp_path: Path) -> None:
    content = write_pyskl(tmp_path / "file.pkl")
    store = prepared(tmp_path, scores="keep")
    rows = np.arange(8)

    def batch(stream: str, train: bool = False) -> np.ndarray:
        data = SkeletonDataset(store, rows, Transform("resample", frames=14, stream=stream), train=train)
        return data.batch(0, np.array([5])).x.numpy()[0]  # (3, T, V, M); a clip of 14 frames

    score = content["annotations"][5]["keypoint_score"].astype(np.float32).transpose(1, 2, 0)
    np.testing.assert_allclose(batch("joint")[2], score, rtol=1e-6)
    np.testing.assert_allclose(batch("joint", train=True)[2], score, rtol=1e-6)  # not turned, not moved
    assert np.abs(batch("joint")[:2, 0, 0, 0]).max() == 0  # the first nose is the origin
    parents = list(COCO17.parents)
    np.testing.assert_allclose(batch("bone")[2], (score + score[:, parents]) / 2, rtol=1e-6)


def test_bad_annotations_are_named(tmp_path: Path) -> None:
    content = pyskl_content()
    content["annotations"][0]["keypoint"] = content["annotations"][0]["keypoint"][..., :1]
    content["annotations"][1]["total_frames"] = 3
    content["annotations"][2]["label"] = "x"
    content["annotations"][3]["frame_dir"] = content["annotations"][4]["frame_dir"]
    content["annotations"][5]["keypoint_score"][:] = 0
    del content["annotations"][6]["keypoint"]
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(BadFilesError) as caught:
        prepared(tmp_path)
    said = [reason for _, reason in caught.value.files]
    for part, reason in zip(
        ["wrong shape", "total_frames is 3", "wrong label", "duplicate", "no body", "no 'keypoint'"], said, strict=True
    ):
        assert part in reason
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "not an annotation file of PYSKL"),
        ({"annotations": []}, "'split' is missing"),
        ({"split": {"train": []}, "annotations": [{}]}, "frame_dir"),
        (pyskl_content() | {"split": {"train": None, "val": None}}, "split 'train' is not a list of names"),
        (pyskl_content() | {"split": {"train": [0, 1], "val": [2]}}, "split 'train' is not a list of names"),
        (pyskl_content() | {"split": {"train": "S001C001P001R001A001"}}, "split 'train' is not a list of names"),
        (
            pyskl_content() | {"split": {"a_train": ["S001C001P001R001A001"], "a_val": ["S001C001P001R001A001"]}},
            "f.*pkl: 1 names are in both 'a_train' and 'a_val', such as 'S001C001P001R001A001'",
        ),
    ],
)
def test_other_pickles_are_refused(tmp_path: Path, content: Any, said: str) -> None:
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=said):
        prepared(tmp_path)


def test_a_label_that_would_need_a_name_for_billions_of_classes(tmp_path: Path) -> None:
    content = pyskl_content()
    content["annotations"][7]["label"] = 1 << 62
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(BadFilesError, match=r"wrong label: 4611686018427387904; a whole number from 0 to 65535"):
        prepared(tmp_path)


def test_a_file_without_scores_is_not_told_how_to_keep_them(tmp_path: Path) -> None:
    content = pyskl_content()
    for annotation in content["annotations"]:
        del annotation["keypoint_score"]
    content["annotations"] = tuple(content["annotations"])
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content))
    done = prepare_dataset("pyskl", tmp_path / "store", raw=[tmp_path / "file.pkl"])
    assert "--scores" not in done.render()


def test_a_clip_whose_first_person_is_never_there_is_moved_and_scaled_like_others(tmp_path: Path) -> None:
    content = pyskl_content()
    twice = content["annotations"][2]
    twice["keypoint"] = np.concatenate([np.zeros_like(twice["keypoint"]), twice["keypoint"]])
    twice["keypoint_score"] = np.concatenate([np.zeros_like(twice["keypoint_score"]), twice["keypoint_score"]])
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content))
    store = prepared(tmp_path)
    data = SkeletonDataset(store, np.arange(8), Transform("resample", frames=16), train=False)
    x = data.batch(0, np.arange(8)).x
    row = store.ids.index(twice["frame_dir"])
    assert not x[row, ..., 0].any()
    assert float(x[row, :2, :, :, 1].abs().max()) < 10  # metres: it was 900, in pixels of the picture


# ---- hostile pickles


class _Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self._what = (function, arguments)

    def __reduce__(self) -> Any:
        return self._what


def refused(data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        read_plain_pickle(io.BytesIO(data), "f.pkl")
    return str(caught.value)


def test_code_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    calls = [
        _Call(exec, f"open({str(mark)!r}, 'w')"),
        _Call(os.system, f"touch {mark}"),
        _Call(subprocess.call, ["touch", str(mark)]),
        _Call(eval, f"open({str(mark)!r}, 'w')"),
        _Call(np.save, str(mark), np.zeros(1)),
        _Call(np.load, str(mark)),
        _Call(open, str(mark), "w"),
        _Call(torch.load, str(mark)),
    ]
    for call in calls:
        for content in (call, {"annotations": [call]}, [np.zeros(2), call]):
            for protocol in (2, 4):
                assert "Nothing was run" in refused(pickle.dumps(content, protocol=protocol))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a pickle",
        pickle.dumps({"a": 1})[:-3],
        pickle.dumps(np.zeros(100))[:-50],
        pickle.dumps(np.array([{}], dtype=object)),
        pickle.dumps(np.zeros(2, dtype=[("a", "f4")])),
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes of 2 ** 63
        b"cnumpy\ndtype\n(I1\nI2\nI3\nI4\ntR.",
        b"cnumpy\ndtype\n}b.",  # a function is given a state
        b"cnumpy.core.multiarray\n_reconstruct\n(NNNtR(I1\n(I1000000000\ntNI00\nC\x00tb.",
        b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00\x82\x01.",  # a registered extension
        b"Pid\n.",
    ],
)
def test_damage_is_refused_in_words(data: bytes) -> None:
    assert refused(data).startswith("f.pkl: ")


def test_shared_and_circular_containers() -> None:
    shared: list[Any] = [1]
    for _ in range(60):
        shared = [shared, shared]  # 2 ** 60 if it were unfolded
    read_plain_pickle(io.BytesIO(pickle.dumps(shared)), "f.pkl")
    circle: list[Any] = []
    circle.append(circle)
    assert "holds itself" in refused(pickle.dumps(circle))


def test_plain_content_comes_back_equal() -> None:
    content = {
        "a": np.arange(6, dtype=">i4").reshape(2, 3),
        "f": np.asfortranarray(np.random.default_rng(0).normal(size=(3, 4))),
        "t": np.array(["x", "yy"]),
        "s": (1, 2.5, None, True, b"x", {"k": frozenset({1})}),
        "n": np.float32(1.5),
        "e": np.zeros((0, 3)),
    }
    for protocol in range(2, 6):
        got = read_plain_pickle(io.BytesIO(pickle.dumps(content, protocol=protocol)), "f.pkl")
        for key in ("a", "f", "t", "e"):
            np.testing.assert_array_equal(got[key], content[key])
        assert (got["s"], got["n"]) == (content["s"], 1.5)
    assert not missing(np.zeros((2, 3))).any()
