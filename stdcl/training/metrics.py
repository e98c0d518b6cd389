"""Sums that an epoch's numbers are made of: kept on the device, reduced over ranks once per epoch."""

from __future__ import annotations

import ctypes
import math
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from stdcl.parallel.comm import Comm


class Sums:
    """Named running sums in float64, without a host synchronisation per step.

    ``local`` values are this rank's share and are summed over ranks; ``common`` values are equal on every rank.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._local: dict[str, Tensor] = {}
        self._common: dict[str, Tensor] = {}

    def add_local(self, name: str, value: Tensor | float) -> None:
        """Add this rank's share of a sum."""
        self._add(self._local, name, value)

    def add_common(self, name: str, value: Tensor | float) -> None:
        """Add a value that every rank has equally."""
        self._add(self._common, name, value)

    def _add(self, sums: dict[str, Tensor], name: str, value: Tensor | float) -> None:
        term = torch.as_tensor(value, dtype=torch.float64, device=self._device).detach()
        sums[name] = sums[name] + term if name in sums else term.clone()

    def reduce(self, comm: Comm) -> dict[str, float]:
        """Return every sum over all ranks; all ranks must hold the same names."""
        names = sorted(self._local)
        packed = torch.zeros(1 + len(names), dtype=torch.float64, device=self._device)  # never empty
        for place, name in enumerate(names, start=1):
            packed[place] = self._local[name]
        total = comm.all_reduce(packed).tolist()
        out = dict(zip(names, total[1:], strict=True))
        return out | {name: value.item() for name, value in self._common.items()}

    def state(self, comm: Comm) -> dict[str, Any]:
        """Return the sums of all ranks as plain numbers; every rank calls this, holding the same names.

        Each rank's share is kept, not their sum: adding up in another order gives other last bits.
        """
        names = sorted(self._local)
        own = torch.zeros(1 + len(names), dtype=torch.float64, device=self._device)  # never empty
        for place, name in enumerate(names, start=1):
            own[place] = self._local[name]
        shares = comm.all_gather(own)[:, 1:].T.tolist()
        return {
            "local": dict(zip(names, shares, strict=True)),
            "common": {name: value.item() for name, value in self._common.items()},
        }

    def load(self, state: Mapping[str, Any], comm: Comm) -> None:
        """Take up the sums that :meth:`state` gave, on any number of ranks."""
        for name, shares in state["local"].items():
            if len(shares) == comm.size:
                self.add_local(name, shares[comm.rank])
            else:
                self.add_local(name, math.fsum(shares) if comm.rank == 0 else 0.0)
        for name, value in state["common"].items():
            self.add_common(name, value)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


class Stopwatch:
    """Seconds spent in a repeated piece of work; on CUDA by events, so that asynchronous work counts."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time the block."""
        if self._cuda:
            start, stop = _event(), _event()
            start.record()
            yield
            stop.record()
            self._events.append((start, stop))
        else:
            begin = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - begin

    def take(self) -> float:
        """Return the seconds since the last call, and start again from zero."""
        if self._events:
            torch.cuda.synchronize()
            self._seconds += sum(start.elapsed_time(stop) for start, stop in self._events) / 1000.0
            self._events.clear()
        seconds, self._seconds = self._seconds, 0.0
        return seconds


STEADY = slice(1, 4)
"""Of the epochs of a process, those that its speed is measured by: the first one also warms up."""


def steady_seconds(epochs: Sequence[float]) -> float | None:
    """Return the median of the second to the fourth epoch's seconds; None where there are fewer than four."""
    steady = epochs[STEADY]
    return median(steady) if len(steady) == STEADY.stop - STEADY.start else None


_RESET_PEAK = "5"
"""To ``/proc/self/clear_refs`` (proc(5), Linux 4.0): the peak of the resident size becomes its present value."""


def reset_peak_memory(device: torch.device) -> bool:
    """Count the peak from now on, in a process that may have trained before; return whether that is possible.

    Where it is not (no Linux, or a container without that file), ``peak_memory`` is the process's peak.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)  # what an earlier training freed is not this one's
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def peak_memory(comm: Comm, device: torch.device) -> float:
    """Return the largest peak memory of a rank since ``reset_peak_memory``, in MiB.

    On CUDA that is GPU memory, elsewhere resident memory.
    """
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    own = torch.tensor([peak], dtype=torch.float64, device=device)
    return float(comm.all_reduce(own, "max").item())
