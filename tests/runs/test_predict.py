"""Single clips are classified as an evaluation classifies them, from any raw format."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from stdcl.cli import BAD_INPUT, DONE, main
from stdcl.data.clips import read_clips
from stdcl.data.custom.prepare import prepare_custom
from stdcl.data.nw_ucla.prepare import prepare_nw_ucla
from stdcl.data.nw_ucla.synthetic import write_corpus
from stdcl.data.prepare import prepare_dataset
from stdcl.data.store import SequenceStore
from stdcl.errors import UserError
from stdcl.results.scores import read_run
from stdcl.runs.evaluate import evaluate_run
from stdcl.runs.import_checkpoint import import_checkpoint
from stdcl.runs.predict import predict
from tests.data.foreign.files import write_ctrgcn, write_pyskl
from tests.runs.test_import_checkpoint import public_state


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of random weights on a synthetic corpus, whose raw files stay beside it."""
    folder = tmp_path_factory.mktemp("predict")
    write_corpus(folder / "raw", 30, 0)
    prepare_nw_ucla(folder / "raw", folder / "store")
    torch.save(public_state("hcn"), folder / "weights.pt")
    store = str(folder / "store")
    import_checkpoint("hcn", folder / "weights.pt", dataset="nw-ucla", stream="joint", out=folder / "run", store=store)
    return folder / "run"


def test_predictions_are_those_of_an_evaluation(run: Path) -> None:
    evaluate_run(run)
    scores = read_run(run)
    files = [run.parent / "raw" / f"{name}.json" for name in scores.ids]
    found = predict(run, files, top=10)
    for prediction, logits in zip(found, scores.logits, strict=True):
        chances = np.exp(logits - logits.max())
        said = dict(prediction.top)
        expected = dict(zip(scores.classes, chances / chances.sum(), strict=True))
        assert said.keys() == expected.keys()
        for name, chance in expected.items():
            assert said[name] == pytest.approx(chance, rel=1e-2, abs=1e-4)  # scores files hold half precision
        assert [chance for _, chance in prediction.top] == sorted(said.values(), reverse=True)


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = sorted((run.parent / "raw").glob("a*.json"))[0]
    content = json.loads(first.read_text())
    (tmp_path / "anything.json").write_text(json.dumps({"skeletons": content["skeletons"]}))  # no name, no label
    assert main(["predict", str(run), str(first), str(tmp_path / "anything.json")]) == DONE
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 12
    assert said[1:6] == said[7:12]
    assert main(["predict", str(run), str(first), "--json", "--top", "2"]) == DONE
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["file"], one["clip"], len(one["top"])) == (str(first), first.stem, 2)
    write_pyskl(tmp_path / "other.pkl")
    for words, part in [
        (["predict", str(run), str(tmp_path / "other.pkl")], "of the skeleton 'coco17' (17 joints)"),
        (["predict", str(run), str(tmp_path / "no.json")], "No such file"),
        (["predict", str(run), str(tmp_path)], "clips are read from .json, .npz"),
        (["predict", str(run), str(first), "--top", "0"], "at least 1"),
    ]:
        assert main(words) == BAD_INPUT
        assert part in capsys.readouterr().err


def test_a_benchmarks_store_may_be_gone(run: Path) -> None:
    first = sorted((run.parent / "raw").glob("a*.json"))[0]
    before = predict(run, [first])
    assert predict(run, first) == predict(run, str(first)) == before
    (run.parent / "store").rename(run.parent / "moved")
    try:
        assert predict(run, [first]) == before
        assert predict(run, [first], data_path=run.parent / "moved") == before
    finally:
        (run.parent / "moved").rename(run.parent / "store")


def test_clips_of_a_dataset_of_ones_own(tmp_path: Path) -> None:
    """A clip is read with the marks and the origin that its store was prepared with."""
    x = np.random.default_rng(0).normal(size=(6, 3, 3)).astype(np.float32) + 5
    x[2, 1] = -1
    for number in (0, 1):
        np.savez(tmp_path / f"c{number}.npz", values=x, label=number, subject=number)
    spec = {
        "name": "mine", "joints": ["a", "b", "c"], "parents": [0, 0, 1], "classes": ["x", "y"], "files": ["*.npz"],
        "splits": {"s": {"column": "subject", "train": [0]}}, "undetected": ["zeros"],
    }  # fmt: skip
    (tmp_path / "d.yaml").write_text(yaml.safe_dump(spec))
    prepare_custom(tmp_path / "d.yaml", tmp_path / "store")
    store = SequenceStore.open(tmp_path / "store")
    (clip,) = read_clips(tmp_path / "c0.npz", store.manifest)
    np.testing.assert_array_equal(clip.values, store.sequence(0))
    np.savez(tmp_path / "wide.npz", values=np.ones((4, 2, 3, 3)))
    with pytest.raises(UserError, match="too many persons"):
        read_clips(tmp_path / "wide.npz", store.manifest)


def test_the_reader_is_that_of_the_runs_format_and_else_the_one_that_can(tmp_path: Path) -> None:
    """Custom clips and CTR-GCN's arrays are both .npz; a clip comes out as its store holds it."""
    arrays = write_ctrgcn(tmp_path / "NTU.npz")
    prepare_dataset("ctrgcn-npz", tmp_path / "npz", raw=[tmp_path / "NTU.npz"])
    write_pyskl(tmp_path / "space.pkl", dimensions=3, joints=25)
    prepare_dataset("pyskl", tmp_path / "pkl", raw=[tmp_path / "space.pkl"])
    npz, pkl = SequenceStore.open(tmp_path / "npz"), SequenceStore.open(tmp_path / "pkl")
    np.savez(tmp_path / "unlabelled.npz", x_test=arrays["x_test"])
    for like in (npz.manifest, pkl.manifest):
        clips = read_clips(tmp_path / "unlabelled.npz", like)
        assert [clip.name for clip in clips] == [f"test-{number:06d}" for number in range(4)]
        for clip in clips:
            np.testing.assert_array_equal(clip.values, npz.sequence(npz.ids.index(clip.name)))
    # Poses that are not at their origin are moved there for a network whose store is.
    for clip in read_clips(tmp_path / "space.pkl", npz.manifest):
        whole = pkl.sequence(pkl.ids.index(clip.name))
        np.testing.assert_array_equal(clip.values, whole - whole[0, 0, npz.skeleton.origin])
    np.savez(tmp_path / "neither.npz", data=np.zeros(3))
    with pytest.raises(UserError, match="no array 'x_train'; it has data"):
        read_clips(tmp_path / "neither.npz", npz.manifest)


def test_clips_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_pyskl(tmp_path / "plane.pkl")
    prepare_dataset("pyskl", tmp_path / "store", raw=[tmp_path / "plane.pkl"])
    like = SequenceStore.open(tmp_path / "store").manifest
    write_pyskl(tmp_path / "space.pkl", dimensions=3)
    with pytest.raises(UserError, match="joints have 3 coordinates; the network was trained on 2"):
        read_clips(tmp_path / "space.pkl", like)
    (tmp_path / "empty.pkl").write_bytes(pickle.dumps({"annotations": []}))
    with pytest.raises(UserError, match="there is no clip in it"):
        read_clips(tmp_path / "empty.pkl", like)


def test_every_file_that_cannot_be_read_is_named(run: Path, tmp_path: Path) -> None:
    bad = [tmp_path / "a.json", tmp_path / "b.json"]
    for file in bad:
        file.write_text("{", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        predict(run, bad)
    assert [str(file) in line for file, line in zip(bad, str(caught.value).splitlines(), strict=True)] == [True, True]


def test_a_store_of_other_data_is_refused(run: Path, tmp_path: Path) -> None:
    """Else its class names, or an encoder of other joints, would be taken for the run's."""
    write_ctrgcn(tmp_path / "NTU.npz", classes=10)
    prepare_dataset("ctrgcn-npz", tmp_path / "npz", raw=[tmp_path / "NTU.npz"])
    (folder,) = (run / "checkpoints").glob("epoch-*")
    manifest = json.loads((folder / "manifest.json").read_text())
    trained_on = manifest["identity"]["dataset_hash"]
    manifest["identity"]["dataset_hash"] = SequenceStore.open(run.parent / "store").manifest.content_hash
    (folder / "manifest.json").write_text(json.dumps(manifest))
    first = sorted((run.parent / "raw").glob("a*.json"))[0]
    try:
        predict(run, [first])
        with pytest.raises(UserError, match="trained on data with content hash"):
            predict(run, [first], data_path=tmp_path / "npz")
    finally:
        manifest["identity"]["dataset_hash"] = trained_on
        (folder / "manifest.json").write_text(json.dumps(manifest))
