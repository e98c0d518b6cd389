"""The branches of the multi-scale temporal block. The kernel (``branches.c``) needs AVX-512.

It normalises the frames of one joint into a buffer that the first cache holds, and convolves and pools them there.

Letters: w channels of a branch; P and Q joints and frames in either order.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from stdcl.kernels.branches import reference
from stdcl.kernels.check import check, check_axes
from stdcl.kernels.choice import kernel_for, operator
from stdcl.kernels.extension import avx512_extension, run

_kernel = avx512_extension("stdcl.kernels.branches._kernel")


def one_of(x: Tensor, fused: Callable[[Tensor], Tensor], separate: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``fused(x)``, which uses `forward`, or ``separate(x)``, which says the same by operations: the faster one.

    Without the kernel, separate normalisation, convolutions and pooling are faster than the reference.
    """
    return fused(x) if kernel_for(_kernel, x) is not None else separate(x)


def forward(
    x: Tensor, factor: Tensor, shift: Tensor, weights: Tensor, biases: Tensor, stride: int, time_axis: int
) -> Tensor:
    """Return the four branches side by side, (B, P', Q', 4 w).

    Args:
        x: (B, P, Q, 4 w). The first three branches are ``ReLU(x factor + shift)``, then two convolutions over K frames,
            K odd, of dilation 1 and 2 and a maximum over 3 frames; of the fourth, every ``stride``-th frame is taken as
            it is.
        factor: (3 w,), as ``shift``.
        weights: (2, w, w, K), out channels first, of the convolutions. The kernel takes K = 5.
        biases: (2, w).
        stride: over frames.
        time_axis: 1 or 2, the axis of frames.

    Raises:
        ValueError: if a shape, ``stride`` or ``time_axis`` does not fit.
        TypeError: if types or devices differ.
    """
    _check(x, factor, shift, weights, stride, time_axis)
    check("branches", x, ("biases", biases, weights.shape[:2]))
    way = _forward if _takes(x, factor, shift, weights, biases) else reference.forward
    return way(x, factor, shift, weights, biases, stride, time_axis)


def backward(
    x: Tensor, factor: Tensor, shift: Tensor, weights: Tensor, grad: Tensor, stride: int, time_axis: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients: (B, P, Q, 4 w) of ``x factor + shift`` in the first 3 w channels and of ``x`` in the last w;
    (2, w, w, K) of the weights; (2, w) of the biases.

    Args:
        x: as given to `forward`, as all but the next.
        grad: (B, P', Q', 4 w), the gradient of its result.

    Raises:
        ValueError: if a shape, ``stride`` or ``time_axis`` does not fit.
        TypeError: if types or devices differ.
    """
    _check(x, factor, shift, weights, stride, time_axis)
    check("branches", x, ("grad", grad, _sizes(x, stride, time_axis)[1]))
    if not _takes(x, factor, shift, weights, grad):
        return reference.backward(x, factor, shift, weights, grad, stride, time_axis)
    grad_x, grad_weights, grad_biases = _backward(x, factor, shift, weights, grad, stride, time_axis)
    return grad_x, grad_weights.sum(0).permute(0, 3, 2, 1), grad_biases.sum(0)


def _check(x: Tensor, factor: Tensor, shift: Tensor, weights: Tensor, stride: int, time_axis: int) -> None:
    check_axes("branches", x=(x, 4), weights=(weights, 4))
    channels, (_, width, _, taps) = x.shape[3], weights.shape
    if channels != 4 * width:
        raise ValueError(f"branches: x has {channels} channels, but weights of width {width} ask for {4 * width}")
    if taps % 2 == 0:
        raise ValueError(f"branches: weights span {taps} frames, but an odd number is needed")
    if stride < 1 or time_axis not in (1, 2):
        raise ValueError(f"branches: stride is {stride} and time_axis {time_axis}; allowed are 1 or more, and 1 or 2")
    check(
        "branches",
        x,
        ("factor", factor, (3 * width,)),
        ("shift", shift, (3 * width,)),
        ("weights", weights, (2, width, width, taps)),
    )


def _takes(x: Tensor, factor: Tensor, shift: Tensor, weights: Tensor, other: Tensor) -> bool:
    kernel = kernel_for(_kernel, x, factor, shift, weights, other)
    return kernel is not None and weights.shape[3] == kernel.TAPS


def _fake_forward(
    x: Tensor, factor: Tensor, shift: Tensor, weights: Tensor, biases: Tensor, stride: int, time_axis: int
) -> Tensor:
    return x.new_empty(_sizes(x, stride, time_axis)[1])


@operator("branches", _fake_forward)
def _forward(
    x: Tensor, factor: Tensor, shift: Tensor, weights: Tensor, biases: Tensor, stride: int, time_axis: int
) -> Tensor:
    assert _kernel is not None
    by_tap = weights.permute(0, 3, 2, 1)  # (2, tap, in, out)
    sizes, shape = _sizes(x, stride, time_axis)
    out = x.new_empty(shape)
    run(_kernel.forward, (x, factor, shift, by_tap, biases), sizes, [out])
    return out


def _fake_backward(
    x: Tensor, factor: Tensor, shift: Tensor, weights: Tensor, grad: Tensor, stride: int, time_axis: int
) -> list[Tensor]:
    batch, (_, width, _, taps) = len(x), weights.shape
    # A part per sample of what all samples share.
    return [x.new_empty(shape) for shape in (x.shape, (batch, 2, taps, width, width), (batch, 2, width))]


@operator("branches_backward", _fake_backward)
def _backward(
    x: Tensor, factor: Tensor, shift: Tensor, weights: Tensor, grad: Tensor, stride: int, time_axis: int
) -> list[Tensor]:
    assert _kernel is not None
    turned = weights.permute(0, 3, 1, 2)  # (2, tap, out, in)
    made = _fake_backward(x, factor, shift, weights, grad, stride, time_axis)
    run(_kernel.backward, (x, factor, shift, turned, grad), _sizes(x, stride, time_axis)[0], made)
    return made


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
