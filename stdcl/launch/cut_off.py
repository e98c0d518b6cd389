"""A rank whose machine is cut off from the head ends by itself.

Nobody can stop it from outside: it would wait in a collective or a report until its node gives up, which takes minutes,
while the training is started again elsewhere.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stdcl.launch.address import split_address

INTERVAL = 4.0
"""Seconds between two looks."""

CONNECT_SECONDS = 3.0


class HeadWatch:
    """Decides when a head counts as gone.

    Args:
        answers: asks the head once.
        limit: seconds without an answer.
        clock: seconds.
    """

    def __init__(self, answers: Callable[[], bool], limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._answers = answers
        self._limit = limit
        self._clock = clock
        self._last = clock()

    def is_gone(self) -> bool:
        """Ask; return whether nothing has answered for ``limit`` seconds."""
        if self._answers():
            self._last = self._clock()
        return self._clock() - self._last >= self._limit


def answers(address: str) -> bool:
    """Whether something takes a connection at ``HOST:PORT``."""
    place = split_address(address)
    try:
        with socket.create_connection(place or ("", 0), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False


@contextmanager
def leaving_when_cut_off(head: str, limit: float) -> Iterator[None]:
    """End this process at once if the head does not answer for ``limit`` seconds while the body runs.

    Args:
        head: ``HOST:PORT`` of Ray's head.
        limit: seconds.
    """
    ended = threading.Event()
    watch = HeadWatch(lambda: answers(head), limit)

    def follow() -> None:
        while not ended.wait(INTERVAL):
            if watch.is_gone():
                text = f"the head at {head} has not answered for {limit:g} s: this rank ends"
                print(text, file=sys.stderr, flush=True)
                os._exit(1)

    thread = threading.Thread(target=follow, name="stdcl-head-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
