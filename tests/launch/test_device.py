"""A rank that was given a GPU says it when there is none, and never trains on the CPU instead."""

from __future__ import annotations

import pytest
import torch

from stdcl.errors import UserError
from stdcl.launch import device
from stdcl.launch.device import VISIBLE, check_card, own_device
from stdcl.launch.failures import Fatal
from stdcl.launch.worker_group import _CardBackend, _TransportConfig
from tests.launch.test_cluster import resources


@pytest.fixture(autouse=True)
def without_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv(VISIBLE, raising=False)


def test_a_training_without_gpus_is_on_the_cpu() -> None:
    assert own_device(resources(workers=1)) == torch.device("cpu")


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_gpu_that_is_not_there_is_refused(share: float) -> None:
    with pytest.raises(UserError, match="a GPU was asked for, but the NVIDIA driver of this machine lists no card"):
        own_device(resources(workers=1, gpus_per_worker=share))


@pytest.mark.parametrize(
    ("cuda", "visible", "expected"),
    [
        (None, None, "is built without CUDA"),
        ("12.8", "", f"{VISIBLE} is ''"),
        ("12.8", "7", f"{VISIBLE} is '7'"),
        ("12.8", None, "does not work with this driver"),
    ],
)
def test_why_pytorch_sees_no_card(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, visible: str | None, expected: str
) -> None:
    monkeypatch.setattr(device, "cards_of_the_driver", lambda: ("NVIDIA H100",) * 8)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
    with pytest.raises(UserError) as caught:
        check_card()
    assert "lists 8 card(s), and PyTorch sees none" in str(caught.value)
    assert expected in str(caught.value)
    assert str(caught.value).endswith("resources.gpus_per_worker=0 trains on CPUs")


def test_a_group_of_gpus_looks_for_its_cards_before_it_connects() -> None:
    config = _TransportConfig(backend="nccl")
    assert config.backend_cls is _CardBackend
    assert _TransportConfig(backend="gloo").backend_cls is not _CardBackend

    class Ranks:
        def execute(self, function: object, *arguments: object) -> None:
            function()  # type: ignore[operator]

    with pytest.raises(Fatal, match="a GPU was asked for") as caught:
        _CardBackend().on_start(Ranks(), config)
    assert caught.value.kind == "setup"
