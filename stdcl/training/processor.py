"""Which kind of processor computes: a part of why two runs of one configuration can end with other last bits."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch

_CPUINFO = Path("/proc/cpuinfo")


def processor_name(device: torch.device) -> str:
    """Return the model of a GPU, or of this machine's CPU with the instruction set that PyTorch uses.

    It names no machine: ``AMD EPYC 9R45 (AVX512)``, ``NVIDIA H100 80GB HBM3``.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()} ({torch.backends.cpu.get_cpu_capability()})"


@cache
def _cpu_model() -> str:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(filter(None, named), "") or platform.machine()
