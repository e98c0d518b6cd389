"""The driver's side of steering: its heartbeat, and the requests that it carries out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

from stdcl.results import requests
from stdcl.results.ask import write_ask
from stdcl.results.heartbeat import BEAT_SECONDS, first_beat, write_heartbeat
from stdcl.results.layout import SweepFolder
from stdcl.results.requests import Request
from stdcl.results.status import sweep_status
from stdcl.results.steering import steer
from stdcl.sweep.stopping import StopRequest

LOOK_SECONDS = 0.5


class Obedience:
    """Obeys requests in a thread of its own while a sweep runs.

    Args:
        folder: the sweep's.
        command: what continues it.
        stop: the end of the experiment; also holds it.
        say: takes a line for each request.

    Attributes:
        active: gives the keys of the trials that run.
        seconds_left: gives the estimate to the sweep's end.
    """

    def __init__(self, folder: SweepFolder, command: str, stop: StopRequest, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._beat = first_beat(command)
        self._stop = stop
        self._say = say
        self._released: list[str] = []
        self.active: Callable[[], Collection[str]] = tuple
        self.seconds_left: Callable[[], float | None] = lambda: None
        self._ended = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Beat and obey while the body runs."""
        thread = threading.Thread(target=self._follow, name="stdcl-requests", daemon=True)
        write_heartbeat(self._folder.driver, self._beat)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self.look()
            write_heartbeat(self._folder.driver, replace(self._beat, ended=True))

    def take_released(self) -> list[str]:
        """Return the trials that were released since the last call."""
        released, self._released = self._released, []
        return released

    def wait_while_paused(self) -> None:
        """Wait until the sweep is paused no more, or is to end."""
        while self._stop.held and not self._stop.requested:
            time.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Obey what is asked for now."""
        requests.obey(self._folder.requests, self._act)

    def _follow(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(LOOK_SECONDS):
            self.look()
            if time.monotonic() - last >= BEAT_SECONDS:
                last = time.monotonic()
                beat = replace(self._beat, paused=self._stop.held, seconds_left=self.seconds_left())
                write_heartbeat(self._folder.driver, beat)

    def _act(self, request: Request) -> str:
        said = self._obey(request)
        self._say(f"asked to {request.verb} {', '.join(request.trials) or 'the sweep'}: {said}")
        return said

    def _obey(self, request: Request) -> str:
        if request.verb == "stop" and not request.trials:
            self._stop.request()
            return f"the sweep stops; to resume from the last checkpoints: {self._beat.command}"
        status = sweep_status(self._folder)
        if request.verb == "pause" and not request.trials:
            self._stop.held = True
            running = list(self.active())
            for key in running:
                write_ask(self._folder.run(key).ask, "paused")
            return (
                f"the sweep is paused: it starts no trial, and {len(running)} that run leave at their next checkpoint; "
                f"`stdcl unpause {self._folder.root.name}` goes on"
            )
        steered = steer(status, request)
        if request.verb == "unpause" and not request.trials:
            self._stop.held = False
        self._released += steered.released
        return steered.said
