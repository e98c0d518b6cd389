"""Between a process that follows a worker group and the group's ranks: jobs go down, rows and events go up.

One small actor. Its process imports Ray alone, so that it starts fast; jobs pass through it as bytes.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import ray


class Item(NamedTuple):
    """What comes up."""

    kind: str
    value: Any
    job: int = -1
    """Number of the job it belongs to; -1 where it belongs to none."""


class _Desk:
    """The actor."""

    def __init__(self, room: int) -> None:
        self._up: asyncio.Queue[Item] = asyncio.Queue(room)
        self._latest = -1
        self._jobs: dict[int, bytes] = {}
        self._dismissed = -1
        self._closed = False
        self._news = asyncio.Condition()

    async def put(self, item: Item) -> None:
        await self._up.put(item)

    async def get(self, timeout: float) -> Item | None:
        if timeout <= 0:
            return None if self._up.empty() else self._up.get_nowait()
        try:
            return await asyncio.wait_for(self._up.get(), timeout)
        except TimeoutError:
            return None

    async def hand(self, job: bytes) -> None:
        async with self._news:
            self._latest += 1
            self._jobs[self._latest] = job
            # A rank is at most one behind.
            self._jobs.pop(self._latest - 2, None)
            self._news.notify_all()

    async def close(self) -> None:
        async with self._news:
            self._closed = True
            self._news.notify_all()

    async def dismiss(self, number: int) -> None:
        self._dismissed = number

    async def dismissed(self) -> int:
        return self._dismissed

    async def latest(self) -> int:
        return self._latest

    async def job(self, number: int) -> bytes | None:
        async with self._news:
            await self._news.wait_for(lambda: self._closed or number <= self._latest)
        return None if self._closed else self._jobs[number]


class Desk:
    """The handle of one; it can be sent to other processes.

    Args:
        room: items that may wait to be read.
    """

    def __init__(self, room: int) -> None:
        self._actor: Any = ray.remote(_Desk).options(num_cpus=0).remote(room)

    def put(self, kind: str, value: Any, job: int = -1) -> None:
        """Send something up; waits until there is room."""
        ray.get(self._actor.put.remote(Item(kind, value, job)))

    def get(self, timeout: float) -> Item | None:
        """Return what came up first, None if nothing comes within ``timeout`` seconds."""
        found: Item | None = ray.get(self._actor.get.remote(timeout))
        return found

    def hand(self, job: bytes) -> None:
        """Give the next job."""
        ray.get(self._actor.hand.remote(job))

    def dismiss(self, number: int) -> None:
        """Ask for the end of a job that is under way."""
        ray.get(self._actor.dismiss.remote(number))

    def dismissed(self) -> int:
        """Return the number of the last job whose end was asked for; -1 if there is none."""
        return int(ray.get(self._actor.dismissed.remote()))

    def latest(self) -> int:
        """Return the number of the last job; the first is 0."""
        return int(ray.get(self._actor.latest.remote()))

    def job(self, number: int) -> bytes | None:
        """Wait for a job, the latest, the one before it or the next; None when no further one will come."""
        found: bytes | None = ray.get(self._actor.job.remote(number))
        return found

    def close(self) -> None:
        """Let everybody know that no further job will come."""
        ray.get(self._actor.close.remote())

    def end(self) -> None:
        """End the actor."""
        ray.kill(self._actor)
