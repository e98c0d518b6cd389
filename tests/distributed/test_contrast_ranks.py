"""The contrast on real gloo processes."""

from __future__ import annotations

import hashlib
import random
import resource
import time
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from stdcl.config.contrast import ContrastConfig
from stdcl.methods.stdcl.head import DecouplingHead
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.comm import Comm, LocalComm
from tests.distributed.ranks import run_on_ranks
from tests.methods.stdcl.runs import assert_same, make_plan, rounding, run

SMALL = {
    "strategy": "spatial+temporal+global",
    "embedding_dim": 8,
    "hard_positives": 3,
    "hard_negatives": 12,
    "random_negatives": 9,
}


@pytest.mark.parametrize("exchange", ["candidates", "allgather"])
def test_gloo_ranks_give_what_one_rank_gives(exchange: str) -> None:
    for dtype in (torch.float32, torch.float64):
        plan = make_plan({**SMALL, "exchange": exchange}, slots=61, batch_size=7, steps=20, dtype=dtype, ties=True)
        reference = [run(LocalComm(), plan)]
        for size in (2, 4):
            assert_same(run_on_ranks(run, size, plan), reference, plan)


def _train_head(comm: Comm, distributed: bool) -> dict[str, Any]:
    """Train a head by the contrast alone for some steps, as the training loop does it."""
    config = ContrastConfig(**SMALL, channel_reduction=2)
    torch.manual_seed(0)
    head = DecouplingHead(config, (2, 8, 5, 6), 9).double()
    start = {name: p.detach().clone() for name, p in head.named_parameters()}
    labels = torch.arange(40) % 4
    contrast = Contrast(config, labels, comm, dtype=torch.float64)
    model: torch.nn.Module = DistributedDataParallel(head) if distributed else head
    optimiser = torch.optim.SGD(head.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(1)
    gradients = []
    for step in range(12):
        count = 11 if step % 3 else 10
        maps = torch.randn(count, 2, 8, 5, 6, generator=generator, dtype=torch.float64)
        pooled = torch.randn(count, 9, generator=generator, dtype=torch.float64)
        slots = torch.randint(0, 40, (count,), generator=generator)
        mine = torch.tensor_split(torch.arange(count), comm.size)[comm.rank]
        result = contrast.step(model(maps[mine], pooled[mine]), slots[mine], step=step, batch_size=11)
        optimiser.zero_grad()
        total = sum(result.losses.values())
        assert isinstance(total, Tensor)
        (comm.size * total).backward()
        gradients.append({name: p.grad.clone() for name, p in head.named_parameters() if p.grad is not None})
        optimiser.step()
    return {"start": start, "gradients": gradients, "end": {n: p.detach().clone() for n, p in head.named_parameters()}}


def test_the_head_trains_and_does_so_equally_on_any_number_of_ranks() -> None:
    """Traps 1, 2 and 4: unequal parts under averaging data parallelism; all parameters move, equal on all ranks."""
    alone = _train_head(LocalComm(), distributed=False)
    for name, value in alone["end"].items():
        assert not torch.equal(value, alone["start"][name]), name
    for size in (2, 4):
        for result in run_on_ranks(_train_head, size, True):
            for step, expected in enumerate(alone["gradients"]):
                for name, gradient in result["gradients"][step].items():
                    torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-13)
            for name, value in result["end"].items():
                torch.testing.assert_close(value, alone["end"][name], rtol=1e-10, atol=1e-13)


SOAK = {**SMALL, "embedding_dim": 32}


def _soak(comm: Comm, steps: int, delays: bool) -> dict[str, Any]:
    """Run many steps, waiting at random; return a checksum of the logical bank and the memory along the way."""
    config = ContrastConfig(**SOAK)
    contrast = Contrast(config, torch.arange(500) % 5, comm, seed=1)
    generator = torch.Generator().manual_seed(0)
    waiting = random.Random(comm.rank)
    memory, total = [], 0.0
    for step in range(steps):
        count = int(torch.randint(1, 17, (), generator=generator))
        rows = {b: torch.randn(count, 32, generator=generator) for b in contrast.branches}
        slots = torch.randint(0, 500, (count,), generator=generator)
        mine = torch.tensor_split(torch.arange(count), comm.size)[comm.rank]
        if delays and waiting.random() < 0.05:
            time.sleep(waiting.random() * 0.05)
        local = {b: x[mine].requires_grad_() for b, x in rows.items()}
        result = contrast.step(local, slots[mine], step=step, batch_size=16)
        loss = sum(result.losses.values())
        assert isinstance(loss, Tensor)
        loss.backward()
        total += float(loss.detach())
        if step % 100 == 99:
            contrast.epoch_stats()
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    digest = hashlib.sha256()
    for shard in contrast.shards:
        most = contrast.placement.rows(0)
        padded = torch.zeros(most, 32)
        padded[: shard.rows] = shard.features[:-1, :32]
        bank = comm.all_gather(padded).transpose(0, 1).reshape(-1, 32)[:500]
        digest.update(bank.numpy().tobytes())
    ledger = contrast.slot_index
    digest.update(ledger.listed[:-1].numpy().tobytes() + ledger.written.numpy().tobytes())
    return {"bank": digest.hexdigest(), "total": total, "memory": memory}


def test_banks_do_not_drift_apart() -> None:
    """Trap 7: after many steps the logical bank has one checksum on every rank and for every number of ranks."""
    alone = _soak(LocalComm(), 60, delays=False)
    for result in run_on_ranks(_soak, 2, 60, True):
        assert result["bank"] == alone["bank"]
        assert result["total"] == pytest.approx(alone["total"], rel=rounding(SOAK, torch.float32))


@pytest.mark.slow
def test_soak_of_1000_steps_with_random_delays() -> None:
    """No hang, flat memory, equal checksums on four ranks (traps 7 and 19)."""
    alone = _soak(LocalComm(), 1000, delays=False)
    for result in run_on_ranks(_soak, 4, 1000, True, timeout=1200):
        assert result["bank"] == alone["bank"]
        assert result["total"] == pytest.approx(alone["total"], rel=rounding(SOAK, torch.float32))
        assert result["memory"][-1] - result["memory"][1] < 4 * 1024  # KiB, after the first 200 steps


def _fail(comm: Comm) -> None:
    if comm.rank == 1:
        raise ValueError("on purpose")
    comm.barrier()


def test_a_failing_rank_is_reported_and_the_others_ended() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)rank \d of 2 failed"):
        run_on_ranks(_fail, 2, timeout=60)
