"""Small collectives between ranks of one machine through shared memory.

Synchronised batch normalisation needs some seventy small exchanges per training step, one after another. gloo wakes
three threads for each, which takes the better part of a millisecond where the ranks share a machine's processors;
writing to shared memory and looking whether the others have written takes some microseconds.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stdcl.kernels.extension import extension
from stdcl.parallel.comm import SMALL, Comm, ReduceOp, is_small, reduce_in_rank_order

_shared_memory = extension("stdcl.parallel._shared_memory")

CAPACITY = SMALL
"""Bytes of the largest message; what is larger goes through the process group."""

_LINE = 64
_FOLDER = Path("/dev/shm")
_PATIENCE = 0.1
"""Seconds in compiled code before Python may look at signals and at whether the others live."""


class LostRank(RuntimeError):
    """Another rank has gone, or has not come to a collective in time."""


class SharedMemoryComm:
    """A communicator whose small collectives of CPU tensors go through shared memory; the rest is the inner one's.

    Sums are taken in rank order. To be built by `shared_memory_comm`.
    """

    def __init__(self, inner: Comm, memory: mmap.mmap, pids: list[int], timeout: float) -> None:
        self._inner = inner
        self._memory = memory
        # The address of a mapping, which Python does not tell; the array also keeps the mapping open.
        self._view = np.frombuffer(memory, dtype=np.uint8)
        self._pids = pids
        self._timeout = timeout
        self._number = 0
        self.rank: int = inner.rank
        self.size: int = inner.size

    def all_gather(self, x: Tensor) -> Tensor:
        if not is_small(x):
            return self._inner.all_gather(x)
        x = x.detach().contiguous()
        out = x.new_empty((self.size, *x.shape))
        self._exchange(x, out)
        return out

    def all_reduce(self, x: Tensor, op: ReduceOp = "sum") -> Tensor:
        if not is_small(x):
            return self._inner.all_reduce(x, op)
        return reduce_in_rank_order(self.all_gather(x), op)

    def all_to_all(self, x: Tensor) -> Tensor:
        return self._inner.all_to_all(x)

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        return self._inner.broadcast(x, source)

    def barrier(self) -> None:
        self._inner.barrier()

    def _exchange(self, x: Tensor, out: Tensor) -> None:
        assert _shared_memory is not None
        self._number += 1
        arguments = (
            self._view.ctypes.data,
            CAPACITY,
            self.size,
            self.rank,
            self._number,
            x.data_ptr(),
            out.data_ptr(),
            x.numel() * x.element_size(),
            _PATIENCE,
        )
        begin = time.monotonic()
        while (late := _shared_memory.exchange(*arguments)) >= 0:
            if not _lives(self._pids[late]):
                raise LostRank(
                    f"rank {late} (process {self._pids[late]}) has gone while rank {self.rank} waited for it"
                )
            if time.monotonic() - begin > self._timeout:
                raise LostRank(f"rank {late} did not come to a collective of rank {self.rank} in {self._timeout:g} s")


def shared_memory_comm(inner: Comm, timeout: float) -> Comm:
    """Return a communicator with shared memory for small collectives if all ranks are on one machine, else ``inner``.

    Called by every rank at the same time.

    Args:
        inner: a communicator of CPU tensors.
        timeout: seconds that a rank waits for another in a collective.
    """
    if inner.size == 1:
        return inner
    machine = torch.tensor([_machine()], dtype=torch.int64)
    everywhere = inner.all_gather(machine)
    if not bool((everywhere == machine).all()) or int(machine) == 0:
        return inner
    pids = [int(pid) for pid in inner.all_gather(torch.tensor([os.getpid()])).flatten()]
    drawn = torch.tensor([secrets.randbits(62), secrets.randbits(62)], dtype=torch.int64)
    path = _FOLDER / ("stdcl-" + "-".join(f"{int(part):016x}" for part in inner.broadcast(drawn)))
    length = inner.size * (_LINE + 2 * CAPACITY)
    memory: mmap.mmap | None = None
    try:
        if inner.rank == 0:
            _create(path, length)
        inner.barrier()
        memory = _open(path, length)
        opened = bool(inner.all_reduce(torch.tensor([int(memory is not None)]), "min").item())
    finally:
        # The memory lives as long as it is mapped; no name is left behind whatever happens to the ranks.
        if inner.rank == 0:
            path.unlink(missing_ok=True)
    return SharedMemoryComm(inner, memory, pids, timeout) if memory is not None and opened else inner


def _machine() -> int:
    """Return a number that ranks share if they see the same processes and can share memory; 0 if they cannot."""
    if _shared_memory is None or sys.platform != "linux" or not _FOLDER.is_dir():
        return 0
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        namespaces = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("pid", "mnt")]
    except OSError:
        return 0
    digest = hashlib.sha256("|".join((boot, *namespaces)).encode()).digest()
    return int.from_bytes(digest[:7], "big") | 1


def _create(path: Path, length: int) -> None:
    """Make the file with its memory reserved; leave nothing where that is not possible."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return
    try:
        os.posix_fallocate(descriptor, 0, length)
    except OSError:
        path.unlink()
    finally:
        os.close(descriptor)


def _open(path: Path, length: int) -> mmap.mmap | None:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        return mmap.mmap(descriptor, length)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _lives(pid: int) -> bool:
    """Whether the process exists and is more than an entry that its parent has not read yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")
