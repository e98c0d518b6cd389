"""What anchors are compared with: slots, their similarities, and which of them are there at all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stdcl.methods.stdcl.stable_topk import sorted_best


@dataclass(frozen=True)
class Chosen:
    """Slots chosen for each anchor, with their similarities.

    Attributes:
        scores: ``(B, k)`` cosine similarities; entries that are not ``real`` hold anything.
        real: ``(B, k)`` bool, whether the entry is a slot at all (fewer may exist than were asked for).
        slots: ``(B, k)`` int64; -1 where not real.
    """

    scores: Tensor
    real: Tensor
    slots: Tensor


@dataclass(frozen=True)
class Selection:
    """One branch's choice, best first (hard sets: by similarity, then slot), -1 where fewer exist than asked for."""

    positives: Chosen
    hard_negatives: Chosen
    random_negatives: Chosen


@dataclass(frozen=True)
class Selected:
    """The choice of all branches in one table, in which the columns of a set are in any order.

    Attributes:
        scores, real, slots: ``(Z, B, P + N_H + N_R)``, each as in :class:`Chosen`.
        widths: P, N_H, N_R.
    """

    scores: Tensor
    real: Tensor
    slots: Tensor
    widths: tuple[int, int, int]

    def sets(self) -> list[Chosen]:
        """Return positives, hard and random negatives, each ``(Z, B, k)``."""
        columns = [torch.split(x, list(self.widths), dim=2) for x in (self.scores, self.real, self.slots)]
        return [Chosen(*parts) for parts in zip(*columns, strict=True)]

    def of_branch(self, z: int) -> Selection:
        """Return one branch's choice in its order. Costs some sorting, so it is not for every step."""
        positives, hard, random = (Chosen(c.scores[z], c.real[z], c.slots[z]) for c in self.sets())
        return Selection(_in_order(positives, smallest=True), _in_order(hard, smallest=False), random)


def _in_order(chosen: Chosen, *, smallest: bool) -> Chosen:
    """Order by (score, slot); entries that are not real come last."""
    scores = torch.where(chosen.real, chosen.scores, torch.inf if smallest else -torch.inf)
    scores, slots = sorted_best(scores, chosen.slots, scores.shape[1], smallest=smallest)
    return Chosen(scores, slots >= 0, slots)


def without_duplicates(random: Chosen, hard: Chosen) -> Tensor:
    """Return ``random.real`` without those that are hard negatives too, so that a union counts each slot once.

    The hard negatives are all slots from the first down to the last of an order by (score, slot), so a slot is one of
    them exactly when it does not come after the last. Shapes ``(..., k)``.
    """
    if hard.scores.shape[-1] == 0:
        return random.real
    score = torch.where(hard.real, hard.scores, torch.inf).amin(dim=-1, keepdim=True)
    slot = torch.where(hard.real & (hard.scores == score), hard.slots, -1).amax(dim=-1, keepdim=True)
    inside = (random.scores > score) | ((random.scores == score) & (random.slots <= slot))
    return random.real & ~inside
