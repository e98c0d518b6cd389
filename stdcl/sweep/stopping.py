"""Ends a Ray Tune experiment from outside: for a signal, or for a fault of the driver itself; and single trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray import tune


class StopRequest(tune.Stopper):  # type: ignore[misc]
    """A request to stop the whole experiment, with the error that is its reason, if any.

    Attributes:
        judge: asked after each result, given (Tune's id of the trial, result), whether to stop that trial.
    """

    def __init__(self) -> None:
        self.judge: Callable[[str, Mapping[str, Any]], bool] = lambda trial_id, result: False
        self.requested = False
        self.held = False
        """Whether trials that start are to leave again at once. (Tune has no way to hold those that wait.)"""
        self.error: Exception | None = None
        self.reason = ""
        """Why the sweep ended itself; empty if it was interrupted from outside."""

    def request(self, reason: str = "") -> None:
        """Ask for the end; trials are stopped where they stand."""
        self.requested = True
        self.reason = self.reason or reason

    @contextmanager
    def on_error(self) -> Iterator[None]:
        """Stop the experiment when the body raises.

        Ray Tune takes an exception in a callback or a searcher for one of the trial's, and repeats the trial.
        """
        try:
            yield
        except Exception as error:
            self.error = self.error or error
            self.requested = True

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Asked by Tune after each result, before schedulers and searchers."""
        with self.on_error():
            return self.judge(trial_id, result)
        return False

    def stop_all(self) -> bool:
        """Asked by Tune, again and again."""
        return self.requested

    def __getstate__(self) -> dict[str, Any]:
        # Ray stores experiments with all they hold; this one is never restored.
        return {}
