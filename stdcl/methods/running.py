"""Means over the sequences of an epoch, summed on the device and read once at its end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class RunningMeans:
    """Named sums over global batches, equal on all ranks. Adding never waits for the device."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self._names = tuple(names)
        self._sums = torch.zeros(1 + len(self._names), dtype=torch.float64, device=device)

    def add(self, sums: Tensor, count: int) -> None:
        """Add a batch of ``count`` sequences: ``sums`` holds one number a name."""
        self._sums[0] += count
        self._sums[1:] += sums.detach()

    def state(self) -> list[float]:
        """Return the sums so far, for a checkpoint inside an epoch."""
        values: list[float] = self._sums.tolist()
        return values

    def load(self, state: list[float]) -> None:
        """Take up the sums that :meth:`state` gave."""
        self._sums.copy_(torch.tensor(state, dtype=torch.float64))

    def close(self) -> dict[str, float]:
        """Return the means by name and start anew; nothing if there was no sequence."""
        count, *values = self._sums.tolist()
        self._sums.zero_()
        return {name: value / count for name, value in zip(self._names, values, strict=True)} if count else {}
