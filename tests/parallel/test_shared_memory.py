"""Small collectives through shared memory equal those of the process group, and never wait for the dead."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from stdcl.parallel import shared_memory
from stdcl.parallel.comm import Comm, LocalComm, RankOrderComm
from stdcl.parallel.shared_memory import CAPACITY, LostRank, SharedMemoryComm, shared_memory_comm
from tests.distributed.ranks import run_on_ranks

needs_shared_memory = pytest.mark.skipif(
    shared_memory._machine() == 0,
    reason="not Linux, or the extension was not built",
)


def compare(comm: Comm, seed: int) -> int:
    """Run many collectives both ways; return how many were compared."""
    small = shared_memory_comm(comm, 30.0)
    assert isinstance(small, SharedMemoryComm)
    shapes = torch.Generator().manual_seed(seed)  # the same on all ranks
    own = torch.Generator().manual_seed(seed * 100 + comm.rank)
    types = (torch.float32, torch.float64, torch.int64, torch.bool)
    for turn in range(200):
        length = int(torch.randint(0, 40, (1,), generator=shapes))
        dtype = types[turn % len(types)]
        x = torch.randint(-50, 50, (length, 3), generator=own).to(dtype)
        if turn % 7 == comm.rank:
            time.sleep(0.002)
        assert torch.equal(small.all_gather(x), comm.all_gather(x))
        if dtype != torch.bool:
            assert torch.equal(small.all_reduce(x), comm.all_reduce(x))
            assert torch.equal(small.all_reduce(x, "max"), comm.all_reduce(x, "max"))
            assert torch.equal(small.all_reduce(x.t(), "min"), comm.all_reduce(x.t(), "min"))
    large = torch.randn(CAPACITY // 4 + 1, generator=own)
    assert torch.equal(small.all_gather(large), comm.all_gather(large))
    assert torch.equal(small.broadcast(large, 1), comm.broadcast(large, 1))
    small.barrier()
    return turn + 1


def names() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("stdcl-*")}


@needs_shared_memory
@pytest.mark.parametrize("size", [2, 3])
def test_equals_the_process_group(size: int) -> None:
    before = names()
    assert run_on_ranks(compare, size, 5) == [200] * size
    assert names() <= before


def sums_as_elsewhere(comm: Comm) -> bool:
    """The sums of ranks that share memory, and of the same ranks as if each had a machine of its own."""
    apart = RankOrderComm(comm)
    together = shared_memory_comm(apart, 30.0)
    assert isinstance(together, SharedMemoryComm)
    own = torch.Generator().manual_seed(comm.rank)
    pairs = [torch.randn(length, generator=own) for length in (1, 64, 1000, CAPACITY // 4, CAPACITY // 4 + 1)]
    return all(torch.equal(together.all_reduce(x), apart.all_reduce(x)) for x in pairs)


@needs_shared_memory
@pytest.mark.parametrize("size", [2, 3, 4])
def test_sums_have_the_same_bits_wherever_the_ranks_are(size: int) -> None:
    assert run_on_ranks(sums_as_elsewhere, size) == [True] * size


def come_late(comm: Comm) -> tuple[str, float]:
    small = shared_memory_comm(comm, 2.0)
    small.all_gather(torch.zeros(3))
    comm.barrier()
    if comm.rank == 1:
        time.sleep(4.0)
        return "", 0.0
    begin = time.monotonic()
    with pytest.raises(LostRank) as caught:
        small.all_gather(torch.zeros(3))
    return str(caught.value), time.monotonic() - begin


@needs_shared_memory
def test_a_late_rank_is_named() -> None:
    said, waited = run_on_ranks(come_late, 2)[0]
    assert "rank 1 did not come" in said
    assert waited >= 2.0


@needs_shared_memory
def test_a_dead_process_is_noticed() -> None:
    assert shared_memory._lives(os.getpid())
    child = os.fork()
    if not child:
        os._exit(0)
    deadline = time.monotonic() + 30
    while shared_memory._lives(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    # It has ended but was not waited for: a zombie is no rank.
    assert not shared_memory._lives(child)
    os.waitpid(child, 0)
    assert not shared_memory._lives(child)


def elsewhere(comm: Comm) -> bool:
    shared_memory._machine = lambda: comm.rank + 1
    return shared_memory_comm(comm, 1.0) is comm


def no_room(comm: Comm) -> bool:
    shared_memory._FOLDER = Path("/proc")  # nothing can be made there
    return shared_memory_comm(comm, 1.0) is comm


@needs_shared_memory
@pytest.mark.parametrize("situation", [elsewhere, no_room])
def test_falls_back_to_the_process_group(situation: object) -> None:
    assert run_on_ranks(situation, 2) == [True, True]


def test_one_rank_needs_none() -> None:
    comm = LocalComm()
    assert shared_memory_comm(comm, 1.0) is comm
