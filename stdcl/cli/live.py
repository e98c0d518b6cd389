"""A line or a table that shows what is going on, redrawn in place on a terminal, printed now and then elsewhere."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

INTERVAL = 0.5
"""Seconds between two looks."""

PLAIN_INTERVAL = 30.0
"""Seconds without any output after which a line is printed where there is no terminal."""


def room() -> tuple[int, int]:
    """Characters and lines of this terminal that can be drawn in without scrolling."""
    size = shutil.get_terminal_size()
    return size.columns - 1, size.lines - 1


class Live:
    """Shows ``status()`` on standard error while the body runs; everything else is printed through it.

    Args:
        status: returns the line or lines, or an empty text.
        stream: where it is shown; standard error if None.
        clock: seconds.
        plain_interval: see ``PLAIN_INTERVAL``.
    """

    def __init__(
        self,
        status: Callable[[], str],
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        plain_interval: float = PLAIN_INTERVAL,
    ) -> None:
        self._status = status
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._clock = clock
        self._interval = plain_interval
        self._lock = threading.RLock()
        self._shown, self._lines = "", 0
        self._quiet_since = clock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="stdcl-live", daemon=True)

    def __enter__(self) -> Live:
        for handler in logging.getLogger().handlers:
            handler.addFilter(self._before_log)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        for handler in logging.getLogger().handlers:
            handler.removeFilter(self._before_log)
        with self._lock:
            self._clear()
            self._stream.flush()

    def print(self, text: str) -> None:
        """Print to standard output."""
        with self._lock:
            self._clear()
            print(text, flush=True)
            self._quiet_since = self._clock()

    def note(self, text: str) -> None:
        """Print to the stream of the line."""
        with self._lock:
            self._clear()
            print(text, file=self._stream, flush=True)
            self._quiet_since = self._clock()

    def refresh(self) -> None:
        """Look at the status, and show it if that is due."""
        text = self._status()
        with self._lock:
            if self._ended.is_set():
                return
            if self._terminal:
                if text and text != self._shown:
                    width, height = room()
                    lines = [line[:width] for line in text.splitlines()[:height]]
                    self._stream.write(self._erasure() + "\n".join(lines))
                    self._stream.flush()
                    self._shown, self._lines = text, len(lines)
            elif text and text != self._shown and self._clock() - self._quiet_since >= self._interval:
                print(text, file=self._stream, flush=True)
                self._shown, self._quiet_since = text, self._clock()

    def _clear(self) -> None:
        if self._terminal and self._shown:
            self._stream.write(self._erasure())
            self._stream.flush()
            self._shown, self._lines = "", 0

    def _erasure(self) -> str:
        """Back to the beginning of what is shown, and erase it."""
        return "\r\033[K" if self._lines < 2 else f"\r\033[{self._lines - 1}A\033[J"

    def _before_log(self, record: logging.LogRecord) -> bool:
        with self._lock:
            self._clear()
        return True

    def _follow(self) -> None:
        while not self._ended.wait(INTERVAL):
            self.refresh()
