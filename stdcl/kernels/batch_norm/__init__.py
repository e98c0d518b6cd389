"""Passes of batch normalisation over rows (R, C): statistics, ``factor x + shift``, and their gradients.

The kernel (``batch_norm.c``) reads and writes each element once where PyTorch operations take several passes over
memory. Its results have the same bits with any number of threads.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from stdcl.kernels.batch_norm import reference
from stdcl.kernels.extension import extension, takes

_kernel = extension("stdcl.kernels.batch_norm._kernel")


def built() -> bool:
    """Return whether the kernels were built for this installation."""
    return _kernel is not None


def _kernel_for(*tensors: Tensor | None) -> ModuleType | None:
    """Return the kernels if they can work on these tensors."""
    return _kernel if takes(*tensors) else None


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def moments(x: Tensor) -> Tensor:
    """Return (2, C): mean and sum of squared deviations of the rows of ``x`` (R, C), R at least 1."""
    x = x.contiguous()
    rows, channels = x.shape
    kernel = _kernel_for(x)
    if kernel is not None:
        out = x.new_empty((2, channels))
        kernel.moments(x.data_ptr(), rows, channels, torch.get_num_threads(), out.data_ptr())
        return out
    return reference.moments(x)


def normalise(x: Tensor, residual: Tensor | None, factor: Tensor, shift: Tensor, relu: bool) -> Tensor:
    """Return ``[relu](x factor + shift [+ residual])`` for ``x`` and ``residual`` (..., C), factor and shift (C,)."""
    kernel = _kernel_for(x, residual, factor, shift)
    if kernel is not None:
        x, channels = x.contiguous(), x.shape[-1]
        residual = None if residual is None else residual.contiguous()
        factor, shift = factor.contiguous(), shift.contiguous()
        out = torch.empty_like(x)
        kernel.normalise(
            _address(x),
            _address(residual),
            _address(factor),
            _address(shift),
            relu,
            x.numel() // channels,
            channels,
            torch.get_num_threads(),
            _address(out),
        )
        return out
    return reference.normalise(x, residual, factor, shift, relu)


def gradient_sums(grad: Tensor, out: Tensor | None, x: Tensor, mean: Tensor) -> Tensor:
    """Return (2, C): sums over rows of the gradient and of the gradient times ``x - mean``.

    Args:
        grad: (R, C), the gradient of the output.
        out: (R, C), the output of ReLU, where there was one: the gradient counts only where it is positive.
        x: (R, C).
        mean: (C,).
    """
    rows, channels = x.shape
    kernel = _kernel_for(grad, out, x, mean)
    if kernel is not None:
        grad, x, mean = grad.contiguous(), x.contiguous(), mean.contiguous()
        sums = x.new_empty((2, channels))
        out = None if out is None else out.contiguous()
        kernel.gradient_sums(
            _address(grad),
            _address(out),
            _address(x),
            _address(mean),
            rows,
            channels,
            torch.get_num_threads(),
            _address(sums),
        )
        return sums
    return reference.gradient_sums(grad, out, x, mean)


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
    """
    kernel = _kernel_for(grad, out, x, a, b, c)
    if kernel is not None:
        grad, x = grad.contiguous(), x.contiguous()
        a, b, c = a.contiguous(), b.contiguous(), c.contiguous()
        out = None if out is None else out.contiguous()
        grad_x = torch.empty_like(x)
        kept = torch.empty_like(grad) if keep and out is not None else None
        kernel.normalise_backward(
            _address(grad),
            _address(out),
            _address(x),
            _address(a),
            _address(b),
            _address(c),
            x.shape[0],
            x.shape[1],
            torch.get_num_threads(),
            _address(grad_x),
            _address(kept),
        )
        return grad_x, (grad if out is None else kept) if keep else None
    return reference.normalise_backward(grad, out, x, a, b, c, keep)
