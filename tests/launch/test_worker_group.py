"""What Ray Train's controller passes on beside rows, without a cluster."""

from __future__ import annotations

import asyncio
import pickle
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from stdcl.config import RunConfig
from stdcl.launch import worker_group
from stdcl.launch.desk import Item, _Desk
from stdcl.launch.failures import Fatal
from stdcl.launch.package import ForeignCode
from stdcl.launch.worker import JOB_NUMBER, Job
from stdcl.launch.worker_group import START_ATTEMPTS, WAITS_BETWEEN_WORDS, WorkerGroup, _Reports, _Signals
from tests.launch.test_cluster import resources


class Items(list[Any]):
    """A desk."""

    def put(self, kind: str, value: Any, job: int = -1) -> None:
        self.append((kind, value) if job < 0 else (kind, value, job))


def test_waiting_is_said_now_and_then_and_never_ends_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_group, "waiting_now", lambda given: f"waiting for {given.workers}")
    queue = Items()
    signals = _Signals(queue, resources(workers=2))  # type: ignore[arg-type]
    for _ in range(2 * WAITS_BETWEEN_WORDS + 1):
        signals.waits()
    assert queue == [("event", "waiting for 2")] * 3


def test_a_group_that_breaks_in_starting_again_and_again_is_the_cluster_s_fault() -> None:
    queue = Items()
    signals = _Signals(queue, resources(workers=2))  # type: ignore[arg-type]
    for _ in range(START_ATTEMPTS):
        signals.breaks(RuntimeError("a worker died"))
    assert len(queue) == START_ATTEMPTS
    assert queue[0] == ("event", "the workers did not start, trying again (RuntimeError: a worker died)")
    with pytest.raises(Fatal, match=f"did not start in {START_ATTEMPTS} attempts") as caught:
        signals.breaks(RuntimeError("a worker died"))
    assert caught.value.kind == "setup"


def test_lost_workers_are_told_at_once_and_other_code_ends_the_training() -> None:
    queue = Items()
    reports = _Reports(queue)  # type: ignore[arg-type]
    reports.after_exception(None, {1: ActorDiedError()})
    ((kind, text),) = queue
    assert kind == "event"
    assert text.startswith("workers lost, starting again from the last checkpoint (rank 1: ActorDiedError: ")
    with pytest.raises(Fatal, match="other code") as caught:
        reports.after_exception(None, {0: ForeignCode("other code")})
    assert caught.value.kind == "setup"


class Desk:
    """What a controller and its ranks put up, and what they were handed."""

    def __init__(self) -> None:
        self.up: deque[Item] = deque()
        self.jobs: list[str] = []
        self.closed = 0
        self.dismissed = -1
        self.after_dismissal: list[Item] = []

    def get(self, timeout: float) -> Item | None:
        return self.up.popleft() if self.up else None

    def hand(self, job: bytes) -> None:
        self.jobs.append(pickle.loads(job).trial)

    def dismiss(self, number: int) -> None:
        self.up.extend(self.after_dismissal)
        self.dismissed = number

    def close(self) -> None:
        self.closed += 1

    def end(self) -> None:
        self.closed += 1


class Fit:
    """Ray Train's side: at work until it is told that no job follows."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def is_alive(self) -> bool:
        return not self._desk.closed

    def join(self, timeout: float) -> None:
        assert self._desk.closed


@pytest.fixture
def group(tmp_path: Path) -> tuple[WorkerGroup, Desk]:
    """A group that has been handed trial ``a``."""
    made, desk = WorkerGroup.__new__(WorkerGroup), Desk()
    made._folder, made._resources, made._desk = tmp_path / "scratch", resources(workers=2), desk  # type: ignore[assignment]
    made._idle = made._disturbed = made._closed = False
    made._controller = made._error = None
    made._number = -1
    made._thread = Fit(desk)  # type: ignore[assignment]
    made.hand(_job("a"))
    return made, desk


def _job(trial: str, **more: Any) -> Job:
    config = RunConfig.model_construct(resources=resources(**{"workers": 2, **more}))
    return Job(config, Path("/nowhere"), "sweep", trial)


def _up(desk: Desk, *items: tuple[str, Any]) -> None:
    desk.up.extend(Item(*item) for item in items)


def test_a_group_takes_one_job_after_another(group: tuple[WorkerGroup, Desk]) -> None:
    one, desk = group
    assert not one.takes(_job("b")), "it is at work"
    for trial in ("b", "c"):
        _up(desk, ("controller", "handle"), ("row", {"epoch": 1}), ("row", {"epoch": 2}), ("ended", {}))
        assert list(one.rows()) == [{"epoch": 1}, {"epoch": 2}]
        assert one.takes(_job(trial))
        one.hand(_job(trial))
    assert desk.jobs == ["a", "b", "c"]
    _up(desk, ("ended", {}))
    assert list(one.rows()) == []
    assert not one.takes(_job("d", collective_timeout=7.0)), "other resources need another group"
    one.end()
    assert not one.takes(_job("d"))


@pytest.mark.parametrize("moment", ["before the end", "after it"])
def test_a_group_that_lost_workers_takes_no_other_job(group: tuple[WorkerGroup, Desk], moment: str) -> None:
    one, desk = group
    lost = ("event", "workers lost")
    if moment == "before the end":
        _up(desk, lost, ("row", {"epoch": 1}), ("ended", {}))
        assert list(one.rows()) == ["workers lost", {"epoch": 1}]
    else:
        _up(desk, ("ended", {}), lost)
        assert list(one.rows()) == []
    assert not one.takes(_job("b"))
    one.end()
    assert desk.jobs == ["a"]


def test_a_job_that_is_ended_early_leaves_the_group_to_the_next(group: tuple[WorkerGroup, Desk]) -> None:
    one, desk = group
    _up(desk, ("row", {"epoch": 1}))
    rows = one.rows()
    assert next(rows) == {"epoch": 1}
    desk.after_dismissal = [Item("row", {"epoch": 2}), Item("ended", {})]
    one.leave()
    assert desk.dismissed == 0
    assert one.takes(_job("b"))
    one.hand(_job("b"))
    assert desk.jobs == ["a", "b"]


def test_what_an_ended_job_brings_once_more_is_passed_over(group: tuple[WorkerGroup, Desk]) -> None:
    one, desk = group
    _up(desk, ("ended", {}))
    assert list(one.rows()) == []
    one.hand(_job("b"))
    desk.up.extend([Item("event", "workers lost"), Item("row", {"epoch": 9}, 0), Item("ended", {}, 0)])
    desk.up.extend([Item("row", {"epoch": 1}, 1), Item("ended", {}, 1)])
    assert list(one.rows()) == ["workers lost", {"epoch": 1}]


def test_a_report_goes_up_with_its_job() -> None:
    queue = Items()
    reports = _Reports(queue)  # type: ignore[arg-type]
    for metrics in ({"epoch": 1, JOB_NUMBER: 3}, {JOB_NUMBER: 3}):
        reports.after_report(None, [metrics, metrics], None)
    assert queue == [("row", {"epoch": 1}, 3), ("ended", {}, 3)]


def test_ranks_that_do_not_leave_in_time_are_stopped(
    group: tuple[WorkerGroup, Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, desk = group
    monkeypatch.setattr(worker_group, "LEAVE_SECONDS", 0.05)
    monkeypatch.setattr(worker_group, "ABORT_SECONDS", 0.05)
    one.leave()
    assert desk.closed == 1
    assert not one.takes(_job("b"))


def test_a_job_waits_on_the_desk_for_every_rank() -> None:
    async def scene() -> list[Any]:
        desk = _Desk(1)
        await desk.hand(b"first")
        ranks = [asyncio.create_task(desk.job(number)) for number in (0, 0, 1, 1)]
        await asyncio.sleep(0)
        latest = await desk.latest()
        await desk.hand(b"second")
        found = [latest, *[await rank for rank in ranks], await desk.latest()]
        further = asyncio.create_task(desk.job(2))
        await asyncio.sleep(0)
        await desk.close()
        return [*found, await further, await desk.get(0.0), await desk.get(0.01)]

    assert asyncio.run(scene()) == [0, b"first", b"first", b"second", b"second", 1, None, None, None]


def test_a_desk_keeps_no_more_with_more_jobs() -> None:
    async def scene() -> int:
        desk = _Desk(1)
        for number in range(1000):
            await desk.hand(b"job")
            assert await desk.latest() == number
        return len(desk._jobs)

    assert asyncio.run(scene()) == 2
