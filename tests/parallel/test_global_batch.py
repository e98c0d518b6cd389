"""Rows of all ranks on every rank, with the gradient of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from stdcl.parallel.comm import Comm, LocalComm
from stdcl.parallel.global_batch import gather_batch
from tests.distributed.ranks import run_on_threads


def _gather(comm: Comm, rows: Tensor, numbers: Tensor, counts: list[int]) -> dict[str, Any]:
    mine = torch.split(torch.arange(len(rows)), counts)[comm.rank]
    own = rows[mine].clone().requires_grad_()
    batch = gather_batch(comm, own, numbers[mine], batch_size=8, size=len(rows))
    loss = (batch.rows.T @ batch.rows).square().sum()
    loss.backward()
    return {"rows": batch.rows.detach(), "numbers": batch.numbers, "gradient": own.grad}


@pytest.mark.parametrize("counts", [[2, 2, 2, 2], [2, 2, 1, 0], [0, 2, 0, 1], [0, 0, 0, 2]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_rank_has_the_batch_and_the_gradient_of_its_part(counts: list[int], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    size = sum(counts)
    rows = torch.randn(size, 3, generator=generator).to(dtype)
    numbers = torch.stack([torch.arange(size), torch.arange(size) + 2**24 - size], dim=1)
    whole = rows.clone().requires_grad_()
    (whole.T @ whole).square().sum().backward()
    results = run_on_threads(_gather, 4, rows, numbers, counts)
    for result in results:
        assert torch.equal(result["rows"], rows)
        assert torch.equal(result["numbers"], numbers)
    assert whole.grad is not None
    torch.testing.assert_close(torch.cat([result["gradient"] for result in results]), whole.grad)


def test_more_than_a_ranks_share_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 0 brought 9 rows and 9 numbers; with batch_size 8"):
        gather_batch(LocalComm(), torch.zeros(9, 2), torch.zeros(9, 1, dtype=torch.int64), batch_size=8, size=9)
    with pytest.raises(ValueError, match="rank 0 brought 3 rows and 2 numbers"):
        gather_batch(LocalComm(), torch.zeros(3, 2), torch.zeros(2, 1, dtype=torch.int64), batch_size=8, size=3)


def _misfit(comm: Comm) -> None:
    gather_batch(comm, torch.zeros(2, 2), torch.zeros(2, 1, dtype=torch.int64), batch_size=8, size=3)


def test_a_batch_of_another_size_is_refused() -> None:
    with pytest.raises(RuntimeError, match="not those of the global batch"):
        run_on_threads(_misfit, 2)
