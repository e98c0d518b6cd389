"""A bounded, ordered map over processes that leaves nobody behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from stdcl.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(workers: int | None) -> int:
    """Return the number of processes asked for; None: one per core.

    Raises:
        UserError: fewer than 1.
    """
    if workers is None:
        return available_cores()
    if workers < 1:
        raise UserError(f"--workers {workers}: at least 1 is needed")
    return workers


def ordered_map(function: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[Result]:
    """Yield ``function(task)`` in the order of the tasks, computed by processes (1: by the caller).

    At most four tasks a worker are in work or waiting, so memory does not grow with their number. Ctrl-C is the
    caller's alone; when it leaves early, or is killed, its workers end at once.

    Raises:
        UserError: a worker was killed.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")
    told, leave = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_when_told, initargs=(told,))
    try:
        waiting: deque[Future[Result]] = deque()
        for task in tasks:
            with _interrupts_held():  # a process that is started here inherits that
                waiting.append(pool.submit(function, task))
            if len(waiting) >= 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed (out of memory?); run the same command again, if need be with fewer --workers"
        ) from error
    finally:
        leave.close()
        pool.shutdown(wait=True, cancel_futures=True)
        told.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold SIGINT back in this thread; it arrives afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_when_told(told: Connection) -> None:
    """End this process when the one that started it closes its end of the pipe, or is gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel, told])
        os._exit(1)

    threading.Thread(target=watch, name="stdcl-parent-watch", daemon=True).start()
