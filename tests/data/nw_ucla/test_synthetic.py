"""The synthetic corpus: the real format and names, a function of the seed, and neither trivial nor hopeless."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stdcl.data.nw_ucla import raw
from stdcl.data.nw_ucla.raw import Name
from stdcl.data.nw_ucla.synthetic import names, prepare_synthetic, sequence, write_corpus
from stdcl.data.prepare import CORPUS_FILE
from stdcl.data.store import SequenceStore
from stdcl.errors import UserError
from stdcl.skeleton import NW_UCLA

Array = NDArray[np.float64]


def digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("a*.json")}


def test_files_are_in_the_real_format(tmp_path: Path) -> None:
    assert write_corpus(tmp_path / "c", 60, 0)
    files = sorted((tmp_path / "c").glob("a*.json"))
    assert len(files) == 60
    for file in files:
        record = raw.read_file(file)
        content = json.loads(file.read_text())
        assert list(content) == ["file_name", "skeletons", "label"]
        assert record.values.shape[1:] == (1, 20, 3)
        # A person a few metres before the camera, in metres.
        assert 1.0 < record.values[..., 2].mean() < 5.0
        height = np.ptp(record.values[:, 0, :, 1], axis=1).max()
        assert 0.6 < height < 2.4
    assert json.loads((tmp_path / "c" / CORPUS_FILE).read_text())["counts"] == {
        "cross-view": {"train": [4] * 10, "test": [2] * 10}
    }


def test_it_is_a_function_of_the_seed_and_grows(tmp_path: Path) -> None:
    for name, count, seed in (("a", 40, 5), ("b", 40, 5), ("c", 70, 5), ("d", 40, 6)):
        write_corpus(tmp_path / name, count, seed)
    a, b, c, d = (digest(tmp_path / name) for name in "abcd")
    assert a == b
    assert a.items() < c.items()
    assert a.keys() == d.keys()
    assert not a.items() & d.items()
    assert len(set(c.values())) == 70


def test_the_same_corpus_is_left_alone_and_others_are_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "c"
    assert write_corpus(out, 30, 0)
    assert not write_corpus(out, 30, 0)
    for sequences, seed in ((31, 0), (30, 1)):
        with pytest.raises(UserError, match="something else is there"):
            write_corpus(out, sequences, seed)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="something else is there"):
        write_corpus(tmp_path / "file", 30, 0)
    with pytest.raises(UserError, match="--sequences is 29"):
        write_corpus(tmp_path / "small", 29, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "file"]


def test_names_are_distinct_and_balanced_at_any_size() -> None:
    for count in (30, 31, 45, 299, 1000, 30_000, 30_001, 90_000):
        got = list(names(count))
        assert len(set(got)) == len(got) == count
        per_class = np.bincount([n.label for n in got], minlength=10)
        assert np.ptp(per_class) <= 1
        assert {n.view for n in got} == {1, 2, 3}
        assert all(0 < n.subject <= 99 and 0 <= n.episode <= 99 for n in got)
    with pytest.raises(UserError, match="297,000"):
        list(names(300_000))


def test_prepared_as_real_data_would_be(tmp_path: Path) -> None:
    done = prepare_synthetic(tmp_path / "s", 90, 1)
    store = SequenceStore.open(tmp_path / "s")
    assert store.manifest == done.manifest
    assert store.manifest.source["corpus"] == "synthetic"
    assert store.manifest.counts["cross-view"] == {"train": [6] * 10, "test": [3] * 10}
    assert prepare_synthetic(tmp_path / "s", 90, 1).action == "unchanged"


def test_bones_keep_their_length_within_the_noise() -> None:
    for label in range(10):
        x = sequence(0, Name(label, 3, 0, 1))
        for joint, parent in enumerate(NW_UCLA.parents):
            if joint != parent:
                length = np.linalg.norm(x[:, joint] - x[:, parent], axis=1)
                assert 0.02 < np.median(length) < 0.7
                assert np.std(length) < 0.12


def test_cameras_see_the_same_performance_from_their_own_side() -> None:
    one, two = (sequence(0, Name(0, 3, 0, view)) for view in (1, 3))
    frames = min(len(one), len(two))
    assert abs(len(one) - len(two)) <= 6
    # Heights agree whatever the side; sideways positions do not.
    spread = [np.ptp(x[:frames, 4] - x[:frames, 8], axis=0) for x in (one, two)]
    assert np.abs(spread[0] - spread[1]).max() > 0.02


def features(sequences: int, views: tuple[int, ...]) -> tuple[list[Array], NDArray[np.int64]]:
    clips, labels = [], []
    for name in names(sequences):
        if name.view in views:
            x = sequence(0, name)
            x = x - x[0, 1]
            x = (x - x.min((0, 1))) / np.ptp(x, axis=(0, 1)) * 2 - 1
            clips.append(x[np.linspace(0, len(x) - 1, 12).astype(int)])
            labels.append(name.label)
    return clips, np.array(labels)


def accuracy(train: Array, train_labels: NDArray[np.int64], test: Array, test_labels: NDArray[np.int64]) -> float:
    """Ridge regression on one-hot labels."""
    mean, scale = train.mean(0), train.std(0) + 1e-6
    a = np.c_[(train - mean) / scale, np.ones(len(train))]
    b = np.c_[(test - mean) / scale, np.ones(len(test))]
    weights = np.linalg.solve(a.T @ a + 30 * np.eye(a.shape[1]), a.T @ np.eye(10)[train_labels])
    return float(((b @ weights).argmax(1) == test_labels).mean())


def test_one_pose_or_one_coordinate_does_not_tell_the_actions_but_the_sequence_helps() -> None:
    train, labels = features(600, (1, 2))
    test, test_labels = features(600, (3,))
    whole, other = np.array(train), np.array(test)

    def score(select: object) -> float:
        a, b = select(whole), select(other)  # type: ignore[operator]
        return accuracy(a.reshape(len(a), -1), labels, b.reshape(len(b), -1), test_labels)

    assert score(lambda x: x.mean(1)) < 0.6
    assert score(lambda x: x[:, 6]) < 0.6
    assert max(score(lambda x, j=j, c=c: x[:, :, j, c]) for j in range(20) for c in range(3)) < 0.6
    assert 0.4 < score(lambda x: x) < 0.95


def test_sitting_down_and_standing_up_pass_through_the_same_poses() -> None:
    down, up = (
        np.mean([sequence(0, Name(label, s, e, 1)).mean(0) for s in range(1, 11) for e in range(4)], axis=0)
        for label in (4, 5)
    )
    walk = np.mean([sequence(0, Name(3, s, e, 1)).mean(0) for s in range(1, 11) for e in range(4)], axis=0)

    def shape(x: Array) -> Array:
        return x - x[1]

    assert np.abs(shape(down) - shape(up)).mean() < 0.6 * np.abs(shape(down) - shape(walk)).mean()
