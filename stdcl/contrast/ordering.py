"""Exact selection of the largest scores: order by score, then by position, ties included.

``torch.topk`` promises nothing about ties, so a tie at the k-th place would fall differently for another shard layout.
In float32 the score and the position are packed into one 64-bit key, which makes the order total (and selects
faster than floats do); in float64 two stable sorts do the same, more slowly.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF


def _sortable(scores: Tensor) -> Tensor:
    """Map float32 scores to int64 with the same order; -0.0 and 0.0 are one value."""
    bits = (scores + 0.0).view(torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(torch.int64)


def largest(scores: Tensor, k: int) -> Tensor:
    """Return the positions of the ``k`` largest scores of each row, equal scores in ascending position.

    Args:
        scores: ``(B, n)`` float32 or float64, ``n < 2**32``.
        k: how many, at most ``n``.

    Returns:
        ``(B, k)`` int64, best first.
    """
    count = scores.shape[1]
    if scores.dtype != torch.float32:
        return scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
    falling = torch.arange(_LOW, _LOW - count, -1, device=scores.device)
    keys = _sortable(scores).bitwise_left_shift_(32).bitwise_or_(falling)
    return _LOW - (keys.topk(k, dim=1).values & _LOW)


def largest_by(scores: Tensor, slots: Tensor, k: int) -> Tensor:
    """Return the positions of the ``k`` largest scores of each row, equal scores in ascending slot.

    Args:
        scores: ``(B, n)`` float32 or float64.
        slots: ``(B, n)`` int64, the slot behind each score, in any order.
        k: how many, at most ``n``.

    Returns:
        ``(B, k)`` int64 positions into the row, best first.
    """
    by_slot = slots.argsort(dim=1, stable=True)
    return by_slot.gather(1, largest(scores.gather(1, by_slot), k))


def largest_grouped(scores: Tensor, k: int, group: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest scores of each *column*, equal scores in ascending row, for long columns.

    The ``k`` groups of consecutive rows whose maxima are largest (a tie goes to the group that comes first) hold the
    ``k`` largest elements: an element outside would have ``k`` group maxima ahead of it. So a selection among the
    group maxima and one among the members of ``k`` groups replace the selection among all rows.

    Args:
        scores: ``(n, B)``, ``n`` a multiple of ``group``.
        k: how many, at most ``n``.
        group: rows in a group.

    Returns:
        values ``(B, k)`` best first, and rows ``(B, k)`` int64.
    """
    length, columns = scores.shape
    groups = length // group
    if groups <= k:
        rows = largest(scores.t().contiguous(), k)
        return scores.t().gather(1, rows), rows
    maxima = scores.view(groups, group, columns).amax(dim=1).t().contiguous()
    chosen = largest(maxima, k).sort(dim=1).values
    offsets = torch.arange(group, device=scores.device)
    rows = (chosen.unsqueeze(2) * group + offsets).view(columns, k * group)
    flat = rows * columns + torch.arange(columns, device=scores.device).unsqueeze(1)
    members = scores.view(-1).index_select(0, flat.view(-1)).view(columns, k * group)
    best = largest(members, k)
    return members.gather(1, best), rows.gather(1, best)
