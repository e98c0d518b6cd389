"""FR-Head's loss of one feature: classification by class prototypes, calibrated by ambiguous samples (section 3.3).

Of class k, the batch has true positives (of the class and classified so), false negatives (of the class, classified
otherwise) and false positives (of another class, classified as k). A prototype follows the mean of its true positives;
the means of the false negatives and false positives pull and push the samples of the class.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stdcl.methods.frhead.options import FRHeadOptions
from stdcl.methods.prototypes import EPS, Batch, Compared, Members, class_means, cosines_to, cross_entropy, moved


def refine(batch: Batch, prototypes: Tensor, options: FRHeadOptions) -> Compared:
    """Return the losses of Z features of a batch, and their updated prototypes.

    The gradient also flows through the updated prototypes and through the means of the false negatives and false
    positives; only the confidence, the parts and the old prototypes are constants.

    Args:
        batch: of all ranks.
        prototypes: (Z, K, D), of the step before.
        options: the method's.
    """
    features, labels, confidence, parts = batch
    updated = moved(prototypes, features, parts.true_positives, options.momentum)
    unit = functional.normalize(features, dim=2, eps=EPS)
    unit_prototypes = functional.normalize(updated, dim=2, eps=EPS)
    # Normalised once more in there: with one normalisation for both, gradients sum in another order (other last bits).
    cosines = cosines_to(updated, features)
    doubt = 1 - confidence
    kinds = ("false-negatives", 1.0, parts.false_negatives), ("false-positives", -1.0, parts.false_positives)
    losses = features.new_zeros(features.shape[1])
    for name, sign, ambiguous in kinds:
        logits = cosines
        if options.penalties in ("both", name):
            mean, there = class_means(features, ambiguous)
            unit_mean = functional.normalize(mean, dim=2, eps=EPS)
            if options.version == "v2":
                penalty = there * (sign * (unit_prototypes * unit_mean).sum(dim=2) - 1)  # (Z, K)
                logits = cosines + penalty[:, None]
            else:
                similarity = torch.einsum("bzd,zbd->zb", unit, unit_mean[:, labels])
                factor = options.penalty * _affected(parts, doubt, options) * there[labels]
                penalty = factor * (sign * similarity - 1)  # (Z, B)
                logits = cosines + penalty[:, :, None] * functional.one_hot(labels, cosines.shape[2])
        losses = losses + cross_entropy(
            logits / options.temperature, labels, doubt if options.version == "v2" else None
        )
    return Compared(losses, updated.detach())


def _affected(parts: Members, doubt: Tensor, options: FRHeadOptions) -> Tensor:
    """Return how strongly each sample is penalised, (B,): 0 for one that the version leaves alone."""
    affected = torch.ones_like(doubt) if options.version == "v0" else parts.true_positives.sum(dim=1)
    return affected * doubt if options.weighting else affected
