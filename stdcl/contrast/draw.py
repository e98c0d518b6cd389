"""Random negatives: a draw without replacement that is a pure function of (seed, step, branch, anchor's slot).

The first ``k`` steps of a Fisher-Yates shuffle of ``0 .. n-1`` are run for all anchors at once without holding the
``n`` cards: only the ``k`` exchanged places matter, and what lies in them is found by following, for all places
together, the chain of exchanges that put it there. Exactly uniform for every ``n``, with a cost in ``k`` alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stdcl.seeding import torch_seed

_GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as a signed 64-bit number
_MIX = (-4658895280553007687, -7723592293110705685)  # multipliers of the SplitMix64 finaliser


def mix64(x: Tensor) -> Tensor:
    """Scramble int64 numbers by the SplitMix64 finaliser (a bijection), the same on every device."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _MIX[0]
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _MIX[1]
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def anchor_keys(seed: int, step: int, branch: int, slots: Tensor) -> Tensor:
    """Return one random key for each anchor: ``(B,)`` int64 from the anchor's slot ``(B,)``."""
    return mix64(mix64(slots * _GOLDEN) ^ torch_seed(seed, "random negatives", step, branch))


def draw_without_replacement(keys: Tensor, sizes: Tensor, k: int) -> Tensor:
    """Draw ``k`` different numbers of ``0 .. sizes-1`` for each row.

    Args:
        keys: ``(B,)`` int64, the randomness of each row.
        sizes: ``(B,)`` int64, each at least 0.
        k: how many.

    Returns:
        ``(B, k)`` int64. Where ``sizes < k``, the first ``sizes`` entries are a permutation and the rest are -1.
    """
    places = torch.arange(k, device=keys.device)
    left = sizes.unsqueeze(1) - places
    bits = mix64(keys.unsqueeze(1) + (places + 1) * _GOLDEN)
    # 62 random bits modulo at most 2**31 cards: no card is favoured by more than one part in 10**9.
    target = places + (bits & 0x3FFFFFFFFFFFFFFF).remainder(left.clamp(min=1))
    # Step i gives out what lies at target[i] and puts there what lay at place i.
    ordered, _ = (target * k + places).sort(dim=1)
    ordered_target = ordered // k
    ordered_place = ordered - ordered_target * k
    same = ordered_target[:, 1:] == ordered_target[:, :-1]
    earlier = torch.where(same, ordered_place[:, :-1], -1)
    previous = torch.full_like(target, -1)
    previous.scatter_(1, ordered_place[:, 1:], earlier)  # the last step before i with the same target
    # Place i was last overwritten, before step i, by the last earlier step whose target was i.
    at = torch.searchsorted(ordered, (places * (k + 1)).expand_as(ordered).contiguous()) - 1
    inside = at.clamp(min=0)
    hit = (at >= 0) & (ordered_target.gather(1, inside) == places)
    source = torch.where(hit, ordered_place.gather(1, inside), places)
    for _ in range(max(k - 1, 1).bit_length()):  # chains of at most k steps: doubling finds every end
        source = source.gather(1, source)
    drawn = torch.where(previous >= 0, source.gather(1, previous.clamp(min=0)), target)
    return torch.where(left > 0, drawn, -1)
