from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from stdcl.config.contrast import ContrastConfig
from stdcl.errors import UserError
from stdcl.methods.stdcl.bank_files import DamagedBank
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.comm import Comm, LocalComm
from tests.distributed.ranks import run_on_threads
from tests.methods.stdcl.runs import Plan, make_plan

CONFIG = {
    "strategy": "spatial+temporal",
    "embedding_dim": 6,
    "hard_positives": 2,
    "hard_negatives": 6,
    "random_negatives": 5,
}
PLAN = make_plan(CONFIG, slots=23, classes=3, batch_size=6, steps=24, seed=2)


def _steps(contrast: Contrast, comm: Comm, plan: Plan, steps: range) -> list[torch.Tensor]:
    losses = []
    for step in steps:
        embeddings, slots = plan.batches[step]
        sizes = plan.parts(len(slots), comm.size)
        start = sum(sizes[: comm.rank])
        mine = slice(start, start + sizes[comm.rank])
        local = {b: x[mine] for b, x in embeddings.items()}
        result = contrast.step(local, slots[mine], step=step, batch_size=plan.batch_size)
        losses.append(torch.stack(list(result.losses.values())))
    return losses


def _new(comm: Comm, **changes: Any) -> Contrast:
    arguments = {"labels": PLAN.labels, "dtype": PLAN.dtype, "dataset": "ucla cross-view", **changes}
    config = ContrastConfig(**{**CONFIG, **arguments.pop("config", {})})
    return Contrast(config, comm=comm, **arguments)


def _first_half(comm: Comm, folder: Path) -> None:
    contrast = _new(comm)
    _steps(contrast, comm, PLAN, range(12))
    contrast.save_shard(folder)


def _second_half(comm: Comm, folder: Path, exchange: str) -> list[torch.Tensor]:
    contrast = _new(comm, config={"exchange": exchange})
    contrast.load(folder)
    return _steps(contrast, comm, PLAN, range(12, 24))


def test_saved_on_any_number_of_ranks_and_loaded_on_any_other(tmp_path: Path) -> None:
    """Traps 5 and 6: the run goes on as if it had not stopped."""
    whole = _new(LocalComm())
    expected = _steps(whole, LocalComm(), PLAN, range(24))[12:]
    assert torch.stack(expected).abs().sum() > 0
    for wrote in (1, 4, 8):
        folder = tmp_path / f"{wrote}"
        folder.mkdir()
        run_on_threads(_first_half, wrote, folder)
        assert len(list(folder.iterdir())) == wrote
        for reads, exchange in ((1, "candidates"), (2, "allgather"), (3, "candidates"), (8, "candidates")):
            for losses in run_on_threads(_second_half, reads, folder, exchange):
                torch.testing.assert_close(torch.stack(losses), torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_files_are_plain_tensors_and_hold_one_shard_each(tmp_path: Path) -> None:
    run_on_threads(_first_half, 3, tmp_path)
    for rank, path in enumerate(sorted(tmp_path.iterdir())):
        content = torch.load(path, weights_only=True)
        assert content["dataset"] == "ucla cross-view"
        assert content["slots"] == 23
        assert content["schema"] == 1
        assert content["branches"] == ["spatial", "temporal"]
        assert ("ledger" in content) is (rank == 0)
        for features in content["features"].values():
            assert features.untyped_storage().nbytes() == (len(range(rank, 23, 3)) + 1) * 8 * 8


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"dataset": "ntu60 xsub"},
            r"another dataset or split.*'ucla cross-view' in the file, 'ntu60 xsub' in this run",
        ),
        ({"labels": PLAN.labels[:-1]}, "number of slots differs"),
        ({"labels": PLAN.labels.roll(1)}, "classes of the slots differ"),
        ({"config": {"strategy": "spatial"}}, r"contrast\.strategy differs"),
        ({"config": {"embedding_dim": 7}}, r"contrast\.embedding_dim differs"),
        ({"dtype": torch.float32}, "number format differs"),
    ],
)
def test_a_bank_of_something_else_is_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    run_on_threads(_first_half, 2, tmp_path)
    with pytest.raises(UserError, match=reason):
        _new(LocalComm(), **changes).load(tmp_path)


def test_damage_is_named(tmp_path: Path) -> None:
    fresh = _new(LocalComm())
    with pytest.raises(DamagedBank, match="found those of 0"):
        fresh.load(tmp_path)
    run_on_threads(_first_half, 3, tmp_path)
    first, second, _ = sorted(tmp_path.iterdir())
    whole = second.read_bytes()
    second.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedBank, match=r"bank-00001-of-00003\.pt: cannot be read"):
        fresh.load(tmp_path)
    second.unlink()
    with pytest.raises(DamagedBank, match=r"ranks \[1\] of 3 are missing"):
        fresh.load(tmp_path)
    second.write_bytes(whole)
    later = torch.load(first, weights_only=True)
    later["written"] += 1
    torch.save(later, first)
    with pytest.raises(DamagedBank, match="not of one moment"):
        fresh.load(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contrast = _new(LocalComm())
    path = contrast.save_shard(tmp_path)
    before = path.read_bytes()

    def full_disk(content: object, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        contrast.save_shard(tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
