"""Stops a Ray Tune experiment from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import tune


class StopWhen(tune.Stopper):  # type: ignore[misc]
    """Asks a function, again and again, whether the whole experiment is to stop."""

    def __init__(self, asked: Callable[[], bool]) -> None:
        self._asked = asked

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._asked()

    def __getstate__(self) -> dict[str, Any]:
        # Ray stores experiments with all they hold; this one is never restored.
        return {}
