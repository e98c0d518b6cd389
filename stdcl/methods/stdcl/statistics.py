"""What the contrast did in an epoch, summed on the device and read once at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from stdcl.methods.stdcl.selection import Selected

_SETS = ("positives", "hard_negatives", "random_negatives")


class Statistics:
    """Sums over steps. Adding never waits for the device."""

    def __init__(self, branches: tuple[str, ...], device: torch.device) -> None:
        self._branches = branches
        # Anchors, active anchors; then for each branch: age, and score and count of each set.
        self._sums = torch.zeros(2 + len(branches) * (1 + 2 * len(_SETS)), dtype=torch.float64, device=device)
        self.seconds = 0.0

    def add(self, selected: Selected, active: Tensor, anchors: Tensor, ages: Tensor) -> None:
        """Count one step: ``active`` and ``anchors`` ``(B,)`` bool, ``ages`` ``(Z,)`` summed over the selection."""
        counted = selected.real & active.unsqueeze(1)
        scores = torch.where(counted, selected.scores, 0.0).sum(dim=1, dtype=torch.float64)
        each = torch.stack([scores, counted.sum(dim=1, dtype=torch.float64)], dim=2)  # (Z, P + N_H + N_R, 2)
        sets = [part.sum(dim=1) for part in torch.split(each, list(selected.widths), dim=1)]
        by_branch = torch.cat([ages.to(torch.float64).unsqueeze(1), *sets], dim=1)
        batch = torch.stack([anchors.sum(), active.sum()])
        self._sums += torch.cat([batch.to(torch.float64), by_branch.flatten()])

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
