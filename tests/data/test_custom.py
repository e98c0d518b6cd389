from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from stdcl import specs
from stdcl.config import read_run_file
from stdcl.data.custom.prepare import branches, load_spec, prepare_custom, reroot
from stdcl.data.dataset import SkeletonDataset, Transform
from stdcl.data.prepare import BadFilesError
from stdcl.data.protocols import split
from stdcl.data.store import SequenceStore
from stdcl.encoders.base import Layout
from stdcl.encoders.build import build_encoder
from stdcl.errors import UserError

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_dataset"

BASE: dict[str, Any] = {
    "name": "mine",
    "joints": ["hip", "chest", "head", "hand"],
    "parents": {"chest": "hip", "head": "chest", "hand": "chest"},
    "centre": "chest",
    "classes": ["rest", "wave"],
    "files": ["*.npz"],
    "splits": {"by-subject": {"column": "subject", "train": [1], "test": [2]}},
}


def clip(frames: int = 6, seed: int = 0, persons: int | None = None) -> np.ndarray:
    shape = (frames, 4, 3) if persons is None else (frames, persons, 4, 3)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) + 1.0


def write_spec(folder: Path, **changes: Any) -> Path:
    value = {key: item for key, item in {**BASE, **changes}.items() if item is not None}
    path = folder / "dataset.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four clips, one per file, of two classes and two subjects."""
    for number, (label, subject) in enumerate([("rest", 1), ("wave", 1), ("rest", 2), ("wave", 2)]):
        np.savez(tmp_path / f"c{number}.npz", values=clip(5 + number, number), label=label, subject=subject)
    return tmp_path


def refused(folder: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        prepare_custom(write_spec(folder, **changes), folder / "store")
    assert not (folder / "store").exists()
    return str(caught.value)


def test_one_clip_a_file(folder: Path) -> None:
    done = prepare_custom(write_spec(folder), folder / "store")
    assert done.action == "written"
    assert "mine: 4 sequences of 2 classes" in done.render()
    store = SequenceStore.open(folder / "store")
    store.verify()
    assert store.ids == ["c0", "c1", "c2", "c3"]
    assert store.labels.tolist() == [0, 1, 0, 1]
    assert store.column("subject").tolist() == [1, 1, 2, 2]
    x = clip(7, 2)
    np.testing.assert_array_equal(store.sequence(2)[:, 0], x - x[0, 1])
    skeleton = store.skeleton
    assert skeleton.joint_names == ("hip", "chest", "head", "hand")
    assert skeleton.parents == (1, 1, 1, 1)
    assert (skeleton.centre, skeleton.origin) == (1, 1)
    parts = split(store, store.rules, "by-subject", "mine")
    assert parts.train.tolist() == [0, 1]
    assert parts.test.tolist() == [2, 3]
    assert prepare_custom(folder / "dataset.yaml", folder / "store").action == "unchanged"


def test_all_three_forms_of_files_give_the_same_store(tmp_path: Path) -> None:
    clips = [clip(4 + n, n) for n in range(4)]
    labels, subjects, ids = ["rest", "wave", "rest", "wave"], [1, 1, 2, 2], ["a", "b", "c", "d"]
    hashes = set()
    for form in ("single", "many", "nested", "flat"):
        folder = tmp_path / form
        folder.mkdir()
        if form == "single":
            for x, label, subject, name in zip(clips, labels, subjects, ids, strict=True):
                np.savez(folder / f"{name}.npz", values=x, label=label, subject=subject)
        elif form == "many":
            np.savez(
                folder / "all.npz",
                values=np.concatenate(clips),
                lengths=[len(x) for x in clips],
                label=labels,
                subject=subjects,
                id=ids,
            )
        else:
            values = [x.ravel() if form == "flat" else x.tolist() for x in clips]
            table = pa.table({"id": ids, "label": labels, "subject": subjects, "values": values})
            pq.write_table(table, folder / "all.parquet")
        pattern = "*.npz" if form in ("single", "many") else "*.parquet"
        done = prepare_custom(write_spec(folder, files=[pattern]), folder / "store")
        hashes.add(done.manifest.content_hash)
    assert len(hashes) == 1


def test_persons_are_stored_as_they_are_there(folder: Path) -> None:
    x = clip(6, 0, persons=3)
    x[:, 2] = 0
    x[:2, 1] = 0
    np.savez(folder / "c0.npz", values=x, label=0, subject=1)
    prepare_custom(write_spec(folder, persons=3, absent_person="copy"), folder / "store")
    store = SequenceStore.open(folder / "store")
    got = store.sequence(0)
    assert got.shape == (6, 2, 4, 3)
    assert not got[:2, 1].any()
    np.testing.assert_array_equal(got[3, 1], x[3, 1] - x[0, 0, 1])
    assert (store.manifest.max_persons, store.manifest.absent_person) == (3, "copy")


def test_joints_that_were_not_detected_stay_missing_and_are_counted(folder: Path) -> None:
    x = clip(6, 0)
    x[2:4, 3] = 0
    x[0, 1] = -1  # the origin, in the first frame
    x[5, 0, 2] = np.nan
    confidence = np.ones((6, 4))
    confidence[4, 2] = 0
    np.savez(folder / "c0.npz", values=x, label=0, subject=1, confidence=confidence)
    done = prepare_custom(write_spec(folder), folder / "store")
    assert "not detected: 5 of 108 joints (4.63%) in 1 of 4 clips (hand 2, hip 1, chest 1, head 1)" in done.render()
    store = SequenceStore.open(folder / "store")
    store.verify()
    assert store.manifest.missing_joints == 5
    expected = x - x[1, 1]
    for frame, joint in [(2, 3), (3, 3), (0, 1), (5, 0), (4, 2)]:
        expected[frame, joint] = np.nan
    np.testing.assert_array_equal(store.sequence(0)[:, 0], expected)
    batch = SkeletonDataset(store, np.arange(4), Transform("resample", frames=6), train=True).batch(0, np.arange(4))
    assert bool(batch.x.isfinite().all())

    prepare_custom(write_spec(folder, missing="interpolate"), folder / "filled")
    filled = SequenceStore.open(folder / "filled")
    assert filled.manifest.missing_joints == 0
    np.testing.assert_allclose(filled.sequence(0)[2, 0, 3], (2 * x[1, 3] + x[4, 3]) / 3 - x[1, 1], atol=1e-6)


def test_confidences_in_parquet_are_those_in_npz(folder: Path) -> None:
    x, sure = clip(6, 0), np.ones((6, 4))
    sure[2, 3] = 0
    np.savez(folder / "c0.npz", values=x, label=0, subject=1, confidence=sure)
    wanted = prepare_custom(write_spec(folder), folder / "store").manifest
    (folder / "c0.npz").unlink()
    for number, (values, confidence) in enumerate([(x.tolist(), sure.tolist()), (x.ravel(), sure.ravel())]):
        one = {"id": ["c0"], "label": [0], "subject": [1], "values": [values], "confidence": [confidence]}
        pq.write_table(pa.table(one), folder / "c.parquet")
        found = prepare_custom(write_spec(folder, files=["*.npz", "*.parquet"]), folder / f"store{number}").manifest
        assert (found.content_hash, found.missing_joints) == (wanted.content_hash, 1)


def test_two_coordinates_get_a_third_of_zeros(folder: Path) -> None:
    flat = clip(5, 0)
    flat[..., 2] = 0
    np.savez(folder / "c0.npz", values=flat[..., :2], label=0, subject=1)
    prepare_custom(write_spec(folder), folder / "store")
    np.testing.assert_array_equal(SequenceStore.open(folder / "store").sequence(0)[:, 0], flat - flat[0, 1])


def test_translation_can_be_left_out_and_the_origin_chosen(folder: Path) -> None:
    prepare_custom(write_spec(folder, translate=False), folder / "store")
    np.testing.assert_array_equal(SequenceStore.open(folder / "store").sequence(0)[:, 0], clip(5, 0))
    prepare_custom(write_spec(folder, origin="head"), folder / "other")
    np.testing.assert_array_equal(SequenceStore.open(folder / "other").sequence(0)[0, 0, 2], 0.0)


def test_numbers_for_all_clips_of_an_entry_and_splits_by_list(folder: Path) -> None:
    for name in ("train", "test"):
        (folder / name).mkdir()
        for label in (0, 1):
            np.savez(folder / name / f"{name}{label}.npz", values=clip(), label=label)
    (folder / "ids.txt").write_text("\ufefftrain0\ntrain1\n\n", encoding="utf-8")
    spec = write_spec(
        folder,
        files=[{"path": "train/*.npz", "setup": 1}, {"path": str(folder / "test/*.npz"), "setup": 2}],
        splits={"folders": {"column": "setup", "train": [1]}, "listed": {"column": "id", "train": "ids.txt"}},
    )
    prepare_custom(spec, folder / "store")
    store = SequenceStore.open(folder / "store")
    for protocol in ("folders", "listed"):
        parts = split(store, store.rules, protocol, "mine")
        assert [store.ids[row] for row in parts.train] == ["train0", "train1"]
        assert [store.ids[row] for row in parts.test] == ["test0", "test1"]


def test_reroot_turns_the_way_from_the_root_to_the_centre() -> None:
    # 0 - 1 - 2 - 3, and 4 on 1
    parents = (0, 0, 1, 2, 1)
    assert reroot(parents, 0) == parents
    assert reroot(parents, 3) == (1, 2, 3, 3, 1)
    assert reroot(reroot(parents, 3), 0) == parents
    assert branches((1, 1, 1, 2, 2)) == (0, 0, 1, 1, 1)


def test_hyperedges(folder: Path) -> None:
    groups = {"body": ["hip", 1], "ends": ["head", "hand"]}
    assert load_spec(write_spec(folder, hyperedges=groups)).skeleton.hyperedges == {"default": (0, 0, 1, 1)}
    both = {"default": groups, "fine": {"a": [0], "b": [1], "c": [2], "d": [3]}}
    found = load_spec(write_spec(folder, hyperedges=both)).skeleton.hyperedges
    assert found == {"default": (0, 0, 1, 1), "fine": (0, 1, 2, 3)}
    made = load_spec(write_spec(folder))
    assert made.skeleton.hyperedges == {"default": (0, 0, 1, 2)}
    assert "branches" in made.notes[0]


# ---- faults of the description


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"clases": ["a"]}, ["unknown key 'clases'", "did you mean 'classes'"]),
        ({"classes": None}, ["'classes' is missing"]),
        ({"joints": ["a", "a", "b", "c"]}, ["joints", "'a' stands more than once"]),
        ({"parents": {"chest": "hip", "head": "chst", "hand": "chest"}}, ["parents.head", "did you mean 'chest'"]),
        ({"parents": {"chest": "hip", "head": "chest"}}, ["exactly one joint", "hand"]),
        ({"parents": {"chest": "hip", "head": "hand", "hand": "head"}}, ["does not lead to the root"]),
        ({"parents": {None: "hip", "head": "chest"}}, ["parents: a key is null", "put it in quotes"]),
        ({"parents": [0, 0, 1]}, ["3 entries for 4 joints"]),
        ({"parents": [0, 0, 1, 7]}, ["joint 7", "0 to 3"]),
        ({"centre": "chets"}, ["centre", "did you mean 'chest'"]),
        ({"hyperedges": {"a": ["hip"], "b": ["chest", "head"]}}, ["in none: hand"]),
        ({"hyperedges": {"a": ["hip", "chest"], "b": ["chest", "head", "hand"]}}, ["'chest' is in more than one"]),
        ({"hyperedges": {"x": {"a": ["hip", "chest", "head", "hand"]}}}, ["'default'"]),
        ({"name": "ntu60"}, ["'ntu60'", "benchmark"]),
        ({"name": "my data"}, ["name"]),
        ({"persons": 0}, ["persons"]),
        ({"absent_person": "copies"}, ["absent_person", "did you mean 'copy'"]),
        ({"files": ["*.npy"]}, ["files[0]", "nothing matches"]),
        ({"files": [{"path": "*.npz", "sbject": 1}]}, ["files[0]", "unknown key 'sbject'", "did you mean 'subject'"]),
        ({"files": ["*.npz", "c0.npz"]}, ["named twice"]),
        ({"files": ["dataset.yaml"]}, ["neither .npz nor .parquet"]),
        ({"splits": {"s": {"column": "subjct", "train": [1]}}}, ["splits.s", "did you mean 'subject'"]),
        ({"splits": {"s": {"column": "subject", "train": ["anna"]}}}, ["'anna'", "whole numbers"]),
        ({"splits": {"s": {"column": "id", "train": "nowhere.txt"}}}, ["readable text file"]),
        ({"splits": {"s": {"column": "subject", "train": [1], "test": [1]}}}, ["both"]),
        ({"splits": {"s": {"column": "subject", "train": [1, 9]}}}, ["no clip has subject 9"]),
        ({"splits": {"s": {"column": "subject", "train": [1, 2]}}}, ["test part is empty"]),
        ({"splits": {"s": {"column": "id", "train": ["c7"]}}}, ["no clip has id 'c7'"]),
    ],
)  # fmt: skip
def test_faults_of_the_description_are_explained(folder: Path, changes: dict[str, Any], parts: list[str]) -> None:
    said = refused(folder, **changes)
    assert "dataset.yaml" in said
    for part in parts:
        assert part in said


def test_several_faults_are_said_at_once(folder: Path) -> None:
    said = refused(folder, clases=["a"], files=[{"pth": "x"}], splits={"s": {"colum": "id", "train": ["a"]}})
    for part in ("'clases'", "'pth'", "'colum'"):
        assert part in said


def test_a_description_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        prepare_custom(tmp_path / "absent.yaml", tmp_path / "store")
    (tmp_path / "bad.yaml").write_text("joints: [")
    with pytest.raises(UserError, match="not valid YAML"):
        prepare_custom(tmp_path / "bad.yaml", tmp_path / "store")


# ---- faults of the files


def test_every_bad_file_is_named(folder: Path) -> None:
    bad_values = clip()
    bad_values[2, 1, 0] = np.inf
    far = clip()
    far[2, 1, 0] = 1e30
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "infinite": ({"values": bad_values, "label": 0}, "inf in frame 2, joint 'chest'"),
        "far": ({"values": far, "label": 0}, "1e+30 in frame 2, joint 'chest' (1 such)"),
        "sure": ({"values": clip(), "label": 0, "confidence": np.full((6, 4), -1.0)}, "wrong confidence"),
        "unsure": (
            {"values": clip(), "label": 0, "confidence": np.ones((6, 5))},
            "array 'confidence' has shape (6, 5)",
        ),
        "joints": ({"values": np.zeros((5, 7, 3)), "label": 0}, "shape (5, 7, 3)"),
        "zero": ({"values": np.zeros((5, 4, 3)), "label": 0}, "not one joint"),
        "label": ({"values": clip(), "label": "wvae"}, "did you mean 'wave'"),
        "number": ({"values": clip(), "label": 2}, "allowed are 0 to 1"),
        "none": ({"values": clip()}, "missing label"),
        "key": ({"values": clip(), "lable": 0}, "did you mean 'label'"),
        "text": ({"values": np.array(["a", "b"]), "label": 0}, "numbers are needed"),
        "people": ({"values": clip(persons=2), "label": 0}, "2 persons"),
        "subject": ({"values": clip(), "label": 0, "subject": 1.5}, "whole number"),
        "lengths": ({"values": clip(), "label": [0, 1], "lengths": [3, 4]}, "add up"),
        "entries": ({"values": clip(), "label": [0], "lengths": [3, 3]}, "one entry per clip"),
        "twice": ({"values": clip(), "label": 0, "id": "c1"}, "duplicate"),
        "pickle": ({"values": np.array([None, {}], dtype=object), "label": 0}, "unreadable"),
    }
    for name, (arrays, _) in cases.items():
        np.savez(folder / f"{name}.npz", **arrays)
    whole = (folder / "c0.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.npz").write_text("hello")
    with pytest.raises(BadFilesError) as caught:
        prepare_custom(write_spec(folder), folder / "store")
    said = {Path(name.split(" (")[0]).stem: reason for name, reason in caught.value.files}
    for name, (_, part) in cases.items():
        assert part in said.pop(name), name
    assert set(said) == {"cut", "notes"}
    assert "allow_pickle" not in str(caught.value)
    assert "2 wrong label, " in str(caught.value).splitlines()[0]
    assert not (folder / "store").exists()


def test_bad_rows_of_a_parquet_file_are_named(folder: Path) -> None:
    rows = [
        {"id": "good", "label": 0, "values": clip().ravel().tolist()},
        {"id": "short", "label": 0, "values": [1.0] * 13},
        {"id": "null", "label": 0, "values": None},
        {"id": "hole", "label": 0, "values": [1.0, None]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    pq.write_table(
        pa.table({"id": ["ragged"], "label": [0], "values": [[[[1.0, 2.0, 3.0]], [[1.0, 2.0]]]]}), folder / "r.parquet"
    )
    pq.write_table(pa.table({"id": ["x"], "label": [0], "values": [1.0]}), folder / "t.parquet")
    (folder / "u.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadFilesError) as caught:
        prepare_custom(write_spec(folder, files=["*.npz", "*.parquet"]), folder / "store")
    said = {Path(name).name if ")" not in name else name.split("(")[1][:-1]: why for name, why in caught.value.files}
    assert "13 values" in said.pop("short")
    assert "null" in said.pop("null")
    assert "null" in said.pop("hole")
    assert "shape" in said.pop("ragged")
    assert "lists of numbers" in said.pop("x")
    assert "unreadable" in said.pop("u.parquet")
    assert not said


def test_another_store_is_kept_without_force(folder: Path) -> None:
    spec = write_spec(folder)
    prepare_custom(spec, folder / "store")
    np.savez(folder / "c0.npz", values=clip(9, 9), label=1, subject=1)
    with pytest.raises(UserError, match="--force"):
        prepare_custom(spec, folder / "store")
    assert prepare_custom(spec, folder / "store", force=True).action == "replaced"


# ---- the documented example


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> SequenceStore:
    folder = tmp_path_factory.mktemp("example")
    shutil.copy(EXAMPLE / "dataset.yaml", folder)
    before = sys.argv
    sys.argv = ["make_data.py", str(folder / "clips")]
    try:
        runpy.run_path(str(EXAMPLE / "make_data.py"), run_name="__main__")
    finally:
        sys.argv = before
    done = prepare_custom(folder / "dataset.yaml", folder / "store")
    assert not done.notes
    return SequenceStore.open(folder / "store")


def test_the_example_loads(example: SequenceStore) -> None:
    assert len(example) == 288
    run = read_run_file(EXAMPLE / "train.yaml")
    assert run.data.dataset == "custom"
    parts = split(example, example.rules, run.data.protocol, "gestures")
    data = SkeletonDataset(example, parts.train, Transform("resample", frames=64), train=True)
    batch = data.batch(0, np.arange(4))
    assert tuple(batch.x.shape) == (4, 3, 64, 9, 1)


@pytest.mark.parametrize("encoder", specs.encoders())
def test_any_encoder_runs_on_the_example(example: SequenceStore, encoder: str) -> None:
    run = read_run_file(EXAMPLE / "train.yaml", [f"encoder.name={encoder}"])
    layout = Layout(num_joints=9, num_persons=1, num_frames=64, num_classes=4, skeleton=example.skeleton)
    model = build_encoder(run.encoder, layout)
    parts = split(example, example.rules, "cross-subject", "gestures")
    batch = SkeletonDataset(example, parts.train, Transform("resample", frames=64), train=True).batch(0, np.arange(2))
    output = model.eval()(batch.x)
    assert tuple(output.logits.shape) == (2, 4)
    assert torch.isfinite(output.logits).all()
