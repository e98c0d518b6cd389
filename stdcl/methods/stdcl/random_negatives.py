"""Random negatives: a draw without replacement that is a pure function of (seed, step, branch, anchor's slot).

The first ``k`` steps of a Fisher-Yates shuffle of ``0 .. n-1`` are run for all anchors at once without holding the
``n`` cards: only the ``k`` exchanged places matter, and what lies in them is found by following, for all places
together, the chain of exchanges that put it there. Exactly uniform for every ``n``, with a cost in ``k`` alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stdcl.hashing import GOLDEN, mix64, mix64_
from stdcl.methods.stdcl.stable_topk import sort_rows
from stdcl.seeding import torch_seed


def anchor_keys(seed: int, step: int, branch: int, slots: Tensor) -> Tensor:
    """Return one random key for each anchor: ``(B,)`` int64 from the anchor's slot ``(B,)``."""
    return mix64_(mix64(slots * GOLDEN).bitwise_xor_(torch_seed(seed, "random negatives", step, branch)))


def draw_without_replacement(keys: Tensor, sizes: Tensor, k: int, *, in_turn: bool = True) -> Tensor:
    """Draw ``k`` different numbers of ``0 .. sizes-1`` for each row.

    Args:
        keys: ``(B,)`` int64, the randomness of each row.
        sizes: ``(B,)`` int64, each from 0 to ``2**31``.
        k: how many.
        in_turn: return the numbers in the order in which they were drawn; otherwise in another that depends on the
            arguments alone, nearly ascending, which is faster to make and to look up.

    Returns:
        ``(B, k)`` int64. Where ``sizes < k``, the first ``sizes`` entries are a permutation and the rest are -1.
    """
    if k == 0:
        return keys.new_zeros(len(keys), 0)
    places = torch.arange(k, device=keys.device)
    bits = mix64_(keys.unsqueeze(1) + (places + 1) * GOLDEN)
    left = (sizes.unsqueeze(1) - places).clamp_(min=1)
    # 62 random bits modulo at most 2**31 cards: no card is favoured by more than one part in 10**9.
    target = bits.bitwise_and_(0x3FFFFFFFFFFFFFFF).remainder_(left).add_(places)
    # Step i gives out what lies at target[i] and puts there what lay at place i. Sorted by (target, step):
    width = max(k - 1, 1).bit_length()
    order = sort_rows(target.bitwise_left_shift_(width).bitwise_or_(places))
    target, step = order >> width, order & ((1 << width) - 1)
    # Place t < k was last overwritten, before step t, by the last step before t whose target was t.
    turn = target * ((1 << width) + 1)  # how step t itself, with target t, would be sorted
    last = order < turn
    last[:, :-1] &= order[:, 1:] >= turn[:, :-1]
    source = torch.cat([places, places[:1]]).repeat(len(keys), 1)  # one column more, for what is not kept
    source.scatter_(1, torch.where(last, target.clamp(max=k), k), step)
    for _ in range(width):  # chains of at most k steps: doubling finds every end
        source = source.gather(1, source)
    drawn = target.clone()
    exchanged = torch.where(target[:, 1:] == target[:, :-1], source.gather(1, step[:, :-1]), target[:, 1:])
    drawn[:, 1:] = exchanged
    if in_turn:
        drawn = torch.empty_like(drawn).scatter_(1, step, drawn)
        return torch.where(places < sizes.unsqueeze(1), drawn, -1)
    return torch.where(step < sizes.unsqueeze(1), drawn, -1)
