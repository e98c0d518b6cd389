"""GAP's loss: which skeletons and texts of a batch belong together (section 3.4, as its public code)."""

from __future__ import annotations

import torch
from torch import Tensor

SHARPNESS = 10.0
"""Logit of a pair of the same class in the target; that of any other pair is 0."""


def matching(skeletons: Tensor, texts: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each of P pairings: (P,).

    The logits are products of skeletons and texts. Row by row, and column by column, their softmax is compared with
    that of ``SHARPNESS [same class]`` by the Kullback-Leibler divergence, averaged over rows and over both directions.

    Args:
        skeletons: (B, P, D) unit rows times the scale of their pairing.
        texts: (B, P, D) unit rows, each of its sample's class.
        labels: (B,) int64.
    """
    logits = torch.einsum("apd,bpd->pab", skeletons, texts)
    same = (labels[:, None] == labels[None]).to(logits.dtype)
    target = torch.softmax(SHARPNESS * same, dim=1)
    # (P, B) sums; the target is the same matrix in both directions.
    to_text, to_skeleton = (-(target * torch.log_softmax(z, dim=2)).sum(dim=2) for z in (logits, logits.mT))
    entropy = -(target * target.log()).sum(dim=1)
    divergence: Tensor = ((to_text + to_skeleton) / 2 - entropy).mean(dim=1)
    return divergence
