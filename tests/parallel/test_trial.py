"""The trial of the ranks' connection, on ranks that are threads; NCCL itself needs cards."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stdcl.parallel import trial
from stdcl.parallel.comm import Comm, LocalComm
from stdcl.parallel.trial import CommTrial, gather_texts, try_collectives
from tests.distributed.ranks import ThreadComm, run_on_threads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "BYTES", 1024)


def tried(comm: Comm) -> CommTrial:
    return try_collectives(comm, CPU)


def test_one_rank_has_nothing_to_send() -> None:
    found = tried(LocalComm())
    assert found.wrong == ()
    assert found.rate == 0.0


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_that_are_right(size: int) -> None:
    every = run_on_threads(tried, size)
    assert every == every[:1] * size, "every rank knows the same"
    assert every[0].wrong == ()
    assert every[0].rate == pytest.approx(2 * (size - 1) / size * 1024 / every[0].seconds)


class _Broken:
    """A communicator one of whose ranks gets other numbers from some collectives."""

    def __init__(self, inner: ThreadComm) -> None:
        self._inner = inner
        self.rank, self.size = inner.rank, inner.size

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        return self._inner.broadcast(x, source) + (self.rank == 1)

    def all_to_all(self, x: Tensor) -> Tensor:
        return self._inner.all_to_all(x).flip(0)


def test_collectives_that_are_wrong_on_one_rank_are_named_on_all() -> None:
    every = run_on_threads(lambda comm: tried(_Broken(comm)), 2)  # type: ignore[arg-type]
    assert [found.wrong for found in every] == [("all_to_all", "broadcast")] * 2


def test_texts_of_all_ranks_arrive_whole() -> None:
    texts = ["", "one", "zwei \u00e4\u00f6\u00fc"]
    found = run_on_threads(lambda comm: gather_texts(texts[comm.rank], comm, CPU), 3)
    assert found == [texts] * 3
