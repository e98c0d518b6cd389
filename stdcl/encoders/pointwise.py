"""1x1 convolutions of channels-last tensors: the one place that chooses which library computes them.

On a CPU, PyTorch's matrix products are MKL's or OpenBLAS's, its convolutions oneDNN's. On an Intel processor the
product is faster, above all in the backward pass. On one by AMD, MKL does not use AVX-512 and oneDNN does, so the
convolution is.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from stdcl.kernels.check import tracing
from stdcl.parallel.comm import Comm

LANES = 16
"""Numbers of a vector."""
NARROW = 4 * LANES
"""Results of fewer channels than this are not faster by convolution."""


def favours_convolutions(cpuinfo: str, has_mkl: bool, has_onednn: bool) -> bool:
    """Return whether a 1x1 convolution is faster than the product.

    Args:
        cpuinfo: what Linux says of the processor, the text of ``/proc/cpuinfo``; "" elsewhere.
        has_mkl: whether products are MKL's.
        has_onednn: whether convolutions are oneDNN's.
    """
    return has_mkl and has_onednn and "AuthenticAMD" in cpuinfo and "avx512f" in cpuinfo.split()


def choose_together(comm: Comm, device: torch.device) -> bool:
    """Choose for this process as all ranks of its run do: convolutions where every rank's processor favours them.

    Until this is called, a process follows its own processor. Results differ by rounding only.

    Args:
        comm: the ranks.
        device: on which they communicate.
    """
    global _by_convolution
    own = torch.tensor(float(_favours_here()), device=device)
    _by_convolution = bool(comm.all_reduce(own, "min"))
    return _by_convolution


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Map the channels of ``x`` (B, P, Q, Cin) by ``weight`` (Cout, Cin) and ``bias`` (Cout,) to (B, P, Q, Cout)."""
    if not _convolves(x, weight):
        return linear(x, weight, bias)
    y: Tensor = _Convolution.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return y


def _convolves(x: Tensor, weight: Tensor) -> bool:
    by_convolution = _favours_here() if _by_convolution is None else _by_convolution
    return (
        by_convolution
        and not tracing()
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() > 0
        and len(weight) >= NARROW
        and not torch.is_autocast_enabled("cpu")
    )


class _Convolution(torch.autograd.Function):
    """The same as `linear`. Each gradient comes from the library that is faster at it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return torch.conv2d(x.permute(0, 3, 1, 2), weight[:, :, None, None], bias).permute(0, 2, 3, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, weight = ctx.saved_tensors
        grad = gradients[0].contiguous()
        rows = grad.view(-1, len(weight))
        # Where channels fill no whole vectors, oneDNN's gradient of the weight is slower than a product.
        whole = all(size % LANES == 0 for size in weight.shape)
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad.permute(0, 3, 1, 2),
            x.permute(0, 3, 1, 2),
            weight[:, :, None, None],
            bias_sizes=None,
            stride=[1, 1],
            padding=[0, 0],
            dilation=[1, 1],
            transposed=False,
            output_padding=[0, 0],
            groups=1,
            output_mask=[ctx.needs_input_grad[0], whole, False],
        )
        return (
            None if grad_x is None else grad_x.permute(0, 2, 3, 1),
            grad_weight[:, :, 0, 0] if whole else rows.t() @ x.reshape(-1, x.shape[-1]),
            rows.sum(dim=0) if ctx.has_bias else None,
        )


_by_convolution: bool | None = None


@cache
def _favours_here() -> bool:
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        cpuinfo = ""
    has_mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return favours_convolutions(cpuinfo, has_mkl, has_onednn)
