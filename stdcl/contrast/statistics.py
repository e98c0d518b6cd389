"""What the contrast did in an epoch, summed on the device and read once at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from stdcl.contrast.sharded import Selection

_SETS = ("positives", "hard_negatives", "random_negatives")


class Statistics:
    """Sums over steps. Adding never waits for the device."""

    def __init__(self, branches: tuple[str, ...], device: torch.device) -> None:
        self._branches = branches
        # Anchors, active anchors; then for each branch: age, and score and count of each set.
        self._sums = torch.zeros(2 + len(branches) * (1 + 2 * len(_SETS)), dtype=torch.float64, device=device)
        self.seconds = 0.0

    def add(self, selection: dict[str, Selection], active: Tensor, anchors: Tensor, ages: Tensor) -> None:
        """Count one step: ``active`` and ``anchors`` ``(B,)`` bool, ``ages`` ``(Z,)`` summed over the selection."""
        parts = [anchors.sum(), active.sum()]
        for age, branch in zip(ages, self._branches, strict=True):
            parts.append(age)
            for name in _SETS:
                chosen = getattr(selection[branch], name)
                counted = chosen.real & active.unsqueeze(1)
                parts += [torch.where(counted, chosen.scores, 0.0).sum(), counted.sum()]
        self._sums += torch.stack([part.to(torch.float64) for part in parts])

    def state(self) -> list[float]:
        """Return the sums so far, equal on all ranks, for a checkpoint inside an epoch."""
        values: list[float] = self._sums.tolist()
        return values

    def load(self, state: list[float]) -> None:
        """Take up the sums that :meth:`state` gave."""
        self._sums.copy_(torch.tensor(state, dtype=torch.float64))

    def close(self) -> dict[str, float]:
        """Return the means and start anew. Equal on all ranks, ``contrast_seconds`` excepted.

        ``active_share``: active anchors over anchors. For each branch: ``<branch>/age`` mean age of the selected rows
        in steps; ``<branch>/similarity_positives``, ``..._hard_negatives``, ``..._random_negatives`` mean cosine of the
        selected slots (not there while none was selected). ``contrast_seconds``: time spent in ``step``.
        """
        values = self._sums.tolist()
        self._sums.zero_()
        stats = {"active_share": values[1] / max(values[0], 1.0), "contrast_seconds": self.seconds}
        self.seconds = 0.0
        for i, branch in enumerate(self._branches):
            age, *pairs = values[2 + i * 7 : 9 + i * 7]
            counts = pairs[1::2]
            if sum(counts):
                stats[f"{branch}/age"] = age / sum(counts)
            for name, total, count in zip(_SETS, pairs[::2], counts, strict=True):
                if count:
                    stats[f"{branch}/similarity_{name}"] = total / count
        return stats
