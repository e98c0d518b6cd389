"""A linear layer in groups of channels, compiled (``grouped.c``) for float32 on CPUs with AVX-512, where PyTorch's
grouped 1x1 convolution copies every group: ``out[r, (g, o)] = bias[(g, o)] + sum_i weight[g, i, o] x[r, (g, i)]``.

Letters: R rows, G groups of w channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stdcl.compiled.extension import avx512_extension

_grouped = avx512_extension("_grouped")

_PIECE = 512  # rows whose sums are kept together, as in grouped.c


def usable(x: Tensor, weight: Tensor) -> bool:
    """Return whether the kernel was built, this processor can run it, and it takes these tensors."""
    fits = all(y.dtype == torch.float32 and y.device.type == "cpu" and y.numel() > 0 for y in (x, weight))
    return fits and _grouped is not None


def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return (R, G w) from ``x`` (R, G w), ``weight`` (G, w, w), in channels first, and ``bias`` (G w,)."""
    assert _grouped is not None
    groups, width, _ = weight.shape
    x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
    out = torch.empty_like(x)
    _grouped.forward(
        x.data_ptr(),
        weight.data_ptr(),
        bias.data_ptr(),
        len(x),
        groups,
        width,
        torch.get_num_threads(),
        out.data_ptr(),
    )
    return out


def backward(x: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias, given ``grad`` (R, G w), that of the result."""
    assert _grouped is not None
    groups, width, _ = weight.shape
    x, grad, turned = x.contiguous(), grad.contiguous(), weight.transpose(1, 2).contiguous()
    grad_x = torch.empty_like(x)
    parts = [weight.numel(), groups * width]
    sums = x.new_empty((-(-len(x) // _PIECE), sum(parts)))
    _grouped.backward(
        x.data_ptr(),
        turned.data_ptr(),
        grad.data_ptr(),
        len(x),
        groups,
        width,
        torch.get_num_threads(),
        grad_x.data_ptr(),
        sums.data_ptr(),
    )
    of_weight, of_bias = torch.split(sums.sum(0), parts)
    return grad_x, of_weight.view(weight.shape), of_bias
