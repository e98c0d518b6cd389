"""The passes of batch normalisation in PyTorch operations. Arguments and results are those of the interface."""

from __future__ import annotations

import torch
from torch import Tensor


def moments(x: Tensor) -> Tensor:
    rows, channels = x.shape
    image = x.contiguous().view(1, rows, 1, channels).permute(0, 3, 1, 2)
    mean, variance = torch.batch_norm_update_stats(image, None, None, 0.0)
    return torch.stack((mean, variance * rows))


def normalise(x: Tensor, residual: Tensor | None, factor: Tensor, shift: Tensor, relu: bool) -> Tensor:
    out = torch.addcmul(shift, x, factor)
    if residual is not None:
        out += residual
    return out.relu_() if relu else out


def gradient_sums(grad: Tensor, out: Tensor | None, x: Tensor, mean: Tensor) -> Tensor:
    rows, channels = x.shape
    if not rows:
        return mean.new_zeros((2, channels))
    kept = _kept(grad, out)
    grad_image, image = (y.reshape(1, rows, 1, channels).permute(0, 3, 1, 2) for y in (kept, x))
    # PyTorch's own gradient with given statistics: with a variance of one, that for the weight is the second sum.
    one = torch.ones_like(mean)
    _, product, total = torch.ops.aten.native_batch_norm_backward(
        grad_image, image, one, mean, one, None, None, False, 0.0, [False, True, True]
    )
    return torch.stack((total, product))


def normalise_backward(
    grad: Tensor, out: Tensor | None, x: Tensor, a: Tensor, b: Tensor, c: Tensor, keep: bool
) -> tuple[Tensor, Tensor | None]:
    kept = _kept(grad, out)
    grad_x = torch.addcmul(c, x, b)
    return grad_x.addcmul_(kept, a), kept if keep else None


def _kept(grad: Tensor, out: Tensor | None) -> Tensor:
    if out is None:
        return grad
    kept: Tensor = torch.ops.aten.threshold_backward(grad, out, 0)
    return kept
