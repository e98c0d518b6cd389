"""Checks of an operation's arguments, made before any kernel or reference sees them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check(operation: str, like: Tensor, *arguments: tuple[str, Tensor | None, Sequence[int]]) -> None:
    """Check that each argument has its shape, and the type and device of ``like``.

    Args:
        operation: its name, for messages.
        like: the argument that the others follow.
        arguments: name, tensor (None: not given) and shape of each.

    Raises:
        ValueError: if an argument has another shape.
        TypeError: if it has another type, or is on another device.
    """
    for name, x, shape in arguments:
        if x is None:
            continue
        if x.shape != shape:
            raise ValueError(_shape(operation, name, x, shape))
        if x.dtype != like.dtype or x.device != like.device:
            raise TypeError(
                f"{operation}: {name} is {x.dtype} on {x.device}, but {like.dtype} on {like.device} is needed"
            )


def check_axes(operation: str, **tensors: tuple[Tensor, int]) -> None:
    """Check that each tensor has so many axes.

    Raises:
        ValueError: if one has another number of axes.
    """
    for name, (x, axes) in tensors.items():
        if x.dim() != axes:
            raise ValueError(f"{operation}: {name} has shape {tuple(x.shape)}, but {axes} axes are needed")


def check_indices(operation: str, name: str, indices: Tensor, shape: Sequence[int], size: int) -> None:
    """Check that ``indices`` has this shape, is int64, and holds numbers from 0 to ``size - 1``.

    The numbers are read in CPU memory only, and not where tensors are traced.

    Raises:
        ValueError: if the shape is another one.
        TypeError: if the type is another one.
        IndexError: if a number is out of range.
    """
    if indices.shape != shape:
        raise ValueError(_shape(operation, name, indices, shape))
    if indices.dtype != torch.int64:
        raise TypeError(f"{operation}: {name} is {indices.dtype}, but torch.int64 is needed")
    if type(indices) is Tensor and indices.device.type == "cpu" and indices.numel() and not tracing():
        least, most = (int(x) for x in torch.aminmax(indices))
        if least < 0 or most >= size:
            raise IndexError(f"{operation}: {name} holds {least if least < 0 else most}; allowed are 0 to {size - 1}")


def tracing() -> bool:
    """Return whether operations are recorded for later: ``torch.compile``, ``torch.export``, ``torch.jit.trace``."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


def recording() -> bool:
    """Return whether operations are recorded one by one, ``torch.export`` or ``torch.jit.trace``; then a loop over a
    batch would fix its size."""
    return tracing() and not torch.compiler.is_dynamo_compiling()


def _shape(operation: str, name: str, x: Tensor, shape: Sequence[int]) -> str:
    return f"{operation}: {name} has shape {tuple(x.shape)}, but the other arguments ask for {tuple(shape)}"
