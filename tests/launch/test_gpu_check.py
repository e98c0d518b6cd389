"""The check of GPUs, on CPUs: what every rank looks at, and the row that it becomes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stdcl.launch.gpu_check import GpuCheck, _convolution, check_loop, read_check, rounds_to_tf32, run_check
from stdcl.parallel import trial
from stdcl.parallel.comm import Comm, LocalComm
from tests.distributed.ranks import run_on_threads
from tests.train.conftest import MakeConfig, make_config, small_store

__all__ = ["make_config", "small_store"]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "BYTES", 1024)


def test_the_check_measures_what_trains(make_config: MakeConfig, tmp_path: Path) -> None:
    said: list[str] = []
    config = make_config(resources={"workers": 1})
    found = run_check(config, tmp_path, steps=1, remote=False, on_event=said.append)
    assert list(tmp_path.iterdir()) == [], "nothing is left"
    (card,) = found.cards
    assert (card.node, card.capability, card.tf32) == ("1", "", "")
    assert not card.rounds_convolutions
    assert found.rates is not None
    assert min(found.rates.loader, found.rates.training, found.rates.epoch_seconds, found.rates.memory_mib) > 0


def test_what_the_ranks_find_is_one_row(make_config: MakeConfig) -> None:
    config = make_config()

    def check(comm: Comm) -> GpuCheck:
        node = f"secret-name-of-node-{comm.rank % 2}"
        (row,) = check_loop(
            config, Path("none"), comm=comm, device=CPU, sweep="", trial="", steps=0, node=lambda: node
        )  # fmt: skip
        assert row["done"]
        return read_check(row)

    every = run_on_threads(check, 3)
    assert every == every[:1] * 3
    assert [card.node for card in every[0].cards] == ["1", "2", "1"]
    assert "secret" not in repr(every[0])
    assert every[0].rates is None


def test_rounding_to_tf32_is_seen() -> None:
    def rounded(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a.to(torch.bfloat16).float() @ b

    assert not rounds_to_tf32(torch.matmul, CPU)
    assert not rounds_to_tf32(_convolution, CPU)
    assert rounds_to_tf32(rounded, CPU)
    a, b = torch.randn(2, 5, 5)
    assert torch.allclose(_convolution(a, b), a @ b, atol=1e-6)


def test_a_storage_that_cannot_be_written_is_said(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="set STDCL_STORAGE"):
        run_check(make_config(), tmp_path / "file", steps=0, remote=False, on_event=print)


def test_one_rank_is_local(make_config: MakeConfig) -> None:
    (row,) = check_loop(make_config(), Path("x"), comm=LocalComm(), device=CPU, sweep="", trial="", steps=0)
    assert read_check(row).ranks.wrong == ()
