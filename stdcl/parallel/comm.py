"""Communication between ranks, as a small protocol that is injected: one rank runs the same code as many."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor

ReduceOp = Literal["sum", "max", "min"]


@runtime_checkable
class Comm(Protocol):
    """Collectives over ``size`` ranks. Each is called by every rank, in the same order, with equal shapes."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def all_gather(self, x: Tensor) -> Tensor:
        """Return ``(size, *x.shape)``: every rank's ``x`` in rank order. No gradient."""
        ...

    def all_to_all(self, x: Tensor) -> Tensor:
        """Send ``x[r]`` to each rank r and return ``x``'s shape: what each rank sent here, in rank order. No gradient.

        Args:
            x: ``(size, ...)``.
        """
        ...

    def all_reduce(self, x: Tensor, op: ReduceOp = "sum") -> Tensor:
        """Return the element-wise reduction over ranks as a new tensor. No gradient."""
        ...

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        """Return rank ``source``'s ``x`` as a new tensor. No gradient."""
        ...

    def barrier(self) -> None:
        """Return when every rank has come here."""
        ...


class LocalComm:
    """One rank: every collective is the identity."""

    rank = 0
    size = 1

    def all_gather(self, x: Tensor) -> Tensor:
        return x.detach().unsqueeze(0)

    def all_to_all(self, x: Tensor) -> Tensor:
        return x.detach()

    def all_reduce(self, x: Tensor, op: ReduceOp = "sum") -> Tensor:
        return x.detach().clone()

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        return x.detach().clone()

    def barrier(self) -> None:
        return None


_REDUCE = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}


# Renamed in torch 2.13; the old name warns there, the new one is unknown before.
_gather_into = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class ProcessGroupComm:
    """The ranks of a ``torch.distributed`` process group (gloo on CPU, NCCL on GPU)."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self.rank: int = dist.get_rank(group)
        self.size: int = dist.get_world_size(group)

    def all_gather(self, x: Tensor) -> Tensor:
        x = x.detach().contiguous()
        out = x.new_empty((self.size, *x.shape))
        _gather_into(out.view(self.size * x.shape[0], *x.shape[1:]) if x.dim() else out, x, self._group)
        return out

    def all_to_all(self, x: Tensor) -> Tensor:
        x = x.detach().contiguous()
        out = torch.empty_like(x)
        dist.all_to_all_single(out, x, group=self._group)
        return out

    def all_reduce(self, x: Tensor, op: ReduceOp = "sum") -> Tensor:
        out = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(out, _REDUCE[op], self._group)
        return out

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        out = x.detach().clone(memory_format=torch.contiguous_format)
        dist.broadcast(out, source if self._group is None else dist.get_global_rank(self._group, source), self._group)
        return out

    def barrier(self) -> None:
        # A reduction rather than dist.barrier: NCCL's barrier guesses a device, a tensor says which one.
        device = torch.device("cuda", torch.cuda.current_device()) if self._uses_nccl() else torch.device("cpu")
        dist.all_reduce(torch.zeros(1, device=device), group=self._group)

    def _uses_nccl(self) -> bool:
        return "nccl" in str(dist.get_backend(self._group))


SMALL = 64 * 1024
"""Bytes of the largest tensor whose sum is taken in rank order; what is larger is left to the process group."""


def is_small(x: Tensor) -> bool:
    """Whether a tensor is on the CPU, not empty, and of at most ``SMALL`` bytes."""
    return x.device.type == "cpu" and 0 < x.numel() * x.element_size() <= SMALL


def reduce_in_rank_order(every: Tensor, op: ReduceOp) -> Tensor:
    """Return the reduction over the first axis, one rank after the other.

    Args:
        every: ``(size, ...)``, every rank's tensor in rank order.
        op: the reduction.
    """
    if op != "sum":
        return every.amax(0) if op == "max" else every.amin(0)
    total = every[0].clone()
    for other in every[1:]:
        total += other
    return total


class RankOrderComm:
    """A communicator whose small sums of CPU tensors are taken in rank order; the rest is the inner one's.

    gloo sums in an order of its own, shared memory in rank order: with this the bits of a training do not depend on
    which ranks share a machine. Sums over two ranks have one order only.
    """

    def __init__(self, inner: Comm) -> None:
        self._inner = inner
        self.rank: int = inner.rank
        self.size: int = inner.size

    def all_gather(self, x: Tensor) -> Tensor:
        return self._inner.all_gather(x)

    def all_to_all(self, x: Tensor) -> Tensor:
        return self._inner.all_to_all(x)

    def all_reduce(self, x: Tensor, op: ReduceOp = "sum") -> Tensor:
        if self.size <= 2 or op != "sum" or not is_small(x):
            return self._inner.all_reduce(x, op)
        return reduce_in_rank_order(self._inner.all_gather(x), op)

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        return self._inner.broadcast(x, source)

    def barrier(self) -> None:
        self._inner.barrier()


def default_comm(group: dist.ProcessGroup | None = None) -> Comm:
    """Return the ranks of ``group``; without one those of the default process group, or this process alone."""
    if group is None and not (dist.is_available() and dist.is_initialized()):
        return LocalComm()
    return ProcessGroupComm(group)


class CountingComm:
    """Wraps a communicator and counts what each rank sends, for measurements and tests.

    ``bytes_sent`` counts payload by the ring algorithms of gloo and NCCL: in an all-gather of b bytes a rank sends
    ``(W-1) b``; in an all-to-all of b bytes ``(W-1)/W b``; in an all-reduce ``2 (W-1)/W b``; in a broadcast at most b.
    """

    def __init__(self, inner: Comm) -> None:
        self._inner = inner
        self.rank: int = inner.rank
        self.size: int = inner.size
        self.bytes_sent: float = 0.0
        self.calls: dict[str, int] = {"all_gather": 0, "all_to_all": 0, "all_reduce": 0, "broadcast": 0, "barrier": 0}

    def reset(self) -> None:
        """Set every counter to zero."""
        self.bytes_sent = 0.0
        self.calls = dict.fromkeys(self.calls, 0)

    def _count(self, name: str, payload: float) -> None:
        self.calls[name] += 1
        self.bytes_sent += payload

    def all_gather(self, x: Tensor) -> Tensor:
        self._count("all_gather", (self.size - 1) * x.numel() * x.element_size())
        return self._inner.all_gather(x)

    def all_to_all(self, x: Tensor) -> Tensor:
        self._count("all_to_all", (self.size - 1) / self.size * x.numel() * x.element_size())
        return self._inner.all_to_all(x)

    def all_reduce(self, x: Tensor, op: ReduceOp = "sum") -> Tensor:
        self._count("all_reduce", 2 * (self.size - 1) / self.size * x.numel() * x.element_size())
        return self._inner.all_reduce(x, op)

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        self._count("broadcast", x.numel() * x.element_size() if self.size > 1 else 0)
        return self._inner.broadcast(x, source)

    def barrier(self) -> None:
        self._count("barrier", 0)
        self._inner.barrier()
