"""A grid's trials as Ray Tune is given them: one by one, in the plan's order.

``tune.grid_search`` would hand over the whole grid at once, and Tune copies all of it into every trial.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from stdcl.config.sweep import Trial
from stdcl.sweep.trainables import payload


class PlannedTrials(Searcher):  # type: ignore[misc]
    """Proposes trials that are known beforehand; how they end changes nothing.

    Args:
        trials: in the order in which they are to start.
    """

    def __init__(self, trials: Iterable[Trial]) -> None:
        super().__init__()
        self._left = deque(trials)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the next trial, FINISHED after the last."""
        if not self._left:
            return str(Searcher.FINISHED)
        return {"trial": payload(self._left.popleft())}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing is left to do: run folders and the results store say what became of a trial."""

    def save(self, checkpoint_path: str) -> None:
        """Write nothing of use: the plan is in its own file."""
        Path(checkpoint_path).write_text("the trials are in the sweep's plan\n", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a grid is continued from its plan and its run folders")

    def __getstate__(self) -> dict[str, Any]:
        # Ray stores experiments with all they hold; this one is never restored.
        return {}
