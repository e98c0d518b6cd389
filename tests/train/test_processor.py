from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stdcl.training import processor


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
