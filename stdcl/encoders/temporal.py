"""Temporal parts of the graph encoders: the multi-scale block of CTR-GCN, and the single wide convolution of 2s-AGCN.

Both work on channels-last tensors (B, P, Q, C) with frames on ``time_axis`` (1 or 2) and joints on the other axis.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from stdcl.encoders.layers import Pointwise, TimeConv, along_time, bias_of, convolve, init_kaiming, product_dtype
from stdcl.kernels import batch_norm, branches
from stdcl.parallel.batch_norm import BatchNorm, Statistics, batch_statistics, normalise, slope
from stdcl.parallel.comm import Comm


class _ConvBranch(nn.Module):
    """``pw - bn1 - ReLU - conv - bn2``; run by `MultiScale`, which joins the branches' common work."""

    def __init__(self, channels_in: int, width: int, stride: int, dilation: int, time_axis: int) -> None:
        super().__init__()
        self.pw = Pointwise(channels_in, width)
        self.bn1 = BatchNorm(width)
        self.conv = TimeConv(width, width, 5, stride, dilation, time_axis)
        self.bn2 = BatchNorm(width)


class _PoolBranch(nn.Module):
    """``pw - bn1 - ReLU - max-pool - bn2``."""

    def __init__(self, channels_in: int, width: int, stride: int, time_axis: int) -> None:
        super().__init__()
        self.pw = Pointwise(channels_in, width)
        self.bn1 = BatchNorm(width)
        self.bn2 = BatchNorm(width)
        self.stride = along_time(stride, 1, time_axis)
        self.kernel = along_time(3, 1, time_axis)
        self.padding = along_time(1, 0, time_axis)

    def pool(self, x: Tensor) -> Tensor:
        y = torch.max_pool2d(x.permute(0, 3, 1, 2), self.kernel, self.stride, self.padding)
        return y.permute(0, 2, 3, 1)


class _PlainBranch(nn.Module):
    """``pw - bn1``."""

    def __init__(self, channels_in: int, width: int) -> None:
        super().__init__()
        self.pw = Pointwise(channels_in, width)
        self.bn1 = BatchNorm(width)


class MultiScale(nn.Module):
    """Multi-scale temporal convolution (CTR-GCN, section 3.3 and its public code): four branches of C/4 channels
    each.

    ``br0``, ``br1``: 1x1 - BN - ReLU - 5-frame convolution of dilation 1, 2 - BN; ``br2``: 1x1 - BN - ReLU - max-pool
    over 3 frames - BN; ``br3``: 1x1 - BN. No residual of its own and no activation at the end, unless `forward` is
    given them.

    Args:
        channels_in: Cin.
        channels_out: C, a multiple of 4.
        stride: over frames.
        time_axis: the axis of the input that counts frames, 1 or 2.
        kaiming: initialise as CTR-GCN and Hyperformer do (Kaiming normal, fan_out; biases 0; BN weights N(1, 0.02));
            otherwise as PyTorch does (InfoGCN).
    """

    def __init__(
        self, channels_in: int, channels_out: int, stride: int = 1, time_axis: int = 1, kaiming: bool = True
    ) -> None:
        super().__init__()
        if channels_out % 4:
            raise ValueError(f"channels_out is {channels_out}; the four branches need a multiple of 4")
        width = channels_out // 4
        self.stride, self.time_axis = stride, time_axis
        self.br0 = _ConvBranch(channels_in, width, stride, 1, time_axis)
        self.br1 = _ConvBranch(channels_in, width, stride, 2, time_axis)
        self.br2 = _PoolBranch(channels_in, width, stride, time_axis)
        self.br3 = _PlainBranch(channels_in, width)
        if kaiming:
            init_multi_scale(self)

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """Map (B, P, Q, Cin) to (B, P', Q', C); optionally add ``residual`` (B, P', Q', C), then apply ReLU."""
        # The fused way normalises by the batch's statistics, in one type.
        fits = self.training and product_dtype(x) == x.dtype
        raw = branches.one_of(x, self._fused, self._by_operations) if fits else self._by_operations(x)
        return normalise([self.br0.bn2, self.br1.bn2, self.br2.bn2, self.br3.bn1], raw, residual, relu)

    def _fused(self, x: Tensor) -> Tensor:
        """Return the branches before their last normalisation, (B, P', Q', C): one product, then one kernel."""
        every = (self.br0, self.br1, self.br2, self.br3)
        weight = torch.cat([branch.pw.weight for branch in every])
        y = convolve(x, weight, torch.cat([bias_of(branch.pw) for branch in every]))
        norms = [self.br0.bn1, self.br1.bn1, self.br2.bn1]
        raw: Tensor = _Branches.apply(  # type: ignore[no-untyped-call]
            y,
            torch.cat([norm.weight for norm in norms]),
            torch.cat([norm.bias for norm in norms]),
            torch.stack((self.br0.conv.weight, self.br1.conv.weight)).squeeze(-1),
            torch.stack((self.br0.conv.bias, self.br1.conv.bias)),
            batch_statistics(norms, y),
            norms[0].comm,
            self.stride,
            self.time_axis,
        )
        return raw

    def _by_operations(self, x: Tensor) -> Tensor:
        """Return the same by PyTorch operations."""
        reduced = (self.br0, self.br1, self.br2)
        width = self.br0.bn1.num_channels
        weight = torch.cat([branch.pw.weight for branch in reduced])
        bias = torch.cat([bias_of(branch.pw) for branch in reduced])
        hidden = normalise([branch.bn1 for branch in reduced], convolve(x, weight, bias), relu=True)
        first, second, third = torch.split(hidden, width, dim=-1)
        plain = self.br3.pw(x, along_time(self.stride, 1, self.time_axis))
        return torch.cat((self.br0.conv(first), self.br1.conv(second), self.br2.pool(third), plain), dim=-1)


class _Branches(torch.autograd.Function):
    """y (B, P, Q, 4 w), all branches after their first product -> (B, P', Q', 4 w), before their last normalisation.

    The first three are normalised, with the statistics of all ranks' rows, and pass ReLU; then come the convolutions
    and the maximum. Of the fourth, every ``stride``-th frame is taken.
    """

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        weights: Tensor,
        biases: Tensor,
        statistics: Statistics,
        comm: Comm,
        stride: int,
        time_axis: int,
    ) -> Tensor:
        line = statistics.line(norm_weight, norm_bias)
        ctx.save_for_backward(y, norm_weight, weights, *line, *statistics)
        ctx.comm, ctx.place = comm, (stride, time_axis)
        return branches.forward(y, *line, weights, biases, stride, time_axis)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        y, norm_weight, weights, factor, shift, *statistics = ctx.saved_tensors
        grad_y, grad_weights, grad_biases = branches.backward(y, factor, shift, weights, gradients[0], *ctx.place)
        # The normalisation's own gradient; the fourth branch, which has none, passes as it is.
        width, channels = weights.shape[1], y.shape[-1]
        grad_rows, rows = grad_y.view(-1, channels), y.reshape(-1, channels)
        sums = batch_norm.gradient_sums(grad_rows, None, rows, pad(statistics[0], (0, width)))
        line = slope(sums[:, :-width].contiguous(), norm_weight, Statistics(*statistics), ctx.comm)
        a, b, c = pad(line.a, (0, width), value=1.0), pad(line.b, (0, width)), pad(line.c, (0, width))
        grad_rows, _ = batch_norm.normalise_backward(grad_rows, None, rows, a, b, c, keep=False)
        return (grad_rows.view(y.shape), line.weight, line.bias, grad_weights, grad_biases) + (None,) * 4


@torch.no_grad()
def init_multi_scale(block: MultiScale) -> None:
    """Initialise as CTR-GCN's public code does."""
    for module in block.modules():
        if isinstance(module, Pointwise | TimeConv):
            init_kaiming(module)
        elif isinstance(module, BatchNorm):
            module.weight.normal_(1.0, 0.02)
            module.bias.zero_()


class WideConv(nn.Module):
    """A 9-frame convolution and batch normalisation (ST-GCN, 2s-AGCN).

    Args:
        channels_in: Cin.
        channels_out: C.
        stride: over frames.
        time_axis: the axis of the input that counts frames, 1 or 2.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, time_axis: int = 1) -> None:
        super().__init__()
        self.conv = TimeConv(channels_in, channels_out, 9, stride, 1, time_axis)
        self.bn = BatchNorm(channels_out)
        init_kaiming(self.conv)

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """Map (B, P, Q, Cin) to (B, P', Q', C); optionally add ``residual`` (B, P', Q', C), then apply ReLU."""
        normalised: Tensor = self.bn(self.conv(x), residual, relu)
        return normalised
