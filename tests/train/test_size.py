"""Models that a machine cannot hold are refused before anything is allocated."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
from torch import nn

from stdcl.errors import UserError
from stdcl.training.components import check
from stdcl.training.size import check_size
from tests.train.conftest import MakeConfig


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2**30))


def test_the_need_and_the_machine_are_named() -> None:
    check_size("encoder", lambda: nn.Linear(2**14, 2**14 - 1, bias=False))  # 2^16 bytes below 1 GiB
    with pytest.raises(
        UserError, match=r"encoder: its 10,000,100,000 parameters take 37\.3 GiB.* machine has 1\.0 GiB"
    ):
        check_size("encoder", lambda: nn.Linear(10**5, 10**5))


def test_what_looks_at_its_numbers_is_not_checked() -> None:
    def build() -> nn.Module:
        layer = nn.Linear(10**5, 10**5)
        assert float(layer.weight.sum()) >= 0
        return layer

    check_size("encoder", build)


def test_the_check_before_a_start_refuses(make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=r"encoder: its .* parameters take 9"):
        check(make_config(encoder={"name": "hcn", "hidden": 10**8}))
