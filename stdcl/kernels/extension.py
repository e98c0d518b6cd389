"""Extension modules that may not have been built, or that this processor may not be able to run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
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


def run(
    function: Callable[..., object], given: Sequence[Tensor | None], sizes: Sequence[int], made: Sequence[Tensor | None]
) -> None:
    """Call a kernel (``call.h``) with the addresses of what it reads and writes; None has the address 0.

    Args:
        function: of an extension module.
        given: tensors of four bytes per number, made contiguous here.
        sizes: what the kernel says.
        made: contiguous tensors.
    """
    held = [None if x is None else x.contiguous() for x in given]  # alive until the kernel returns
    function(_addresses(held), tuple(sizes), torch.get_num_threads(), _addresses(made))


def _addresses(tensors: Sequence[Tensor | None]) -> tuple[int, ...]:
    return tuple([0 if x is None else x.data_ptr() for x in tensors])
