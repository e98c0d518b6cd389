"""A training that was stopped inside an epoch goes on with another number of ranks; saving needs no second copy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stdcl.config import ContrastConfig
from stdcl.config.load import resolve
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.comm import Comm
from stdcl.parallel.placement import Placement
from stdcl.results.history import read_history
from stdcl.training import checkpoint
from stdcl.training.checkpoint import Position
from stdcl.training.trainer import Trainer, training
from tests.distributed.ranks import run_on_ranks
from tests.train.conftest import small_raw

CPU = torch.device("cpu")
STOP = Position(1, 2)


class Stopped(Exception):
    pass


def raw_config(store: Path) -> dict[str, Any]:
    """In float64, so that what rounding leaves cannot hide a fault. 8 sequences a step: 3 ranks do not divide them."""
    raw = small_raw(store)
    raw["data"]["repeat"] = 1
    raw["contrast"]["hard_positives"] = 2
    raw["training"] |= {"batch_size": 8, "precision": "float64", "checkpoint_every_steps": 2}
    return raw


def train(comm: Comm, raw: dict[str, Any], run_dir: str, stop: bool) -> None:
    """Train to the end, or until the checkpoint ``STOP`` is written."""
    real = checkpoint.save

    def save(root: Path, position: Position, *args: Any) -> Path:
        folder = real(root, position, *args)
        if stop and position == STOP:
            raise Stopped
        return folder

    checkpoint.save = save  # type: ignore[assignment]
    try:
        for _ in training(resolve(raw, "test"), Path(run_dir), comm=comm, device=CPU):
            pass
    except Stopped:
        assert stop
    finally:
        checkpoint.save = real


def take_up(comm: Comm, raw: dict[str, Any], run_dir: str, out: str) -> dict[str, Any]:
    """Take up a run as it stands, write its banks again to ``out``; return what it goes on from."""
    trainer = Trainer(resolve(raw, "test"), Path(run_dir), comm, CPU)
    trainer.resume()
    trainer.parts.method.save_shard(Path(out))
    state = trainer.state
    return {"position": state.position, "step": state.global_step, "sums": state.sums.reduce(comm)}


def logical_bank(folder: Path) -> dict[str, Tensor]:
    """Every slot of the banks in ``folder`` in the order of slots, whoever wrote them."""
    files = sorted(folder.glob("bank-*.pt"))
    contents = [torch.load(file, weights_only=True) for file in files]
    ledger = contents[0]["ledger"]
    placement = Placement(contents[0]["slots"], len(files))
    columns = {f"features {branch}": rows for branch, rows in contents[0]["features"].items()}
    out = {name: torch.zeros(placement.num_slots, rows.shape[1], dtype=rows.dtype) for name, rows in columns.items()}
    out["written step"] = torch.zeros(placement.num_slots, dtype=torch.int64)
    for rank, content in enumerate(contents):
        slots = placement.slots(rank)
        for branch, rows in content["features"].items():
            out[f"features {branch}"][slots] = rows[: len(slots)]
        out["written step"][slots] = content["written_step"][: len(slots)]
    return out | {f"ledger {name}": values for name, values in ledger.items()}


@pytest.fixture(scope="module")
def whole(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run on two ranks."""
    folder = tmp_path_factory.mktemp("whole")
    run_on_ranks(train, 2, raw_config(small_store), str(folder), False)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_stopped_on_two_ranks_and_continued_on_another_number(
    small_store: Path, whole: Path, tmp_path: Path, ranks: int
) -> None:
    raw, run_dir, again = raw_config(small_store), tmp_path / "run", tmp_path / "again"
    again.mkdir()
    run_on_ranks(train, 2, raw, str(run_dir), True)
    stopped = run_dir / "checkpoints" / STOP.name
    before = run_on_ranks(take_up, 2, raw, str(run_dir), str(tmp_path))[0]
    for path in tmp_path.glob("bank-*.pt"):
        path.unlink()

    found = run_on_ranks(take_up, ranks, raw, str(run_dir), str(again))
    assert len(list(again.iterdir())) == ranks
    for state in found:
        assert state["position"] == STOP
        assert state["step"] == 7
        assert state["sums"] == pytest.approx(before["sums"], rel=1e-14)
    saved, loaded = logical_bank(stopped), logical_bank(again)
    assert saved.keys() == loaded.keys()
    for name, values in saved.items():
        assert torch.equal(values, loaded[name]), name

    run_on_ranks(train, ranks, raw, str(run_dir), False)
    same = ranks == 2
    rows, expected = read_history(run_dir / "history.jsonl"), read_history(whole / "history.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row, other in zip(rows, expected, strict=True):
        for key in ("loss", "ce", "loss_spatial", "loss_temporal", "train_accuracy", "accuracy", "best_accuracy"):
            assert row[key] == (other[key] if same else pytest.approx(other[key], rel=1e-9)), key
    last = Position(3).name
    ends = [checkpoint.load_state(folder / "checkpoints" / last, CPU)["model"] for folder in (run_dir, whole)]
    banks = [logical_bank(folder / "checkpoints" / last) for folder in (run_dir, whole)]
    for one, other in (ends, banks):
        assert one.keys() == other.keys()
        for name, values in one.items():
            if same:
                assert torch.equal(values, other[name]), name
            else:
                torch.testing.assert_close(values, other[name], rtol=1e-8, atol=1e-10, msg=name)


def evaluate_local(comm: Comm, raw: dict[str, Any], run_dir: str) -> dict[str, Any]:
    """Train with local batch norm; return the buffers that the last evaluation was made with."""
    trainer = Trainer(resolve(raw, "test"), Path(run_dir), comm, CPU)
    for _ in trainer.run():
        pass
    return {name: buffer.numpy() for name, buffer in trainer.parts.model.named_buffers()}


@pytest.mark.slow
def test_ranks_with_local_batch_norm_evaluate_what_the_checkpoint_holds(small_store: Path, tmp_path: Path) -> None:
    raw = raw_config(small_store)
    raw["encoder"] = {"name": "ctrgcn"}  # HCN has no batch norm
    raw["data"]["frames"] = 8
    raw["training"] |= {"epochs": 1, "batch_size": 20, "batch_norm": "local", "precision": "float32"}
    found = run_on_ranks(evaluate_local, 2, raw, str(tmp_path))
    saved = checkpoint.load_state(tmp_path / "checkpoints" / Position(1).name, CPU)["model"]
    assert any(name.endswith("running_var") for name in found[0])
    for buffers in found:
        for name, value in buffers.items():
            assert torch.equal(torch.from_numpy(value), saved[name]), name


def _kib(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise KeyError(name)


def growth(comm: Comm, slots: int, width: int, folder: str) -> dict[str, float]:
    """Save banks; return the growth of this rank's peak resident memory meanwhile, and one copy's size, in MiB."""
    config = ContrastConfig(strategy="global", embedding_dim=width)
    contrast = Contrast(config, torch.arange(slots) % 60, comm)
    for shard in contrast.shards:
        shard.features.normal_()  # every page is there before
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _kib("VmRSS")
    contrast.save_shard(Path(folder))
    return {"growth": (_kib("VmHWM") - before) / 1024, "copy": slots * width * 4 / 2**20, "pid": os.getpid()}


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peak memory is read from /proc")
def test_saving_holds_no_second_copy(tmp_path: Path) -> None:
    """Two ranks with half of 200,000 x 256 float32 each: the peak grows by far less than even one rank's half."""
    found = run_on_ranks(growth, 2, 200_000, 256, str(tmp_path))
    print("\nMEASURED", found)
    for rank in found:
        assert rank["growth"] < 0.1 * rank["copy"]
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) > 0.99 * found[0]["copy"] * 2**20
