"""FR-Head's loss of one feature: classification by class prototypes, calibrated by ambiguous samples (section 3.3).

Of class k, the batch has true positives (of the class and classified so), false negatives (of the class, classified
otherwise) and false positives (of another class, classified as k). A prototype follows the mean of its true positives;
the means of the false negatives and false positives pull and push the samples of the class.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from stdcl.methods.frhead.options import FRHeadOptions

_EPS = 1e-12


class Members(NamedTuple):
    """Which sample is what, of which class: each (B, K) of 0 and 1."""

    true_positives: Tensor
    false_negatives: Tensor
    false_positives: Tensor


class Refined(NamedTuple):
    """What a step gives.

    Attributes:
        losses: (Z,), of each feature, means over the batch.
        prototypes: (Z, K, D), updated, without a graph.
    """

    losses: Tensor
    prototypes: Tensor


def members(labels: Tensor, predicted: Tensor, confidence: Tensor, num_classes: int, threshold: float) -> Members:
    """Sort the samples of a batch.

    Args:
        labels: (B,) int64.
        predicted: (B,) int64, the class of the largest logit (of equals, the first).
        confidence: (B,) probability of the sample's own class.
        num_classes: K.
        threshold: of ``FRHeadOptions``.
    """
    dtype = confidence.dtype
    own = functional.one_hot(labels, num_classes).to(dtype)
    said = functional.one_hot(predicted, num_classes).to(dtype)
    right = labels == predicted
    wrong = (~right).to(dtype).unsqueeze(1)
    return Members(own * (right & (confidence > threshold)).to(dtype).unsqueeze(1), own * wrong, said * wrong)


def refine(
    features: Tensor, labels: Tensor, confidence: Tensor, parts: Members, prototypes: Tensor, options: FRHeadOptions
) -> Refined:
    """Return the losses of Z features of a batch, and their updated prototypes.

    The gradient also flows through the updated prototypes and through the means of the false negatives and false
    positives; only ``confidence``, ``parts`` and the old prototypes are constants.

    Args:
        features: (B, Z, D), not normalised.
        labels: (B,) int64.
        confidence: (B,) probability of the sample's own class, without a graph.
        parts: see :func:`members`.
        prototypes: (Z, K, D), of the step before.
        options: the method's.
    """
    means, present = zip(*(_class_means(features, kind) for kind in parts), strict=True)
    moved = options.momentum * prototypes + (1 - options.momentum) * means[0]
    updated = torch.where(present[0][:, None], moved, prototypes)
    unit = functional.normalize(features, dim=2, eps=_EPS)
    unit_prototypes = functional.normalize(updated, dim=2, eps=_EPS)
    cosines = torch.einsum("bzd,zkd->zbk", unit, unit_prototypes)
    doubt = 1 - confidence
    kinds = ("false-negatives", 1.0, means[1], present[1]), ("false-positives", -1.0, means[2], present[2])
    losses = features.new_zeros(features.shape[1])
    for name, sign, mean, there in kinds:
        logits = cosines
        if options.penalties in ("both", name):
            unit_mean = functional.normalize(mean, dim=2, eps=_EPS)
            if options.version == "v2":
                penalty = there * (sign * (unit_prototypes * unit_mean).sum(dim=2) - 1)  # (Z, K)
                logits = cosines + penalty[:, None]
            else:
                similarity = torch.einsum("bzd,zbd->zb", unit, unit_mean[:, labels])
                factor = options.penalty * _affected(parts, doubt, options) * there[labels]
                penalty = factor * (sign * similarity - 1)  # (Z, B)
                logits = cosines + penalty[:, :, None] * functional.one_hot(labels, cosines.shape[2])
        losses = losses + _cross_entropy(
            logits / options.temperature, labels, doubt if options.version == "v2" else None
        )
    return Refined(losses, updated.detach())


def _affected(parts: Members, doubt: Tensor, options: FRHeadOptions) -> Tensor:
    """Return how strongly each sample is penalised, (B,): 0 for one that the version leaves alone."""
    affected = torch.ones_like(doubt) if options.version == "v0" else parts.true_positives.sum(dim=1)
    return affected * doubt if options.weighting else affected


def _class_means(features: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of each class's members (Z, K, D), zero where there are none, and whether there are any (K,)."""
    counts = member.sum(dim=0)
    sums = torch.einsum("bk,bzd->zkd", member, features)
    return sums / counts.clamp(min=1)[:, None], counts > 0


def _cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean over the batch of ``logits`` (Z, B, K): (Z,)."""
    terms = -torch.log_softmax(logits, dim=2).gather(2, labels.expand(len(logits), -1)[:, :, None])[:, :, 0]
    return (terms if weights is None else terms * weights).mean(dim=1)
