"""The branches of the multi-scale temporal block in PyTorch operations. Arguments and results are the interface's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d


def forward(
    x: Tensor, factor: Tensor, shift: Tensor, weights: Tensor, biases: Tensor, stride: int, time_axis: int
) -> Tensor:
    return _convolved(_normalised(x, factor, shift), weights, biases, stride, time_axis)


def backward(
    x: Tensor, factor: Tensor, shift: Tensor, weights: Tensor, grad: Tensor, stride: int, time_axis: int
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.enable_grad():
        before = _normalised(x.detach(), factor.detach(), shift.detach()).requires_grad_()
        weights = weights.detach().requires_grad_()
        biases = weights.new_zeros(weights.shape[:2]).requires_grad_()
        out = _convolved(before, weights, biases, stride, time_axis)
        of_before, of_weights, of_biases = torch.autograd.grad(out, (before, weights, biases), grad)
    return of_before.contiguous(), of_weights, of_biases


def _normalised(x: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """Return ``x factor + shift`` of the first three branches, and the fourth as it is."""
    three = len(factor)
    return torch.cat((torch.addcmul(shift, x[..., :three], factor), x[..., three:]), dim=-1)


def _convolved(before: Tensor, weights: Tensor, biases: Tensor, stride: int, time_axis: int) -> Tensor:
    width, reach = weights.shape[1], weights.shape[3] // 2
    image = before if time_axis == 2 else before.transpose(1, 2)
    image = image.permute(0, 3, 1, 2)  # (B, 4 w, V, T)
    first, second, third = torch.split(torch.relu(image[:, : 3 * width]), width, dim=1)
    kernels = weights[:, :, :, None]
    parts = [
        conv2d(first, kernels[0], biases[0], (1, stride), (0, reach)),
        conv2d(second, kernels[1], biases[1], (1, stride), (0, 2 * reach), (1, 2)),
        max_pool2d(third, (1, 3), (1, stride), (0, 1)),
        image[:, 3 * width :, :, ::stride],
    ]
    out = torch.cat(parts, dim=1).permute(0, 2, 3, 1)
    return (out if time_axis == 2 else out.transpose(1, 2)).contiguous()
