"""InfoNCE over chosen similarities, with its gradient in closed form (STD-CL, eq. 7-9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chosen:
    """Similarities of the slots chosen for each anchor.

    Attributes:
        scores: ``(B, k)`` cosine similarities; entries that are not ``real`` hold anything.
        real: ``(B, k)`` bool, whether the entry is a slot at all (fewer may exist than were asked for).
        slots: ``(B, k)`` int64; -1 where not real.
    """

    scores: Tensor
    real: Tensor
    slots: Tensor


def unit(x: Tensor, eps: float = 1e-12) -> Tensor:
    """Divide each row by its length (STD-CL, eq. 7); a row shorter than ``eps`` gives zeros and a zero gradient."""
    squared = x.square().sum(dim=-1, keepdim=True)
    long = squared > eps * eps
    return torch.where(long, x / torch.where(long, squared, 1.0).sqrt(), 0.0)


def _log_sum(scores: Tensor, real: Tensor) -> Tensor:
    """Log of the sum of exponentials over the real entries of each row: ``(B, 1)``, -inf where there are none."""
    return torch.logsumexp(torch.where(real, scores, -torch.inf), dim=1, keepdim=True)


def info_nce(
    positives: Chosen,
    negative_sets: list[Chosen],
    active: Tensor,
    *,
    temperature: float,
    reduction: Literal["mean", "sum"],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return the loss over the active anchors and its derivative with respect to every chosen similarity.

    For anchor z, positive p and a set of negatives the term is
    ``-log(exp(z.p/tau) / (exp(z.p/tau) + sum_n exp(z.n/tau)))``: one positive in each denominator. The loss is the
    mean over active anchors of the mean over sets of the mean (or, as eq. 8-9 are printed, the sum) over positives.

    Args:
        positives: ``(B, P)``.
        negative_sets: each ``(B, N)``: one for ``union``, up to two for ``separate``.
        active: ``(B,)`` bool.
        temperature: tau.
        reduction: over positives.

    Returns:
        loss ``()``, coefficients of the positives ``(B, P)`` and of each negative set ``(B, N)``: zero for entries
        that are not real and for anchors that are not active. No active anchor: all zeros.
    """
    anchors = active.sum().clamp(min=1)
    counted = positives.real & active.unsqueeze(1)
    weight = counted.to(positives.scores.dtype) / (anchors * len(negative_sets))
    if reduction == "mean":
        weight = weight / counted.sum(dim=1, keepdim=True).clamp(min=1)
    similar = torch.where(positives.real, positives.scores, 0.0) / temperature
    loss = positives.scores.new_zeros(())
    pull = torch.zeros_like(similar)
    pushes = []
    for negatives in negative_sets:
        real = negatives.real & active.unsqueeze(1)
        scaled = negatives.scores / temperature
        total = _log_sum(scaled, real)
        margin = total - similar
        term = torch.logaddexp(margin, torch.zeros_like(margin))
        loss = loss + torch.where(counted, term, 0.0).mul(weight).sum()
        share = torch.where(counted, torch.sigmoid(margin), 0.0) * weight / temperature
        pull = pull - share
        softmax = torch.where(real, torch.exp(scaled - total), 0.0)
        pushes.append(softmax * share.sum(dim=1, keepdim=True))
    return loss, pull, pushes


def without_duplicates(random: Chosen, hard: Chosen) -> Chosen:
    """Drop the random negatives that are hard negatives too, so that a union counts each slot once.

    The hard negatives are all slots from the first down to the last of an order by (score, slot), so a slot is one of
    them exactly when it does not come after the last.
    """
    if hard.scores.shape[1] == 0:
        return random
    real = hard.real
    count = real.sum(dim=1, keepdim=True)
    last = (count - 1).clamp(min=0)
    score, slot = hard.scores.gather(1, last), hard.slots.gather(1, last)
    inside = (random.scores > score) | ((random.scores == score) & (random.slots <= slot))
    return Chosen(random.scores, random.real & ~(inside & (count > 0)), random.slots)
