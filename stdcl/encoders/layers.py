"""Convolutions over channels-last tensors (B, P, Q, C), and the initialisations that the encoders share.

On a CPU a 1x1 convolution over channels-first tensors is several times slower than over channels-last ones, and batch
normalisation too; on a GPU channels-last is the native layout of the tensor cores. P and Q are joints and frames in
either order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stdcl.encoders.pointwise import pointwise


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> Tensor:
    """Convolve ``x`` (B, P, Q, Cin) with ``weight`` (Cout, Cin, kP, kQ) over P and Q; return (B, P', Q', Cout)."""
    if weight.shape[2:] == (1, 1) and stride == (1, 1):
        return pointwise(x, weight.flatten(1), bias)
    y = torch.conv2d(x.permute(0, 3, 1, 2), weight, bias, stride, padding, dilation)
    return y.permute(0, 2, 3, 1)


class Pointwise(nn.Module):
    """A 1x1 convolution, optionally with strides. ``weight`` is (Cout, Cin, 1, 1), as public checkpoints have it."""

    bias: nn.Parameter | None

    def __init__(self, channels_in: int, channels_out: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels_out)) if bias else None
        init_default(self)

    def forward(self, x: Tensor, stride: tuple[int, int] = (1, 1)) -> Tensor:
        """Map (B, P, Q, Cin) to (B, P', Q', Cout)."""
        return convolve(x, self.weight, self.bias, stride)


class TimeConv(nn.Module):
    """A convolution over time alone, padded so that a stride of 1 keeps the length. ``weight`` is (Cout, Cin, k,
    1)."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, dilation: int = 1, time_axis: int = 1
    ) -> None:
        super().__init__()
        self.time_axis = time_axis
        self.stride = along_time(stride, 1, time_axis)
        self.dilation = along_time(dilation, 1, time_axis)
        self.padding = along_time(dilation * (kernel - 1) // 2, 0, time_axis)
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, kernel, 1))
        self.bias = nn.Parameter(torch.empty(channels_out))
        init_default(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, P, Q, Cin) to (B, P', Q', Cout); frames lie on ``time_axis`` (1 or 2)."""
        weight = self.weight if self.time_axis == 1 else self.weight.transpose(2, 3)
        return convolve(x, weight, self.bias, self.stride, self.padding, self.dilation)


def bias_of(layer: Pointwise) -> Tensor:
    """Return the bias of a layer that has one."""
    assert layer.bias is not None
    return layer.bias


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the type that matrix products of ``x`` run in: autocast's where it is on, else that of ``x``.

    For autograd functions of our own, whose products autocast does not see.
    """
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def along_time(value: int, other: int, time_axis: int) -> tuple[int, int]:
    """Return the pair for axes (1, 2) that has ``value`` on ``time_axis`` and ``other`` on the other one."""
    return (value, other) if time_axis == 1 else (other, value)


@torch.no_grad()
def init_default(layer: Pointwise | TimeConv) -> None:
    """Draw weight and bias as PyTorch's own convolutions do: uniform in +-1/sqrt(fan_in)."""
    bound = 1.0 / math.sqrt(layer.weight[0].numel())
    layer.weight.uniform_(-bound, bound)
    if layer.bias is not None:
        layer.bias.uniform_(-bound, bound)


@torch.no_grad()
def init_kaiming(layer: Pointwise | TimeConv) -> None:
    """Draw the weight from N(0, 2/fan_out) (He et al., 2015, mode fan_out) and set the bias to zero."""
    out, _, *kernel = layer.weight.shape
    layer.weight.normal_(0.0, math.sqrt(2.0 / (out * math.prod(kernel))))
    if layer.bias is not None:
        layer.bias.zero_()
