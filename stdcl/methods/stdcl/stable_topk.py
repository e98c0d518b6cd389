"""Exact selection of the largest or smallest scores: order by score, then by id, ties included.

``torch.topk`` promises nothing about ties, so a tie at the k-th place would fall differently for another shard layout.
In float32 the score and the id are packed into one 64-bit key, which makes the order total; in float64 two stable sorts
do the same, more slowly. Keys on the CPU are partitioned by NumPy, which does it with vector instructions (NumPy 2, on
AVX2 or AVX-512) in about a tenth of the time that ``torch.topk`` takes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF


def _flip(bits: Tensor) -> Tensor:
    """Map the bits of float32 numbers to int32 numbers of the same order, and back."""
    return (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits)


def _keys(scores: Tensor, ids: Tensor) -> Tensor:
    """Pack float32 scores (the high half) and ids (the low half) into int64 keys of the same order."""
    return _flip(scores.view(torch.int32)).to(torch.int64).bitwise_left_shift_(32).bitwise_or_(ids)


def _scores(keys: Tensor) -> Tensor:
    return _flip((keys >> 32).to(torch.int32)).view(torch.float32)


def _k_largest(keys: Tensor, k: int) -> Tensor:
    """Return the ``k`` largest keys of each row in any order: ``(B, k)``. Keys on the CPU may be rearranged."""
    n = keys.shape[1]
    if k in (0, n):
        return keys[:, :k]
    if keys.device.type != "cpu":
        return keys.topk(k, dim=1, sorted=False).values
    keys.numpy().partition(n - k, axis=1)
    return keys[:, n - k :]


def sort_rows(keys: Tensor) -> Tensor:
    """Return ``(B, n)`` int64 keys in ascending order along each row. Keys on the CPU are rearranged."""
    if keys.device.type != "cpu":
        return keys.sort(dim=1).values
    keys.numpy().sort(axis=1)
    return keys


def best(scores: Tensor, ids: Tensor, k: int, *, smallest: bool = False) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest (smallest) scores of each row with their ids, in any order; of equals, the smaller id.

    Args:
        scores: ``(B, n)`` float32 or float64, contiguous, no NaN, all zeros of one sign (float32 tells them apart).
        ids: ``(B, n)`` or ``(n,)`` int64 in ``0 .. 2**32 - 1``, in any order.
        k: how many, at most ``n``.
        smallest: choose the smallest scores instead.

    Returns:
        scores and ids, each ``(B, k)``.
    """
    if scores.dtype == torch.float32:
        if smallest:
            keys = ~_k_largest(_keys(scores, ids).bitwise_not_(), k)
            return _scores(keys), keys & _LOW
        keys = _k_largest(_keys(scores, _LOW - ids), k)
        return _scores(keys), _LOW - (keys & _LOW)
    return sorted_best(scores, ids, k, smallest=smallest)


def sorted_best(scores: Tensor, ids: Tensor, k: int, *, smallest: bool = False) -> tuple[Tensor, Tensor]:
    """Return what :func:`best` returns, best first, by two stable sorts of everything."""
    ids = ids.expand_as(scores)
    by_id = ids.argsort(dim=1, stable=True)
    order = scores.gather(1, by_id).argsort(dim=1, descending=not smallest, stable=True)[:, :k]
    chosen = by_id.gather(1, order)
    return scores.gather(1, chosen), ids.gather(1, chosen)


def best_rows(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest scores of each *column* with their rows, in any order; of equals, the smaller row.

    The ``k`` groups of consecutive rows whose maxima are largest (of equal maxima, the groups that come first) hold
    the ``k`` largest elements: an element outside would have ``k`` group maxima ahead of it. So a selection among the
    group maxima and one among the members of ``k`` groups replace the selection among all rows.

    Args:
        scores: ``(n, B)`` contiguous, ``n`` a multiple of 1024, as in :func:`best`.
        k: how many, at most ``n``.

    Returns:
        scores and rows (int64), each ``(B, k)``.
    """
    length, columns = scores.shape
    group = group_size(length, k)
    groups = length // group
    maxima = scores.view(groups, group, columns).amax(dim=1) if group > 1 else scores
    numbers = torch.arange(groups, device=scores.device)
    values, chosen = best(maxima.t().contiguous(), numbers, k)
    if group == 1:
        return values, chosen
    # In ascending order, so that places among the members are in the order of rows.
    chosen = sort_rows(chosen)
    first = chosen * (group * columns) + torch.arange(columns, device=scores.device).unsqueeze(1)
    places = first.unsqueeze(2) + torch.arange(0, group * columns, columns, device=scores.device)
    members = scores.view(-1).index_select(0, places.view(-1)).view(columns, k * group)
    values, place = best(members, torch.arange(k * group, device=scores.device), k)
    return values, chosen.gather(1, place // group).mul_(group).add_(place % group)


def group_size(length: int, k: int) -> int:
    """Return the power of two, at most 64, that makes the two selections together shortest; 1 for short columns."""
    if length < 16 * k or k == 0:
        return 1
    return 1 << min(6, max(0, round(math.log2(length / k) / 2)))
