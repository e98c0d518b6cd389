"""Says before a launch when a configuration would leave the contrastive loss at zero."""

from __future__ import annotations

import torch
from torch import Tensor

from stdcl.config.contrast import ContrastConfig


def check_feasible(config: ContrastConfig, labels: Tensor) -> list[str]:
    """Return one sentence for each reason why anchors could never be active; empty if all classes can.

    Args:
        config: the contrast section of a run.
        labels: ``(L,)`` integers, the class of each slot.
    """
    if config.strategy == "none":
        return []
    classes, sizes = torch.unique(labels, return_counts=True)
    problems = []
    if len(classes) < 2:
        problems.append(f"the {labels.numel()} slots are of {len(classes)} class(es): there are no negatives")
        return problems
    own = 1 if config.exclude_own_slot else 0
    needed = 1 if config.shortage == "clamp" else config.hard_positives
    short = sizes - own < needed
    if short.any():
        problems.append(
            f"contrast.hard_positives: an anchor needs {needed} positive(s)"
            f"{' beside its own slot' if own else ''}, but {int(short.sum())} of {len(classes)} classes have fewer "
            f"(slots per class: {int(sizes.min())} to {int(sizes.max())}); their anchors would never be active"
            + _remedy(config, int((sizes - own).min()))
        )
    wanted = 1 if config.shortage == "clamp" else max(config.hard_negatives, config.random_negatives)
    others = labels.numel() - sizes
    few = others < wanted
    if few.any():
        problems.append(
            f"contrast.hard_negatives, contrast.random_negatives: an anchor needs {wanted} negatives, but "
            f"{int(few.sum())} of {len(classes)} classes have fewer slots outside them (at least {int(others.min())}); "
            "their anchors would never be active. Ask for fewer, or set contrast.shortage: clamp"
        )
    return problems


def _remedy(config: ContrastConfig, smallest: int) -> str:
    if config.shortage == "clamp":
        return ". Each class needs at least two slots"
    text = f". Set contrast.hard_positives to at most {smallest}, or contrast.shortage: clamp"
    if config.slots == "clip":
        return text + ", or contrast.slots: item, which gives each repeat of a clip its own slot"
    return text + ", or raise data.repeat"
