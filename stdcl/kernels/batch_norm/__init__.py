"""Passes of batch normalisation over rows (R, C): statistics, ``factor x + shift``, and their gradients.

The kernel (``batch_norm.c``) reads and writes each element once where PyTorch operations take several passes over
memory. Its results have the same bits with any number of threads.
"""

from __future__ import annotations

from torch import Tensor

from stdcl.kernels.batch_norm import reference
from stdcl.kernels.check import check, check_axes
from stdcl.kernels.choice import kernel_for, operator
from stdcl.kernels.extension import extension, run

_kernel = extension("stdcl.kernels.batch_norm._kernel")


def built() -> bool:
    """Return whether the kernel was built for this installation."""
    return _kernel is not None


def moments(x: Tensor) -> Tensor:
    """Return (2, C): mean and sum of squared deviations of the rows of ``x`` (R, C).

    Raises:
        ValueError: if ``x`` has other axes or no row.
    """
    check_axes("moments", x=(x, 2))
    if not x.shape[0]:
        raise ValueError(f"moments: x has shape {tuple(x.shape)}, but at least one row is needed")
    return reference.moments(x) if kernel_for(_kernel, x) is None else _moments(x)


def normalise(x: Tensor, residual: Tensor | None, factor: Tensor, shift: Tensor, relu: bool) -> Tensor:
    """Return ``[relu](x factor + shift [+ residual])`` for ``x`` and ``residual`` (..., C), factor and shift (C,).

    Raises:
        ValueError: if a shape does not fit.
        TypeError: if types or devices differ.
    """
    channels = x.shape[-1:]
    check("normalise", x, ("residual", residual, x.shape), ("factor", factor, channels), ("shift", shift, channels))
    way = reference.normalise if kernel_for(_kernel, x, residual, factor, shift) is None else _normalise
    return way(x, residual, factor, shift, relu)


def gradient_sums(grad: Tensor, out: Tensor | None, x: Tensor, mean: Tensor) -> Tensor:
    """Return (2, C): sums over rows of the gradient and of the gradient times ``x - mean``.

    Args:
        grad: (R, C), the gradient of the output.
        out: (R, C), the output of ReLU, where there was one: the gradient counts only where it is positive.
        x: (R, C).
        mean: (C,).

    Raises:
        ValueError: if a shape does not fit.
        TypeError: if types or devices differ.
    """
    check_axes("gradient_sums", x=(x, 2))
    check("gradient_sums", x, ("grad", grad, x.shape), ("out", out, x.shape), ("mean", mean, x.shape[1:]))
    way = reference.gradient_sums if kernel_for(_kernel, grad, out, x, mean) is None else _gradient_sums
    return way(grad, out, x, mean)


def normalise_backward(
    grad: Tensor, out: Tensor | None, x: Tensor, a: Tensor, b: Tensor, c: Tensor, keep: bool
) -> tuple[Tensor, Tensor | None]:
    """Return ``a g + b x + c`` and, if ``keep``, ``g``: the gradient where ``out`` is positive, zero elsewhere.

    Args:
        grad: (R, C), the gradient of the output.
        out: (R, C) or None, see `gradient_sums`.
        x: (R, C).
        a: (C,), as ``b`` and ``c``.
        keep: whether ``g`` is wanted.

    Raises:
        ValueError: if a shape does not fit.
        TypeError: if types or devices differ.
    """
    check_axes("normalise_backward", x=(x, 2))
    channels = x.shape[1:]
    check("normalise_backward", x, ("grad", grad, x.shape), ("out", out, x.shape))
    check("normalise_backward", x, ("a", a, channels), ("b", b, channels), ("c", c, channels))
    if kernel_for(_kernel, grad, out, x, a, b, c) is None:
        return reference.normalise_backward(grad, out, x, a, b, c, keep)
    grad_x, *kept = _normalise_backward(grad, out, x, a, b, c, keep and out is not None)
    return grad_x, (kept[0] if kept else grad) if keep else None


@operator("moments", lambda x: x.new_empty((2, x.shape[1])))
def _moments(x: Tensor) -> Tensor:
    assert _kernel is not None
    out = x.new_empty((2, x.shape[1]))
    run(_kernel.moments, [x], x.shape, [out])
    return out


@operator("normalise", lambda x, residual, factor, shift, relu: x.new_empty(x.shape))
def _normalise(x: Tensor, residual: Tensor | None, factor: Tensor, shift: Tensor, relu: bool) -> Tensor:
    assert _kernel is not None
    out = x.new_empty(x.shape)
    channels = x.shape[-1]
    run(_kernel.normalise, [x, residual, factor, shift], (x.numel() // channels, channels, relu), [out])
    return out


@operator("gradient_sums", lambda grad, out, x, mean: x.new_empty((2, x.shape[1])))
def _gradient_sums(grad: Tensor, out: Tensor | None, x: Tensor, mean: Tensor) -> Tensor:
    assert _kernel is not None
    sums = x.new_empty((2, x.shape[1]))
    run(_kernel.gradient_sums, [grad, out, x, mean], x.shape, [sums])
    return sums


@operator(
    "normalise_backward", lambda grad, out, x, a, b, c, keep: [x.new_empty(x.shape) for _ in range(2 if keep else 1)]
)
def _normalise_backward(
    grad: Tensor, out: Tensor | None, x: Tensor, a: Tensor, b: Tensor, c: Tensor, keep: bool
) -> list[Tensor]:
    assert _kernel is not None
    made = [x.new_empty(x.shape) for _ in range(2 if keep else 1)]
    run(_kernel.normalise_backward, [grad, out, x, a, b, c], x.shape, [made[0], made[1] if keep else None])
    return made
