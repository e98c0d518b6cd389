"""The contrast as the paper writes it, one anchor and one slot at a time: slow, single process, no sharding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Oracle:
    """One branch's bank as a dictionary from slot to unit vector. Random negatives are told to it, not drawn."""

    def __init__(self, config: dict[str, Any], labels: Tensor) -> None:
        self.config = {
            "temperature": 0.8,
            "negative_sets": "separate",
            "reduction": "mean",
            "write": "before",
            "exclude_own_slot": True,
            "shortage": "skip",
            **config,
        }
        self.labels = labels.tolist()
        self.bank: dict[int, Tensor] = {}

    def write(self, z: Tensor, slots: list[int]) -> None:
        """eq. 6; of several entries of one slot the first is kept."""
        seen = set()
        for row, slot in zip(z.detach(), slots, strict=True):
            if slot not in seen:
                self.bank[slot] = row.clone()
            seen.add(slot)

    def step(self, embeddings: Tensor, slots: list[int], drawn: list[list[int]]) -> dict[str, Any]:
        """Return loss, gradient, active anchors, and the chosen slots of each anchor."""
        c = self.config
        e = embeddings.detach().clone().double().requires_grad_()
        z = torch.stack([row / row.norm() for row in e])
        if c["write"] == "before":
            self.write(z, slots)
        anchor_losses, positives_of, negatives_of, active = [], [], [], []
        for i, slot in enumerate(slots):
            label = self.labels[slot]
            # Rounded scores would make two equal rows differ by the order of a sum: use one order for all.
            score = {s: float((row * z[i].detach()).sum()) for s, row in self.bank.items()}
            same = [s for s in self.bank if self.labels[s] == label and not (c["exclude_own_slot"] and s == slot)]
            other = [s for s in self.bank if self.labels[s] != label]
            positives = sorted(same, key=lambda s: (score[s], s))[: c["hard_positives"]]
            hard = sorted(other, key=lambda s: (-score[s], s))[: c["hard_negatives"]]
            random = [s for s in drawn[i] if s >= 0]
            assert len(random) == len(set(random)) == min(c["random_negatives"], len(other))
            assert set(random) <= set(other)
            if c["shortage"] == "skip":
                enough = len(same) >= c["hard_positives"]
                enough = enough and len(other) >= max(c["hard_negatives"], c["random_negatives"])
            else:
                enough = len(same) > 0 and len(other) > 0
            active.append(enough)
            positives_of.append(positives)
            negatives_of.append(hard)
            if not enough:
                continue
            sets = [chosen for chosen in (hard, random) if chosen]
            if c["negative_sets"] == "union":
                sets = [sorted(set(hard) | set(random))]
            terms = []
            for chosen in sets:
                for p in positives:
                    top = torch.exp(z[i] @ self.bank[p] / c["temperature"])
                    rest = sum(torch.exp(z[i] @ self.bank[n] / c["temperature"]) for n in chosen)
                    terms.append(-torch.log(top / (top + rest)))
            total = sum(terms) / len(sets)
            anchor_losses.append(total / len(positives) if c["reduction"] == "mean" else total)
        if c["write"] == "after":
            self.write(z, slots)
        loss = sum(anchor_losses) / len(anchor_losses) if anchor_losses else 0.0 * e.sum()
        loss.backward()
        return {
            "loss": loss.detach(),
            "gradient": e.grad,
            "active": active,
            "positives": positives_of,
            "hard_negatives": negatives_of,
        }
