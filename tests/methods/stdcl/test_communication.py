"""Trap 21: what travels in a step does not grow with the dataset."""

from __future__ import annotations

import pytest
import torch

from benchmarks.communication import EchoComm, counted, predicted
from stdcl.config.contrast import ContrastConfig
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.comm import Comm
from tests.distributed.ranks import run_on_ranks

FEW = {"hard_positives": 5, "hard_negatives": 20, "random_negatives": 10, "embedding_dim": 16}


@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_candidates_send_the_same_at_l_and_ten_l(size: int) -> None:
    config = ContrastConfig(**FEW)
    few, many = (counted(config, slots, size, 16) for slots in (200, 2_000))
    assert few == many
    assert few == pytest.approx(predicted(config, 200, size, 16, branches=2))


@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_allgather_sends_the_bank(size: int) -> None:
    config = ContrastConfig(**FEW, exchange="allgather")
    for slots in (200, 2_000):
        expected = predicted(config, slots, size, 16, branches=2)
        assert counted(config, slots, size, 16) == pytest.approx(expected)


def test_five_collectives_a_step_and_no_more() -> None:
    for strategy in ("spatial", "spatial+temporal+global"):
        contrast = Contrast(ContrastConfig(**FEW, strategy=strategy), torch.arange(40) % 4, EchoComm(2))
        for count in (4, 0):
            rows = {branch: torch.randn(count, 16) for branch in contrast.branches}
            contrast.comm.reset()
            contrast.step(rows, torch.arange(count), step=0, batch_size=8)
            assert contrast.comm.calls == {
                "all_gather": 2,
                "all_to_all": 1,
                "all_reduce": 2,
                "broadcast": 0,
                "barrier": 0,
            }


def test_what_candidates_send_levels_off_as_ranks_are_added() -> None:
    config = ContrastConfig(**FEW)
    few, many = (counted(config, 2_000, size, 64) for size in (8, 64))
    assert many < 1.2 * few


def test_a_single_rank_sends_nothing() -> None:
    assert counted(ContrastConfig(**FEW), 200, 1, 16) == 0


def _counted_on_a_rank(comm: Comm) -> float:
    config = ContrastConfig(**FEW)
    contrast = Contrast(config, torch.arange(200) % 10, comm)
    rows = {branch: torch.randn(8, 16) for branch in contrast.branches}
    contrast.step(rows, torch.arange(8) + 8 * comm.rank, step=0, batch_size=16)
    return contrast.epoch_stats()["communication_bytes"]


def test_real_ranks_count_the_same() -> None:
    assert run_on_ranks(_counted_on_a_rank, 2) == [counted(ContrastConfig(**FEW), 200, 2, 16)] * 2


def _bank_bytes_on_a_rank(comm: Comm) -> float:
    return Contrast(ContrastConfig(**FEW), torch.arange(7) % 2, comm).epoch_stats()["bank_bytes"]


def test_all_ranks_say_the_same_size_of_the_banks() -> None:
    """7 slots on 2 ranks are 4 and 3; a shard has one row more, of 16 float32, in each of two branches."""
    assert run_on_ranks(_bank_bytes_on_a_rank, 2) == [2 * (4 + 1) * 16 * 4] * 2
