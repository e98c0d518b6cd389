"""A thousand raw files of three formats, damaged by a seeded script: each unusable one is named, none crashes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from stdcl.data.custom.prepare import prepare_custom
from stdcl.data.ntu.prepare import prepare_ntu
from stdcl.data.ntu.raw import RawFileError, parse_skeleton
from stdcl.data.nw_ucla.prepare import prepare_nw_ucla
from stdcl.data.nw_ucla.raw import ACTION_CODES
from stdcl.data.prepare import BadFilesError, prepare_dataset
from stdcl.data.raw_file import read_raw
from stdcl.data.store import SequenceStore
from stdcl.errors import UserError
from tests.data.foreign.files import write_ctrgcn, write_pyskl
from tests.data.ntu.text import random_pose, skeleton_text

FILES = 334


def damage(data: bytes, kind: int, rng: np.random.Generator) -> bytes:
    """Return ``data`` after one of eight accidents."""
    at = int(rng.integers(1, len(data)))
    size = int(rng.integers(1, 200))
    return [
        lambda: b"",
        lambda: data[:at],
        lambda: data[:at] + data[at + size :],
        lambda: data[:at] + data[at : at + size] + data[at:],
        lambda: data[:at] + bytes([int(rng.integers(256))]) + data[at + 1 :],
        lambda: data[:at] + rng.integers(0, 256, size, dtype=np.uint8).tobytes() + data[at + size :],
        lambda: data[:at] + b"\0" * size + data[at + size :],
        lambda: data[:at] + rng.choice([b"1e30", b"nan", b"-", b",", b'"', b"\xef\xbb\xbf"]) + data[at:],
    ][kind]()


def spoil(folder: Path, names: list[str], whole: Callable[[str], bytes], seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for number, name in enumerate(names):
        (folder / name).write_bytes(damage(whole(name), number % 8, rng))


def test_ntu(tmp_path: Path) -> None:
    names = [f"S{1 + n // 240:03d}C001P{1 + n // 60 % 4:03d}R001A{1 + n % 60:03d}.skeleton" for n in range(FILES)]
    text = skeleton_text([[("1", random_pose(np.random.default_rng(0)))] for _ in range(3)])
    spoil(tmp_path / "raw", names, lambda name: text, 1)
    refused = set()
    for name in names:
        try:
            parse_skeleton((tmp_path / "raw" / name).read_bytes())
        except RawFileError:
            refused.add(name)
    assert len(refused) > FILES // 2
    report = prepare_ntu("ntu60", [tmp_path / "raw"], tmp_path / "store", workers=1)
    assert {Path(bad.path).name for bad in report.bad} >= refused
    assert len(SequenceStore.open(tmp_path / "store")) == FILES - len(report.bad)


def test_nw_ucla(tmp_path: Path) -> None:
    names = [f"a{ACTION_CODES[n % 10]:02d}_s{1 + n // 30:02d}_e{n // 10 % 3:02d}_v01.json" for n in range(FILES)]
    pose = np.random.default_rng(0).normal(size=(3, 20, 3)).round(4).tolist()

    def whole(name: str) -> bytes:
        label = ACTION_CODES.index(int(name[1:3])) + 1
        return f'{{"file_name": "{name[:-5]}", "label": {label}, "skeletons": {pose}}}'.encode()

    spoil(tmp_path / "raw", names, whole, 2)
    with pytest.raises(BadFilesError) as caught:
        prepare_nw_ucla(tmp_path / "raw", tmp_path / "store", allow_partial=True)
    bad = {name for name, _ in caught.value.files}
    assert bad <= set(names)
    assert len(bad) > FILES // 2
    assert not (tmp_path / "store").exists()
    for name in bad:
        (tmp_path / "raw" / name).unlink()
    if len(bad) < FILES:
        prepare_nw_ucla(tmp_path / "raw", tmp_path / "store", allow_partial=True)


def test_custom(tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    clip = {"values": np.random.default_rng(0).normal(size=(5, 3, 3)), "label": 1, "subject": 2}
    np.savez_compressed(good, **clip)  # type: ignore[arg-type]
    packed = good.read_bytes()
    np.savez(good, **clip)  # type: ignore[arg-type]
    names = [f"c{n:03d}.npz" for n in range(FILES)]
    spoil(tmp_path / "raw", names, lambda name: packed if int(name[1:4]) // 8 % 2 else good.read_bytes(), 3)
    good.rename(tmp_path / "raw" / "good.npz")
    np.savez(tmp_path / "raw" / "other.npz", values=np.ones((5, 3, 3)), label=0, subject=1)
    spec = tmp_path / "dataset.yaml"
    spec.write_text(
        yaml.safe_dump(
            {
                "name": "mine",
                "joints": ["a", "b", "c"],
                "parents": [0, 0, 1],
                "classes": ["x", "y"],
                "files": ["raw/*.npz"],
                "splits": {"s": {"column": "subject", "train": [1]}},
            }
        )
    )
    with pytest.raises(BadFilesError) as caught:
        prepare_custom(spec, tmp_path / "store")
    bad = {Path(name.split(" (")[0]).name for name, _ in caught.value.files}
    assert bad <= set(names)
    assert len(bad) > FILES // 2
    for name in bad:
        (tmp_path / "raw" / name).unlink()
    prepare_custom(spec, tmp_path / "store")
    assert len(SequenceStore.open(tmp_path / "store")) == FILES - len(bad) + 2


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "S001C001P001R001A001.skeleton"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="named pipe"):
        read_raw(pipe)
    good = skeleton_text([[("1", random_pose(np.random.default_rng(0)))] for _ in range(3)])
    (tmp_path / "S001C001P001R001A002.skeleton").write_bytes(b"\xef\xbb\xbf" + good)  # a byte-order mark is accepted
    report = prepare_ntu("ntu60", [tmp_path], tmp_path / "store", workers=1)
    assert [(Path(bad.path).name, bad.detail) for bad in report.bad] == [(pipe.name, "it is a named pipe, not a file")]
    assert "the test part is empty; nothing can be evaluated on it" in report.render()


def test_pickles_and_padded_arrays(tmp_path: Path) -> None:
    """Damage of the two formats of single files ends in words, whatever byte it hits."""
    write_pyskl(tmp_path / "f.pkl", clips=4)
    write_ctrgcn(tmp_path / "f.npz")
    rng = np.random.default_rng(4)
    refused = []
    for name, dataset, count in (("f.pkl", "pyskl", 300), ("f.npz", "ctrgcn-npz", 100)):
        whole = (tmp_path / name).read_bytes()
        for number in range(count):
            broken = tmp_path / f"broken{Path(name).suffix}"
            broken.write_bytes(damage(whole, number % 8, rng))
            try:
                prepare_dataset(dataset, tmp_path / "store", raw=[broken], force=True)
            except UserError as error:
                refused.append(str(error))
    assert len(refused) > 200
    assert all("broken" in said for said in refused)
