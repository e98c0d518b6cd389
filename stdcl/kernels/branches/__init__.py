"""The branches of the multi-scale temporal block. The kernel (``branches.c``) needs AVX-512.

`stdcl.encoders.temporal.MultiScale` has the same in PyTorch operations, for all other cases. The kernel normalises the
frames of one joint into a buffer that the first cache holds, and convolves and pools them there.

Letters: w channels of a branch; P and Q joints and frames in either order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stdcl.kernels.extension import avx512_extension, takes

_kernel = avx512_extension("stdcl.kernels.branches._kernel")

TAPS = 5


def usable(x: Tensor) -> bool:
    """Return whether the kernel was built, this processor can run it, and it takes ``x``."""
    return _kernel is not None and takes(x)


def forward(
    x: Tensor, factor: Tensor, shift: Tensor, weights: Tensor, biases: Tensor, stride: int, time_axis: int
) -> Tensor:
    """Return the four branches side by side, (B, P', Q', 4 w).

    Args:
        x: (B, P, Q, 4 w). The first three branches are ``ReLU(x factor + shift)``, then two 5-frame convolutions of
            dilation 1 and 2 and a maximum over 3 frames; of the fourth, every ``stride``-th frame is taken as it is.
        factor: (3 w,), as ``shift``.
        weights: (2, w, w, 5), out channels first, of the convolutions.
        biases: (2, w).
        stride: over frames.
        time_axis: 1 or 2, the axis of frames.
    """
    assert _kernel is not None
    x = x.contiguous()
    sizes, shape = _sizes(x, stride, time_axis)
    by_tap = weights.permute(0, 3, 2, 1).contiguous()  # (2, tap, in, out)
    factor, shift, biases = factor.contiguous(), shift.contiguous(), biases.contiguous()
    out = x.new_empty(shape)
    _kernel.forward(
        x.data_ptr(),
        factor.data_ptr(),
        shift.data_ptr(),
        by_tap.data_ptr(),
        biases.data_ptr(),
        sizes,
        torch.get_num_threads(),
        out.data_ptr(),
    )
    return out


def backward(
    x: Tensor, factor: Tensor, shift: Tensor, weights: Tensor, grad: Tensor, stride: int, time_axis: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients: (B, P, Q, 4 w) of ``x factor + shift`` in the first 3 w channels and of ``x`` in the last w;
    (2, w, w, 5) of the weights; (2, w) of the biases.

    Args:
        x: as given to `forward`, as all but the next.
        grad: (B, P', Q', 4 w), the gradient of its result.
    """
    assert _kernel is not None
    x, grad = x.contiguous(), grad.contiguous()
    sizes, _ = _sizes(x, stride, time_axis)
    width = weights.shape[1]
    turned = weights.permute(0, 3, 1, 2).contiguous()  # (2, tap, out, in)
    factor, shift = factor.contiguous(), shift.contiguous()
    grad_x = torch.empty_like(x)
    grad_weights, grad_biases = x.new_empty((len(x), 2, TAPS, width, width)), x.new_empty((len(x), 2, width))
    _kernel.backward(
        x.data_ptr(),
        factor.data_ptr(),
        shift.data_ptr(),
        turned.data_ptr(),
        grad.data_ptr(),
        sizes,
        torch.get_num_threads(),
        grad_x.data_ptr(),
        grad_weights.data_ptr(),
        grad_biases.data_ptr(),
    )
    return grad_x, grad_weights.sum(0).permute(0, 3, 2, 1), grad_biases.sum(0)


def _sizes(x: Tensor, stride: int, time_axis: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the kernel's sizes, distances in rows, and the shape of the result."""
    batch, channels = x.shape[0], x.shape[3]
    frames, joints = x.shape[time_axis], x.shape[3 - time_axis]
    kept = (frames - 1) // stride + 1
    if time_axis == 2:
        steps, kept_steps, shape = (frames, 1), (kept, 1), (batch, joints, kept, channels)
    else:
        steps, kept_steps, shape = (1, joints), (1, joints), (batch, kept, joints, channels)
    return (batch, joints, frames, channels // 4, stride, *steps, kept, *kept_steps), shape
