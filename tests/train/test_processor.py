from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stdcl.training import processor
from tests.train.conftest import MakeConfig


def test_the_processor_is_named_without_the_machine() -> None:
    name = processor.processor_name(torch.device("cpu"))
    assert torch.backends.cpu.get_cpu_capability() in name
    import platform

    assert platform.node() not in name


@pytest.mark.parametrize(
    ("text", "expected"),
    [("processor : 0\nmodel name\t: AMD EPYC 9R45\n", "AMD EPYC 9R45"), ("Model\t\t: Raspberry Pi\n", "Raspberry Pi")],
)
def test_what_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    assert processor._cpu_model.__wrapped__() == expected
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "absent")
    assert processor._cpu_model.__wrapped__()


def test_a_cpu_has_no_card_facts(make_config: MakeConfig) -> None:
    facts = processor.arithmetic_facts(make_config(training={"tf32": "all"}).training, torch.device("cpu"))
    assert facts.pop("processor")
    assert facts == {"precision": "float32", "tf32": "", "driver": ""}


@pytest.mark.parametrize(
    ("capability", "expected"), [((9, 0), "convolutions"), ((8, 0), "convolutions"), ((7, 5), "none")]
)
def test_facts_of_a_card(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    expected: str,
) -> None:
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs@x)  Thu Jan 1\n"
        "GCC version:  gcc version 12.3.0 (Debian 12.3.0-1)\n"
    )
    monkeypatch.setattr(processor, "_NVIDIA", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert processor.arithmetic_facts(make_config().training, torch.device("cuda", 0)) == {
        "processor": "NVIDIA H100 80GB HBM3",
        "precision": "float32",
        "tf32": expected,
        "driver": "570.86.15",
    }


@pytest.mark.parametrize("text", [None, "", "NVRM version: unknown\n"])
def test_a_driver_that_does_not_say_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "version").write_text(text)
    monkeypatch.setattr(processor, "_NVIDIA", tmp_path / "version")
    assert processor.driver_version() == ""
