"""``stdcl train`` on a run folder into which a user copied the checkpoints of another training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stdcl import cli
from tests.train.conftest import small_raw

Train = Callable[..., int]


@pytest.fixture(scope="module")
def file(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run file of one epoch and one worker."""
    path = tmp_path_factory.mktemp("file") / "run.yaml"
    path.write_text(yaml.safe_dump(small_raw(small_store, training={"epochs": 1})))
    return path


@pytest.fixture(scope="module")
def donor(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    out = tmp_path_factory.mktemp("donor") / "run"
    assert cli.main(["train", str(file), "--out", str(out)]) == 0
    return out


def _other_store(folder: Path) -> Path:
    from stdcl.data.nw_ucla.synthetic import prepare_synthetic

    prepare_synthetic(folder / "store", 60, 6)
    return folder / "store"


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (["data.stream=bone"], ["stream: 'joint' in the checkpoint, 'bone' in this run"]),
        (
            ["data.evaluate_on=validation"],
            ["split of the data: 'nw-ucla/cross-view/test' in the checkpoint", "data.evaluate_on: 'test'"],
        ),
        (["encoder.name=ctrgcn", "encoder.hidden=null", "encoder.dropout=null"], []),
        (["encoder.hidden=32"], ["encoder.hidden: 16 in the checkpoint, 32 in this run"]),
        (["contrast.embedding_dim=8"], ["contrast.embedding_dim: 16 in the checkpoint, 8 in this run"]),
        (["data.repeat=3"], ["number of bank slots: 80 in the checkpoint, 120 in this run"]),
        (["training.epochs=2"], ["training.epochs: 1 in the checkpoint, 2 in this run"]),
    ],
)
def test_another_configuration(
    file: Path, donor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], reasons: list[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(donor / "checkpoints", out / "checkpoints")
    arguments = [part for text in change for part in ("--set", text)]
    if change[0] == "encoder.name=ctrgcn":
        content = yaml.safe_load(file.read_text())
        content["encoder"] = {"name": "ctrgcn"}
        file = tmp_path / "ctrgcn.yaml"
        file.write_text(yaml.safe_dump(content))
        arguments, reasons = [], ["encoder.name: 'hcn' in the checkpoint, 'ctrgcn' in this run"]
    assert cli.main(["train", str(file), "--out", str(out), *arguments]) == cli.BAD_INPUT
    text = capsys.readouterr().err
    assert "this checkpoint belongs to another training" in text
    for reason in reasons:
        assert reason in text
    left = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert left == sorted(path.name for path in (donor / "checkpoints").iterdir())


def test_another_dataset(file: Path, donor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    shutil.copytree(donor / "checkpoints", out / "checkpoints")
    store = _other_store(tmp_path)
    assert cli.main(["train", str(file), "--out", str(out), "--set", f"data.path={store}"]) == cli.BAD_INPUT
    assert "data (content hash): " in capsys.readouterr().err


def test_a_full_disk_with_one_worker_is_said(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stdcl.training import trainer

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(trainer.HistoryFile, "append", full)
        assert cli.main(["train", str(file), "--out", str(tmp_path / "run")]) == cli.FAILED
    text = capsys.readouterr().err
    assert "not written to: rank 0: OSError: [Errno 28] No space left on device" in text
    assert "to resume from the last checkpoint: stdcl train " in text
    assert cli.main(["train", str(file), "--out", str(tmp_path / "run")]) == 0
