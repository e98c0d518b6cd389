"""Extension modules that may not have been built, or that this processor may not be able to run."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch  # noqa: F401 - before any extension, which shares its OpenMP threads


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
