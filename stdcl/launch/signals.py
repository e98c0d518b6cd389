"""Signals to a process that trains: the first SIGINT or SIGTERM asks for an orderly end, the second ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether the end was asked for. Calling it answers."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self) -> bool:
        return self.requested

    @contextmanager
    def on_signals(self, on_first: Callable[[str], None], *, at_once: bool = False) -> Iterator[None]:
        """Answer signals while the body runs; outside the main thread, signals do what they did.

        Args:
            on_first: called with the first signal's name.
            at_once: raise KeyboardInterrupt at the first signal already.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_signal(number: int, frame: FrameType | None) -> None:
            if self.requested:
                raise KeyboardInterrupt
            self.requested = True
            on_first(signal.Signals(number).name)
            if at_once:
                raise KeyboardInterrupt

        before = [signal.signal(number, on_signal) for number in SIGNALS]
        try:
            yield
        finally:
            for number, handler in zip(SIGNALS, before, strict=True):
                signal.signal(number, handler)
