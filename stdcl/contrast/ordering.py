"""Exact selection of the largest scores: order by score, then by id, ties included.

``torch.topk`` promises nothing about ties, so a tie at the k-th place would fall differently for another shard layout.
In float32 the score and the id are packed into one 64-bit key, which makes the order total (and selects faster than
floats do); in float64 two stable sorts do the same, more slowly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF


def _flip(bits: Tensor) -> Tensor:
    """Map the bits of float32 numbers to int32 numbers of the same order, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def best(scores: Tensor, ids: Tensor, k: int, *, ordered: bool = True) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest scores of each row with their ids; of equal scores, the smaller id.

    Args:
        scores: ``(B, n)`` float32 or float64, no NaN. The sign of a zero is lost.
        ids: ``(B, n)`` or ``(n,)`` int64 in ``0 .. 2**32 - 1``, in any order.
        k: how many, at most ``n``.
        ordered: whether the chosen must come best first, or may in any order.

    Returns:
        scores and ids, each ``(B, k)``.
    """
    if scores.dtype == torch.float32:
        keys = _flip((scores + 0.0).view(torch.int32)).to(torch.int64)
        keys = keys.bitwise_left_shift_(32).bitwise_or_(_LOW - ids).topk(k, dim=1, sorted=ordered).values
        return _flip((keys >> 32).to(torch.int32)).view(torch.float32), _LOW - (keys & _LOW)
    by_id = ids.expand_as(scores).argsort(dim=1, stable=True)
    order = scores.gather(1, by_id).argsort(dim=1, descending=True, stable=True)[:, :k]
    chosen = by_id.gather(1, order)
    return scores.gather(1, chosen), ids.expand_as(scores).gather(1, chosen)


def best_rows(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest scores of each *column* with their rows; of equal scores, the smaller row.

    The ``k`` groups of consecutive rows whose maxima are largest (of equal maxima, the groups that come first) hold
    the ``k`` largest elements: an element outside would have ``k`` group maxima ahead of it. So a selection among the
    group maxima and one among the members of ``k`` groups replace the selection among all rows.

    Args:
        scores: ``(n, B)`` contiguous, ``n`` a multiple of 1024.
        k: how many, at most ``n``.

    Returns:
        scores and rows (int64), each ``(B, k)``, best first.
    """
    length, columns = scores.shape
    group = group_size(length, k)
    groups = length // group
    maxima = scores.view(groups, group, columns).amax(dim=1) if group > 1 else scores
    numbers = torch.arange(groups, device=scores.device)
    values, chosen = best(maxima.t().contiguous(), numbers, k, ordered=group == 1)
    if group == 1:
        return values, chosen
    rows = (chosen.unsqueeze(2) * group + torch.arange(group, device=scores.device)).view(columns, k * group)
    flat = rows * columns + torch.arange(columns, device=scores.device).unsqueeze(1)
    return best(scores.view(-1).index_select(0, flat.view(-1)).view_as(rows), rows, k)


def group_size(length: int, k: int) -> int:
    """Return the power of two, at most 64, that makes the two selections together shortest."""
    if k == 0:
        return 1
    return 1 << min(6, max(0, round(math.log2(length / k) / 2)))
