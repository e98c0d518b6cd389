"""Which kind of processor computes: a part of why two runs of one configuration can end with other last bits."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

import torch

from stdcl.config.model import TrainingConfig

_CPUINFO = Path("/proc/cpuinfo")
_NVIDIA = Path("/proc/driver/nvidia/version")
_TF32_SINCE = (8, 0)
"""Compute capability of the first cards with TF32 (Ampere)."""


def processor_name(device: torch.device) -> str:
    """Return the model of a GPU, or of this machine's CPU with the instruction set that PyTorch uses.

    It names no machine: ``AMD EPYC 9R45 (AVX512)``, ``NVIDIA H100 80GB HBM3``.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()} ({torch.backends.cpu.get_cpu_capability()})"


def arithmetic_facts(config: TrainingConfig, device: torch.device) -> dict[str, str]:
    """Return what the last digits of a training depend on beside its configuration and code.

    Returns:
        ``processor``; ``precision``; ``tf32``, as it is in force on this card; ``driver`` of the card. The latter two
        are empty on a CPU.
    """
    facts = {"processor": processor_name(device), "precision": config.precision, "tf32": "", "driver": ""}
    if device.type == "cuda":
        has_it = torch.cuda.get_device_capability(device) >= _TF32_SINCE
        facts |= {"tf32": config.tf32 if has_it else "none", "driver": driver_version()}
    return facts


def driver_version() -> str:
    """Return the version of NVIDIA's kernel driver, ``570.86.15``; empty where the system does not say."""
    try:
        first = _NVIDIA.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except OSError:
        return ""
    found = re.search(r"\b\d{3}(\.\d+)+\b", first)
    return found[0] if found else ""


@cache
def _cpu_model() -> str:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(filter(None, named), "") or platform.machine()
