"""A trial of the ranks' connection: every collective with numbers that are known, and how fast a large sum is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from stdcl.parallel.comm import Comm

BYTES = 64 * 2**20
"""Of the tensor that is summed: about what DDP sends of an encoder in a step, several times over."""
REPEATS = 5


@dataclass(frozen=True)
class CommTrial:
    """What was found, equal on every rank.

    Attributes:
        wrong: the collectives that gave a rank other numbers than they should.
        seconds: of one sum of ``BYTES`` over all ranks, the slowest rank's mean.
        rate: bytes per second that each rank sent for it, by the ring algorithm (``2 (W-1)/W`` times ``BYTES``).
    """

    wrong: tuple[str, ...]
    seconds: float
    rate: float


def try_collectives(comm: Comm, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> CommTrial:
    """Try every collective; each rank calls this.

    Args:
        comm: the ranks.
        device: of this rank's tensors.
        clock: seconds.
    """
    rank, size = comm.rank, comm.size
    own = torch.full((3,), float(rank + 1), device=device)
    every = torch.arange(1.0, size + 1.0, device=device)
    given = {
        "all_gather": (comm.all_gather(own), every[:, None].expand(size, 3)),
        # To each rank r goes 100 own + r.
        "all_to_all": (
            comm.all_to_all(100.0 * own[:1] + every - 1.0),
            100.0 * every + rank,
        ),
        "sum": (comm.all_reduce(own), every.sum().expand(3)),
        "max": (comm.all_reduce(own, "max"), every[-1:].expand(3)),
        "min": (comm.all_reduce(own, "min"), every[:1].expand(3)),
        "broadcast": (comm.broadcast(own, size - 1), every[-1:].expand(3)),
    }
    faults = torch.tensor([float(not torch.equal(found, wanted)) for found, wanted in given.values()], device=device)
    anywhere = comm.all_reduce(faults, "max").tolist()
    seconds = _seconds(comm, torch.ones(BYTES // 4, device=device), clock)
    sent = 2 * (size - 1) / size * BYTES
    wrong = tuple(name for name, fault in zip(given, anywhere, strict=True) if fault)
    return CommTrial(wrong, seconds, sent / seconds if seconds > 0 else 0.0)


def _seconds(comm: Comm, large: Tensor, clock: Callable[[], float]) -> float:
    comm.all_reduce(large)  # opens what connections are opened late
    comm.barrier()
    finish(large.device)
    begin = clock()
    for _ in range(REPEATS):
        comm.all_reduce(large)
    finish(large.device)
    own = torch.tensor([(clock() - begin) / REPEATS], dtype=torch.float64, device=large.device)
    return float(comm.all_reduce(own, "max").item())


def finish(device: torch.device) -> None:
    """Wait for what was asked of a GPU; a CPU has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def nccl_version() -> str:
    """Return the version of NCCL that PyTorch was built with; empty without."""
    if not (dist.is_available() and dist.is_nccl_available()):
        return ""
    version: tuple[int, ...] = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
    return ".".join(map(str, version))


def gather_texts(text: str, comm: Comm, device: torch.device) -> list[str]:
    """Return every rank's text, in rank order."""
    data = text.encode("utf-8")
    longest = int(comm.all_reduce(torch.tensor([len(data)], dtype=torch.int64, device=device), "max").item())
    padded = torch.zeros(max(1, longest), dtype=torch.uint8)
    padded[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else padded[:0]
    rows = comm.all_gather(padded.to(device)).cpu().numpy()
    return [bytes(row).rstrip(b"\0").decode("utf-8") for row in rows]
