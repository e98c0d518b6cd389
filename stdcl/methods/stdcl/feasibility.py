"""Says before a launch which anchors could never be active, and refuses what would leave the loss at zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stdcl.config.contrast import ContrastConfig


@dataclass(frozen=True)
class Feasibility:
    """What the sizes of the classes allow.

    Attributes:
        problems: one sentence for each reason why no anchor could ever be active; empty if some can.
        remarks: one sentence for each reason why anchors of some classes are left out for good.
    """

    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def feasibility(config: ContrastConfig, labels: Tensor) -> Feasibility:
    """Compare the asked numbers of candidates with the classes.

    Args:
        config: the contrast section of a run.
        labels: ``(L,)`` integers, the class of each slot.
    """
    if config.strategy == "none":
        return Feasibility()
    classes, sizes = torch.unique(labels, return_counts=True)
    if len(classes) < 2:
        said = f"the {labels.numel()} slots are of {len(classes)} class(es): there are no negatives"
        return Feasibility(problems=(said,))
    own = 1 if config.readings.exclude_own_slot else 0
    clamped = config.readings.shortage == "clamp"
    positives, negatives = sizes - own, labels.numel() - sizes
    needed = 1 if clamped else config.hard_positives
    wanted = 1 if clamped else max(config.hard_negatives, config.random_negatives)
    kinds = (
        ("contrast.hard_positives", f"{needed} positive(s){' beside its own slot' if own else ''}", positives < needed),
        ("contrast.hard_negatives, contrast.random_negatives", f"{wanted} negatives", negatives < wanted),
    )
    range_of = f"slots per class: {int(sizes.min())} to {int(sizes.max())}, of {labels.numel()}"
    if bool(torch.stack([short for _, _, short in kinds]).any(dim=0).all()):
        return Feasibility(
            problems=tuple(
                f"{key}: an anchor needs {what}, but {int(short.sum())} of {len(classes)} classes have fewer "
                f"({range_of}); no anchor would ever be active{_remedy(config, positives, negatives)}"
                for key, what, short in kinds
                if short.any()
            )
        )
    return Feasibility(
        remarks=tuple(
            f"{key}: an anchor needs {what}; the {int(sizes[short].sum())} slots of {int(short.sum())} of "
            f"{len(classes)} classes have fewer and are left out of the contrastive loss as anchors"
            + ("" if clamped else " (contrast.readings.shortage: clamp uses what exists)")
            for key, what, short in kinds
            if short.any()
        )
    )


def _remedy(config: ContrastConfig, positives: Tensor, negatives: Tensor) -> str:
    """What to change, with values that this data has."""
    largest = int(positives.max())
    if config.readings.shortage == "clamp" or largest < 1:
        return ". No class has two slots; raise data.repeat, with contrast.readings.slots: item"
    text = (
        f". Set contrast.readings.shortage: clamp, or ask for at most {largest} positives and "
        f"{int(negatives.max())} negatives"
    )
    if config.readings.slots == "clip":
        return text + ", or set contrast.readings.slots: item, which gives each repeat of a clip its own slot"
    return text + ", or raise data.repeat"
