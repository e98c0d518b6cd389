"""Extension modules that may not have been built, or that this processor may not be able to run."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch  # before any extension, which shares its OpenMP threads
from torch import Tensor


def extension(name: str) -> ModuleType | None:
    """Return the extension module ``name``, or None if it was not built or cannot be loaded here."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def avx512_extension(name: str) -> ModuleType | None:
    """As `extension`, but None too where the build or the processor lacks AVX-512."""
    found = extension(name)
    return found if found is not None and found.supported() else None


def takes(*tensors: Tensor | None) -> bool:
    """Return whether kernels can work on these tensors: float32, on the CPU, at least one element."""
    return all(t is None or (t.dtype == torch.float32 and t.device.type == "cpu" and t.numel() > 0) for t in tensors)
