"""What travels between ranks: the best candidates of each shard, or the shards themselves (STD-CL, eq. 6-9).

With ``candidates`` each rank compares all anchors with its own shard; an all-to-all brings each anchor's candidates to
the rank that merges them, an all-gather what it chose, and two all-reduces the drawn scores and the gradient. With
``allgather`` the shards travel and each rank compares all anchors with the whole bank. Both choose the same slots; they
add the gradient up in another order, so their last bits differ.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from stdcl.methods.stdcl.stable_topk import best
from stdcl.parallel.comm import Comm
from stdcl.parallel.placement import Placement


class Exchange(Protocol):
    """How the ranks come to one selection.

    Attributes:
        searched: which slots the rows that a rank compares with are.
        searcher_rank: this rank's number in ``searched``.
    """

    searched: Placement
    searcher_rank: int

    def rows(self, shards: list[Tensor]) -> list[Tensor]:
        """Return each branch's rows that this rank compares with, from its shards ``(rows + 1, D)``."""
        ...

    def merge(
        self, scores: Tensor, slots: Tensor, drawn: Tensor, widths: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Turn this rank's candidates ``(Z, B, P + N_H)`` and drawn scores ``(Z, B, N_R)`` into those of the bank."""
        ...

    def owned(self, slots: Tensor, rows: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
        """Return where chosen ``slots`` are among this rank's own rows, and whether they are.

        ``rows`` and ``here`` say the same for the rows that this rank compares with.
        """
        ...

    def reduce(self, gradient: Tensor, ages: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the gradients ``(B, Z, D)`` over the ranks that hold parts of it, and the ages ``(Z,)`` over owners."""
        ...


class Candidates:
    """Each rank searches its own shard."""

    def __init__(self, comm: Comm, placement: Placement) -> None:
        self._comm = comm
        self.searched = placement
        self.searcher_rank = comm.rank

    def rows(self, shards: list[Tensor]) -> list[Tensor]:
        return shards

    def merge(
        self, scores: Tensor, slots: Tensor, drawn: Tensor, widths: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        if self._comm.size == 1:
            # The only list is the merged one. Sorting it again costs 4 to 10 % of a step (benchmarks/contrast.py).
            return scores, slots, drawn
        return *self._merge_lists(scores, slots, widths), self._comm.all_reduce(drawn)

    def _merge_lists(self, scores: Tensor, slots: Tensor, widths: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Merge the ranks' candidates ``(Z, B, P + N_H)``; every rank does so for its part of the anchors.

        What a rank sends is then twice its part of the lists to everyone, which does not grow with W, and the sorting
        is divided too. Anchors are filled up to equal parts.
        """
        comm, dtype = self._comm, scores.dtype
        words = torch.int32 if dtype == torch.float32 else torch.int64
        batch = scores.shape[1]
        share = -(-batch // comm.size)
        lists = torch.stack([scores.view(words), slots.to(words)])
        lists = torch.nn.functional.pad(lists, (0, 0, 0, share * comm.size - batch))
        received = comm.all_to_all(lists.view(2, len(scores), comm.size, share, -1).movedim(2, 0).contiguous())
        merged = [
            _merged(part[:, 0].contiguous().view(dtype), part[:, 1].to(torch.int64))
            for part in torch.split(received, list(widths), dim=4)  # each (W, 2, Z, share, k)
        ]
        scores, slots = (torch.cat(pair, dim=2) for pair in zip(*merged, strict=True))
        gathered = comm.all_gather(torch.stack([scores.view(words), slots.to(words)]))  # (W, 2, Z, share, P + N_H)
        gathered = gathered.movedim(0, 2).flatten(2, 3)[:, :, :batch]
        return gathered[0].contiguous().view(dtype), gathered[1].to(torch.int64)

    def owned(self, slots: Tensor, rows: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
        return rows, here

    def reduce(self, gradient: Tensor, ages: Tensor) -> tuple[Tensor, Tensor]:
        split = gradient.numel()
        total = self._comm.all_reduce(torch.cat([gradient.flatten(), ages]))
        return total[:split].view_as(gradient), total[split:]


class WholeBank:
    """Every rank gathers the whole bank in each step and searches it."""

    searcher_rank = 0

    def __init__(self, comm: Comm, placement: Placement) -> None:
        self._comm = comm
        self._placement = placement
        self.searched = Placement(placement.num_slots, 1)

    def rows(self, shards: list[Tensor]) -> list[Tensor]:
        return [self._whole(features) for features in shards]

    def _whole(self, features: Tensor) -> Tensor:
        """All-gather one branch's shards into the whole bank in slot order, and its row for "no slot"."""
        most = self._placement.rows(0)
        padded = torch.nn.functional.pad(features[:-1], (0, 0, 0, most - (len(features) - 1)))
        by_slot = self._comm.all_gather(padded).transpose(0, 1).reshape(-1, features.shape[1])
        return torch.cat([by_slot[: self._placement.num_slots], features[-1:]])

    def merge(
        self, scores: Tensor, slots: Tensor, drawn: Tensor, widths: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        return scores, slots, drawn

    def owned(self, slots: Tensor, rows: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
        return self._placement.rows_on(self._comm.rank, slots)

    def reduce(self, gradient: Tensor, ages: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, self._comm.all_reduce(ages)


EXCHANGES: dict[str, type[Candidates] | type[WholeBank]] = {"candidates": Candidates, "allgather": WholeBank}


def _merged(scores: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Merge the ranks' candidates ``(W, Z, n, k)`` into the ``k`` best of each anchor by (score, slot)."""
    ranks, branches, batch, k = scores.shape
    by_anchor = [x.permute(1, 2, 0, 3).reshape(branches * batch, ranks * k) for x in (scores, slots)]
    scores, slots = best(by_anchor[0], by_anchor[1], k)
    return scores.view(branches, batch, k), slots.view(branches, batch, k)
