from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from stdcl.data import augment
from stdcl.data.ntu.classes import TWO_PERSONS
from stdcl.data.ntu.prepare import prepare_ntu
from stdcl.data.ntu.raw import missing_ids, parse_name, parse_patiently, parse_skeleton
from stdcl.data.ntu.synthetic import clip_names, synth_ntu
from stdcl.data.protocols import official_rules, split
from stdcl.data.store import SequenceStore
from stdcl.errors import UserError


@pytest.mark.parametrize(("dataset", "classes"), [("ntu60", 60), ("ntu120", 120)])
def test_names_cover_every_class_in_every_part(dataset: str, classes: int) -> None:
    names = clip_names(dataset, 4 * classes, seed=0)  # type: ignore[arg-type]
    assert len(set(names)) == len(names)
    assert set(Counter(n.action for n in names).values()) == {4}
    assert not {str(n) for n in names} & missing_ids(dataset)  # type: ignore[arg-type]
    for name in names:
        assert parse_name(str(name)) == name
        assert (name.setup <= 17) == (name.action <= 60)
    column = {"subject": "performer", "view": "camera", "setup": "setup"}
    for rule in official_rules(dataset).values():
        for in_train in (True, False):
            seen = {n.action for n in names if (getattr(n, column[rule.column]) in rule.train) == in_train}
            assert len(seen) == classes


def test_names_grow_with_the_corpus_and_end() -> None:
    assert set(clip_names("ntu60", 240, 1)) < set(clip_names("ntu60", 2000, 1))
    assert clip_names("ntu60", 240, 1) != clip_names("ntu60", 240, 2)
    assert len(set(clip_names("ntu120", 20_000, 0))) == 20_000
    with pytest.raises(UserError, match="at most"):
        clip_names("ntu60", 10_000_000, 0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "raw"
    report = synth_ntu("ntu60", out, sequences=360, seed=0, frames=(20, 40), workers=2)
    assert report.files == 360
    assert "360" in report.render()
    return out


def test_files_have_the_defects_of_real_ones(corpus: Path) -> None:
    found: Counter[str] = Counter()
    files = sorted(corpus.glob("*.skeleton"))
    assert len(files) == 360
    for file in files:
        data = file.read_bytes()
        clip = parse_skeleton(data)
        two = parse_name(file.stem).action in TWO_PERSONS
        found["crlf"] += b"\r\n" in data
        found["lf"] += b"\r\n" not in data
        found["exponent"] += b"e-" in data
        found["lost frames"] += clip.num_kept < clip.num_frames
        found["two persons"] += two
        found["further body"] += len(set(clip.body_ids)) > 1 + two
        found["three at once"] += int(np.bincount(clip.frames).max()) > 2
        assert all(int(body) > 2**53 for body in clip.body_ids)
    assert min(found.values()) > 0, found
    assert set(found) == {
        "crlf", "lf", "exponent", "lost frames", "two persons", "further body", "three at once",
    }  # fmt: skip


def test_the_fast_and_the_patient_parser_agree(corpus: Path) -> None:
    for file in sorted(corpus.glob("*.skeleton"))[::10]:
        data = file.read_bytes()
        fast, slow = parse_skeleton(data), parse_patiently(data)
        np.testing.assert_array_equal(fast.poses, slow.poses)
        np.testing.assert_array_equal(fast.frames, slow.frames)
        assert (fast.body_ids, fast.num_kept, fast.num_frames) == (slow.body_ids, slow.num_kept, slow.num_frames)


def test_same_seed_same_bytes_whatever_the_workers(corpus: Path, tmp_path: Path) -> None:
    synth_ntu("ntu60", tmp_path / "again", sequences=120, seed=0, frames=(20, 40), workers=1)
    synth_ntu("ntu60", tmp_path / "other", sequences=120, seed=1, frames=(20, 40), workers=1)
    again = sorted((tmp_path / "again").glob("*.skeleton"))
    assert len(again) == 120
    for file in again:
        assert file.read_bytes() == (corpus / file.name).read_bytes()
    common = [f for f in again if (tmp_path / "other" / f.name).exists()]
    assert all(f.read_bytes() != (tmp_path / "other" / f.name).read_bytes() for f in common)


def test_refusals(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="something here"):
        synth_ntu("ntu60", corpus, sequences=10)
    with pytest.raises(UserError, match="--sequences 0"):
        synth_ntu("ntu60", tmp_path / "x", sequences=0)
    with pytest.raises(UserError, match="frames 5 to 9"):
        synth_ntu("ntu60", tmp_path / "x", sequences=1, frames=(5, 9))
    assert not list(tmp_path.iterdir())


def test_actions_can_be_learnt(corpus: Path, tmp_path: Path) -> None:
    """A linear map on resampled joints tells the 30 pairs of actions apart far better than chance."""
    report = prepare_ntu("ntu60", [corpus], tmp_path / "store", workers=1)
    assert not report.bad
    store = SequenceStore.open(tmp_path / "store")
    features = []
    for row in range(len(store)):
        x = store.sequence(row)
        y = np.zeros((8, 2, 25, 3))
        y[:, : x.shape[1]] = augment.resample(x, augment.centre_crop(max(augment.valid_frames(x), 1)), 8)
        features.append((y - y[:, :1, 20:21]).ravel())
    x = np.array(features)
    part = split(store, store.rules, "x-view", "ntu60")
    mean, spread = x[part.train].mean(0), x[part.train].std(0) + 0.05
    x = (x - mean) / spread
    pairs = store.labels // 2
    kernel = x[part.train] @ x[part.train].T + 100.0 * np.eye(len(part.train))
    scores = x[part.test] @ x[part.train].T @ np.linalg.solve(kernel, np.eye(30)[pairs[part.train]])
    accuracy = float((scores.argmax(1) == pairs[part.test]).mean())
    assert 0.4 < accuracy < 1.0
