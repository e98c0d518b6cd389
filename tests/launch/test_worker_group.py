"""What Ray Train's controller passes on beside rows, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from stdcl.launch import worker_group
from stdcl.launch.failures import Fatal
from stdcl.launch.package import ForeignCode
from stdcl.launch.worker_group import START_ATTEMPTS, WAITS_BETWEEN_WORDS, _Reports, _Signals
from tests.launch.test_cluster import resources


class Items(list[Any]):
    """A queue."""

    put = list.append


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
