"""A node that is to be taken away is noticed once, and by all ranks after the same step."""

from __future__ import annotations

import pytest
import torch

from stdcl.launch import drain
from stdcl.launch.drain import INTERVAL, MOST_STEPS, Draining, Together, taken_away
from stdcl.parallel.comm import LocalComm


def test_the_own_node_is_noticed_once() -> None:
    clock, nodes, looks = [0.0], {"other": 0}, [0]

    def draining() -> dict[str, int]:
        looks[0] += 1
        return nodes

    asked = Draining(draining, "own", lambda: clock[0])
    assert [asked() for _ in range(5)] == [False] * 5
    assert looks == [1], "not after every step"
    nodes["own"] = 1_800_000_000_000
    clock[0] += INTERVAL
    assert [asked() for _ in range(3)] == [True, False, False]


class _Pair(LocalComm):
    """This rank of two; the other's answer and seconds a step are given."""

    size = 2

    def __init__(self) -> None:
        self.other = [0.0, 0.0]
        self.calls = 0

    def all_reduce(self, x: torch.Tensor, op: str = "sum") -> torch.Tensor:
        assert op == "max"
        self.calls += 1
        return torch.maximum(x, torch.tensor(self.other, device=x.device))


def test_ranks_answer_alike_at_an_interval_that_the_slowest_gives() -> None:
    clock, comm = [0.0], _Pair()
    asked = Together(lambda: False, comm, torch.device("cpu"), lambda: clock[0])
    comm.other[1] = INTERVAL / 4
    clock[0] += 0.1
    assert not asked()
    assert comm.calls == 1, "after the first step"
    comm.other[0] = 1.0
    assert [asked() for _ in range(4)] == [False, False, False, True]
    assert comm.calls == 2
    comm.other[:] = [0.0, 0.0]
    for _ in range(4):
        asked()
    for _ in range(MOST_STEPS):
        asked()
    assert comm.calls == 4, "steps that take no time"


def test_nobody_looks_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken_away(LocalComm(), torch.device("cpu")) is None
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setenv(drain.VARIABLE, "0")
    assert taken_away(LocalComm(), torch.device("cpu")) is None
