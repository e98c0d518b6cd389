"""InfoNCE over chosen similarities, with its gradient in closed form (STD-CL, eq. 7-9)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

_LOWEST = -1e30  # a logit beside which every cosine over a temperature is infinitely more likely


def unit(x: Tensor, eps: float = 1e-12) -> tuple[Tensor, Tensor]:
    """Divide each row by its length (STD-CL, eq. 7); a row shorter than ``eps`` gives zeros.

    Returns:
        the rows, and one over their lengths ``(..., 1)``, 0 for a row that is too short.
    """
    squared = x.square().sum(dim=-1, keepdim=True)
    scale = torch.where(squared > eps * eps, squared.rsqrt(), 0.0)
    return torch.where(scale > 0, x * scale, 0.0), scale


def unit_gradient(z: Tensor, scale: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient with respect to rows, given what ``unit`` made of them and the gradient there.

    It is ``(g - z (z . g)) / length``: what lies along the row does not change the unit row.
    """
    along = (z * gradient).sum(dim=-1, keepdim=True)
    return torch.addcmul(gradient, z, along, value=-1).mul_(scale)


def info_nce(
    scores: Tensor,
    real: Tensor,
    active: Tensor,
    widths: tuple[int, ...],
    *,
    temperature: float,
    reduction: Literal["mean", "sum"],
) -> tuple[Tensor, Tensor]:
    """Return the loss over the active anchors and its derivative with respect to every chosen similarity.

    For anchor z, positive p and a set of negatives the term is
    ``-log(exp(z.p/tau) / (exp(z.p/tau) + sum_n exp(z.n/tau)))``: one positive in each denominator. The loss is the
    mean over active anchors of the mean over sets of the mean (or, as eq. 8-9 are printed, the sum) over positives.

    Args:
        scores: ``(..., B, T)`` similarities: the columns of the positives, then of each set of negatives. Leading
            dimensions are separate losses.
        real: ``(..., B, T)`` bool, which of them are there; the others hold anything. An active anchor has at least
            one in each set.
        active: ``(B,)`` bool.
        widths: number of positives, then of each set of negatives (one, or two): their sum is T.
        temperature: tau.
        reduction: over positives.

    Returns:
        losses ``(...)`` and coefficients ``(..., B, T)``: zero for entries that are not real and for anchors that are
        not active. No active anchor: all zeros.
    """
    sets = len(widths) - 1
    counted = real[..., : widths[0]] & active.unsqueeze(1)
    weight = counted / (active.sum().clamp(min=1) * sets).to(scores.dtype)
    if reduction == "mean":
        weight = weight / counted.sum(dim=-1, keepdim=True).clamp_(min=1)
    logits = torch.where(real, scores / temperature, _LOWEST)
    positive, *negatives = torch.split(logits, list(widths), dim=-1)
    shares = [torch.softmax(part, dim=-1) for part in negatives]
    # The largest term is 1/sum of its set, relative to itself: the log of the sum costs no second pass of exp.
    totals = [part.amax(dim=-1) - share.amax(dim=-1).log() for part, share in zip(negatives, shares, strict=True)]
    margin = positive.unsqueeze(-2) - torch.stack(totals, dim=-1).unsqueeze(-1)  # (..., B, sets, P)
    weight = weight.unsqueeze(-2)
    losses = -(torch.nn.functional.logsigmoid(margin) * weight).sum(dim=(-3, -2, -1))
    pull = torch.sigmoid(-margin).mul_(weight / temperature)
    push = pull.sum(dim=-1)
    pushes = [share.mul_(push[..., i : i + 1]) for i, share in enumerate(shares)]
    return losses, torch.cat([-pull.sum(dim=-2), *pushes], dim=-1)
