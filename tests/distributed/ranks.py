"""Run a function on several ranks: on real gloo processes, or on threads of this process."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from stdcl.parallel.comm import Comm, ProcessGroupComm, ReduceOp


def run_on_ranks(function: Callable[..., Any], size: int, *args: Any, timeout: float = 240.0) -> list[Any]:
    """Call ``function(comm, *args)`` on ``size`` gloo processes and return the results in rank order.

    ``function`` must be at the top level of a module, arguments and results picklable (return NumPy arrays or tensors
    on the CPU). If a rank fails, the others are ended and its traceback is raised here.
    """
    # Plain pickle: multiprocessing's own would share tensors' memory, which ends with the process that made them.
    call = pickle.dumps((function, args))
    # A fork server that has imported torch once: ranks start in milliseconds, and no threads are forked.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.distributed", __name__])
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = f"file://{Path(folder) / 'rendezvous'}"
        pipes, processes = [], []
        for rank in range(size):
            receive, send = context.Pipe(duplex=False)
            process = context.Process(
                target=_rank_main, args=(call, rank, size, rendezvous, send, timeout), daemon=True
            )
            process.start()
            send.close()
            pipes.append(receive)
            processes.append(process)
        results: list[Any] = [None] * size
        waiting = set(range(size))
        deadline = time.monotonic() + timeout
        try:
            while waiting:
                for rank in sorted(waiting):
                    if pipes[rank].poll(0.02):
                        try:
                            kind, value = pipes[rank].recv()
                        except EOFError:
                            raise RuntimeError(f"rank {rank} of {size} died without a word") from None
                        if kind == "error":
                            raise RuntimeError(f"rank {rank} of {size} failed:\n{value}")
                        results[rank] = pickle.loads(value)
                        waiting.discard(rank)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"ranks {sorted(waiting)} of {size} gave no result in {timeout} s")
            for process in processes:
                process.join(timeout)
        finally:
            for process in processes:
                if process.is_alive():
                    process.kill()
                process.join()
            for pipe in pipes:
                pipe.close()
    return results


def _rank_main(call: bytes, rank: int, size: int, rendezvous: str, send: Any, timeout: float) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        dist.init_process_group(
            "gloo", init_method=rendezvous, rank=rank, world_size=size, timeout=timedelta(seconds=timeout)
        )
        function, args = pickle.loads(call)
        result = function(ProcessGroupComm(), *args)
        dist.barrier()
        send.send(("result", pickle.dumps(result)))
        send.close()
        dist.destroy_process_group()
    except BaseException:
        send.send(("error", traceback.format_exc()))
        raise SystemExit(1) from None


class _Meeting:
    """Where threads of one process exchange tensors."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)
        self.places: list[Any] = [None] * size

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.places[rank] = value
        self.barrier.wait()
        everything = list(self.places)
        self.barrier.wait()
        return everything


class ThreadComm:
    """One rank among threads. Refuses collectives whose kind, shape or type differs between ranks."""

    def __init__(self, rank: int, meeting: _Meeting) -> None:
        self.rank = rank
        self.size = len(meeting.places)
        self._meeting = meeting

    def _exchange(self, kind: str, x: Tensor) -> list[Tensor]:
        everything = self._meeting.exchange(self.rank, (kind, tuple(x.shape), x.dtype, x.detach().clone()))
        signatures = {entry[:3] for entry in everything}
        assert len(signatures) == 1, f"ranks called different collectives: {signatures}"
        return [entry[3] for entry in everything]

    def all_gather(self, x: Tensor) -> Tensor:
        return torch.stack(self._exchange("all_gather", x))

    def all_to_all(self, x: Tensor) -> Tensor:
        assert len(x) == self.size
        return torch.stack([sent[self.rank] for sent in self._exchange("all_to_all", x)])

    def all_reduce(self, x: Tensor, op: ReduceOp = "sum") -> Tensor:
        stacked = torch.stack(self._exchange(f"all_reduce {op}", x))
        return {"sum": lambda t: t.sum(0), "max": lambda t: t.amax(0), "min": lambda t: t.amin(0)}[op](stacked)

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        return self._exchange(f"broadcast {source}", x)[source].clone()

    def barrier(self) -> None:
        self._exchange("barrier", torch.zeros(()))


def run_on_threads(function: Callable[..., Any], size: int, *args: Any) -> list[Any]:
    """Call ``function(comm, *args)`` on ``size`` threads and return the results in rank order."""
    meeting = _Meeting(size)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def main(rank: int) -> None:
        try:
            comm: Comm = ThreadComm(rank, meeting)
            results[rank] = function(comm, *args)
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            errors.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=main, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
