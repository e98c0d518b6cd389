"""Batch normalisation over the batch of all ranks: one code path for one rank and many, for CPU and GPU.

PyTorch's own ``SyncBatchNorm`` refuses CPU tensors. This one works on channels-last tensors (``(..., C)``), takes its
statistics through an injected ``Comm`` and takes a residual sum and a ReLU along, which saves passes over memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stdcl.kernels import batch_norm as passes
from stdcl.parallel.comm import Comm, LocalComm


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe, Szegedy, 2015), with statistics of the global batch.

    In training, mean and variance are those of all rows on all ranks of ``comm``, whatever number of rows each rank
    has, and the gradient with respect to the input is the exact gradient of a loss over the global batch. The
    gradients of ``weight`` and ``bias`` are this rank's share: summed over ranks they are those of the global batch,
    as for any other parameter under data parallelism. Running statistics follow PyTorch: ``new = (1 - momentum) old +
    momentum batch``, with the unbiased variance.

    Attributes:
        comm: the ranks whose rows are one batch; ``LocalComm`` (this rank alone) unless `use_synchronised` set
            another.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.comm: Comm = LocalComm()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))

    @property
    def num_channels(self) -> int:
        """C."""
        return self.weight.shape[0]

    def extra_repr(self) -> str:
        return f"{self.num_channels}, eps={self.eps}, momentum={self.momentum}"

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """Normalise ``x`` (..., C); optionally add ``residual`` (same shape), then optionally apply ReLU."""
        return normalise([self], x, residual, relu)


def normalise(parts: Sequence[BatchNorm], x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
    """Apply several batch normalisations side by side: each to its own run of the channels of ``x`` (..., C).

    The parts must share mode, ``eps``, ``momentum`` and ``comm``; their channel counts must sum to C. The result is
    ``[relu](BN(x) [+ residual])``.
    """
    first = parts[0]
    weight = _joined([part.weight for part in parts])
    bias = _joined([part.bias for part in parts])
    if first.training:
        out: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            x, weight, bias, residual, batch_statistics(parts, x), first.comm, relu
        )
        return out
    mean = _joined([part.running_mean for part in parts])
    variance = _joined([part.running_var for part in parts])
    factor = weight * torch.rsqrt(variance + first.eps)
    out = torch.addcmul(bias - mean * factor, x.to(factor.dtype), factor)
    if residual is not None:
        out = out + residual
    return (torch.relu(out) if relu else out).to(x.dtype)


class Statistics(NamedTuple):
    """What a batch normalisation divides by and subtracts, over the rows of all ranks."""

    mean: Tensor  # (C,)
    scale: Tensor  # (C,), 1 / sqrt(variance + eps)
    rows: Tensor  # (), their number

    def line(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return factor and shift (C,): ``weight (x - mean) scale + bias`` is ``x factor + shift``."""
        factor = weight.to(self.mean.dtype) * self.scale
        return factor, bias.to(self.mean.dtype) - self.mean * factor


def batch_statistics(parts: Sequence[BatchNorm], x: Tensor) -> Statistics:
    """Return the statistics of ``x`` (..., C or more) for the parts, side by side, and move their running ones.

    Only the first C channels count, C those of all parts.
    """
    channels = sum(part.num_channels for part in parts)
    mean, variance, count = _global_statistics(x, channels, parts[0].comm)
    _update_running(parts, mean, variance, count)
    return Statistics(mean, torch.rsqrt(variance + parts[0].eps), count)


class Slope(NamedTuple):
    """The gradient of a batch normalisation whose statistics are those of all ranks' rows."""

    a: Tensor  # (C,), as the others: the gradient of x is a g + b x + c, g that of the result
    b: Tensor
    c: Tensor
    weight: Tensor  # this rank's share of the gradient
    bias: Tensor


def slope(sums: Tensor, weight: Tensor, statistics: Statistics, comm: Comm) -> Slope:
    """Return the gradient from this rank's sums (2, C) over rows: of g, and of g times ``x - mean``."""
    mean, scale, rows = statistics
    total = comm.all_reduce(sums) / rows
    a = weight.to(mean.dtype) * scale
    b = -a * scale * scale * total[1]
    return Slope(a, b, -a * total[0] - mean * b, (sums[1] * scale).to(weight.dtype), sums[0].to(weight.dtype))


def use_synchronised(model: nn.Module, comm: Comm) -> int:
    """Let every `BatchNorm` of ``model`` take its statistics over the ranks of ``comm``; return their number."""
    found = [module for module in model.modules() if isinstance(module, BatchNorm)]
    for module in found:
        module.comm = comm
    return len(found)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


@torch.no_grad()
def _global_statistics(x: Tensor, channels: int, comm: Comm) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (C,), biased variance (C,) and number of rows over all ranks, of the first C channels.

    Each rank computes its own mean and sum of squared deviations in two passes; these are merged exactly (Chan,
    Golub, LeVeque, 1983), so nothing is lost to cancellation.
    """
    rows = x.numel() // x.shape[-1]
    dtype = _accumulator(x.dtype)
    own = torch.zeros((2 * channels + 1,), dtype=dtype, device=x.device)
    if rows:
        moments = passes.moments(x.detach().to(dtype).reshape(rows, x.shape[-1]))
        torch.cat((moments[:, :channels].reshape(-1), own.new_full((1,), rows)), out=own)
    every = comm.all_gather(own)
    means, squares, counts = every[:, :channels], every[:, channels:-1], every[:, -1:]
    count = counts.sum()
    mean = (means * counts).sum(0) / count
    deviation = means - mean
    variance = (squares.sum(0) + (counts * deviation * deviation).sum(0)) / count
    return mean, variance, count


@torch.no_grad()
def _update_running(parts: Sequence[BatchNorm], mean: Tensor, variance: Tensor, count: Tensor) -> None:
    unbiased = variance * (count / (count - 1.0).clamp(min=1.0))
    sizes = [part.num_channels for part in parts]
    running = [part.running_mean for part in parts] + [part.running_var for part in parts]
    dtype = running[0].dtype
    new = [*torch.split(mean.to(dtype), sizes), *torch.split(unbiased.to(dtype), sizes)]
    torch._foreach_lerp_(running, new, parts[0].momentum)


class _Normalise(torch.autograd.Function):
    """``[relu](weight (x - mean) scale + bias [+ residual])`` whose mean and scale depend on the rows of all
    ranks."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        statistics: Statistics,
        comm: Comm,
        relu: bool,
    ) -> Tensor:
        dtype = _accumulator(x.dtype)
        added = None if residual is None else residual.to(dtype)
        out = passes.normalise(x.to(dtype), added, *statistics.line(weight, bias), relu).to(x.dtype)
        ctx.save_for_backward(x, out if relu else None, weight, *statistics)
        ctx.comm = comm
        ctx.residual_dtype = None if residual is None else residual.dtype
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, out, weight, *statistics = ctx.saved_tensors
        mean, channels = statistics[0], x.shape[-1]
        grad, rows = (y.to(mean.dtype).reshape(-1, channels) for y in (gradients[0], x))
        positive = None if out is None else out.to(mean.dtype).reshape(-1, channels)
        # Sums over this rank's rows: of the gradient, and of the gradient times the centred input.
        sums = passes.gradient_sums(grad, positive, rows, mean)
        line = slope(sums, weight, Statistics(*statistics), ctx.comm)
        wanted = ctx.residual_dtype is not None
        grad_x, kept = passes.normalise_backward(grad, positive, rows, line.a, line.b, line.c, keep=wanted)
        grad_residual = None if kept is None else kept.view(x.shape).to(ctx.residual_dtype)
        return grad_x.view(x.shape).to(x.dtype), line.weight, line.bias, grad_residual, None, None, None
