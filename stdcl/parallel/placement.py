"""Which rank owns which slot: the slots are dealt out like cards, slot ``i`` to rank ``i % W``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Placement:
    """The division of ``num_slots`` slots over ``size`` ranks.

    Dealing them out evens the classes of a dataset that is sorted by class, keeps shard sizes within one of each
    other, and makes a shard's row order the order of its slots, so that ties by row are ties by slot.
    """

    num_slots: int
    size: int

    def rows(self, rank: int) -> int:
        """Number of slots that ``rank`` owns (zero when there are more ranks than slots)."""
        return len(range(rank, self.num_slots, self.size))

    def slots(self, rank: int, device: torch.device | str = "cpu") -> Tensor:
        """Return ``(rows,)`` int64: the slots of ``rank`` in row order, which is ascending."""
        return rank + self.size * torch.arange(self.rows(rank), device=device)

    def owner(self, slots: Tensor) -> Tensor:
        """Rank that owns each slot."""
        return slots % self.size

    def row(self, slots: Tensor) -> Tensor:
        """Row of each slot within its owner's shard."""
        return slots // self.size

    def rows_on(self, rank: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return the row of each slot on ``rank`` (``rows(rank)`` where it is not there or -1), and whether it is."""
        if self.size == 1:
            return torch.where(slots >= 0, slots, self.num_slots), slots >= 0
        row = self.row(slots)
        here = (slots >= 0) & (row * self.size + rank == slots)
        return torch.where(here, row, self.rows(rank)), here
