"""An exported encoder gives the run's logits, and its description says how clips become its input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stdcl import specs
from stdcl.cli import BAD_INPUT, DONE, main
from stdcl.config.load import read_run_file
from stdcl.data.nw_ucla.prepare import prepare_nw_ucla
from stdcl.data.nw_ucla.synthetic import write_corpus
from stdcl.runs import export
from stdcl.runs.export import CLIPS, export_run
from stdcl.runs.import_checkpoint import import_checkpoint
from stdcl.training.components import open_data
from tests.runs.test_import_checkpoint import public_state


def make_run(folder: Path, encoder: str) -> Path:
    """A run of random weights on a synthetic corpus of 50 test clips."""
    write_corpus(folder / "raw", 150, 0)
    prepare_nw_ucla(folder / "raw", folder / "store")
    torch.save(public_state(encoder), folder / "weights.pt")
    store = str(folder / "store")
    import_checkpoint(
        encoder, folder / "weights.pt", dataset="nw-ucla", stream="joint", out=folder / "run", store=store
    )
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("export"), "hcn")


def test_an_exported_program_is_the_encoder(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.pt2"
    command = ["export", str(run), "--format", "torch", "--out", str(file)]
    assert main(command) == DONE
    assert f"checked on {CLIPS} test clips of the run" in capsys.readouterr().out
    test = open_data(read_run_file(run / "config.yaml")).test
    program = torch.export.load(file).module()
    for count in (1, 3):
        assert program(test.batch(0, np.arange(count)).x).shape == (count, 10)
    assert main(command) == BAD_INPUT
    assert "is there already" in capsys.readouterr().err
    assert main([*command, "--force"]) == DONE


def test_the_description_is_enough_to_make_the_input(run: Path, tmp_path: Path) -> None:
    """Its sentences, carried out in NumPy on a raw file, give what the run's own dataset gives."""
    done = export_run(run, "torch", tmp_path / "net.pt2")
    said = json.loads(done.description.read_text())
    assert said["preprocessing"] == [
        "subtract the first person's joint 'spine' in each frame",
        "take 52 frames spread evenly: numpy.linspace(0, F - 1, 52), truncated to integers",
        "scale each coordinate axis so that its range over the whole clip, all frames, becomes -1 to 1",
        "fill persons that are absent, up to 1, with zeros",
        "derive the stream joint (plain): coordinates as they are",
        "put the axes in the order sequences, coordinates, frames, joints, persons",
    ]
    test = open_data(read_run_file(run / "config.yaml")).test
    raw = json.loads((run.parent / "raw" / f"{test.ids[7]}.json").read_text())
    clip = np.array(raw["skeletons"], dtype=np.float32).astype(np.float64)
    clip -= clip[:, said["skeleton"]["origin"]][:, None]
    low, high = clip.min((0, 1)), clip.max((0, 1))
    picked = clip[np.linspace(0, len(clip) - 1, 52).astype(int)]
    x = (((picked - low) / (high - low)) * 2 - 1).transpose(2, 0, 1)[None, ..., None].astype(np.float32)
    assert list(x.shape[1:]) == said["input"]["shape"][1:]
    torch.testing.assert_close(torch.from_numpy(x), test.batch(0, np.array([7])).x)
    assert said["classes"] == list(specs.dataset("nw-ucla").classes)


def test_another_network_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_read_torch", lambda file: lambda x: np.ones((len(x), 10)))
    assert main(["export", str(run), "--format", "torch", "--out", str(tmp_path / "net.pt2")]) == BAD_INPUT
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert main(["export", str(run), "--format", "onnx"]) == BAD_INPUT
    assert "--format onnx needs onnx, onnxscript, onnxruntime: pip install 'stdcl[onnx]'" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "encoder", [pytest.param(name, marks=() if name == "hcn" else pytest.mark.slow) for name in specs.encoders()]
)
def test_onnx_is_the_encoder(encoder: str, tmp_path: Path) -> None:
    for package in export.NEEDED:
        pytest.importorskip(package, reason="needs ONNX: pip install 'stdcl[onnx]'")
    done = export_run(make_run(tmp_path, encoder), "onnx", tmp_path / "net.onnx")
    assert (done.clips, done.of, done.same_class) == (CLIPS, "test clips of the run", CLIPS)
    assert done.difference <= export.TOLERANCE
    assert {path.name for path in tmp_path.glob("net*")} == {"net.onnx", "net.onnx.json"}, "one file, and what it takes"
