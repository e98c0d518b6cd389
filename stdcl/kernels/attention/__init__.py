"""Attention among the joints of a frame that knows the skeleton and its joint groups (Hyperformer, Zhou et al., 2022).

The kernel (``attention.c``) needs AVX-512. A frame is worked off at a time, all heads, in the first cache.

Letters: F frames, V joints, G joint groups, J hop distances, H heads of width D. With q, k, v the thirds of qkv, e_w
that of the group of joint w, and r_j a row of rpe: ``score[u, w] = q_u . (k_w + e_w + r_hop(u, w)) + w1 . e_w``, and
joint u receives ``sum_w (alpha softmax_w(score) + outer)[u, w] v_w`` of each head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stdcl.kernels.attention import reference
from stdcl.kernels.extension import avx512_extension, takes

_kernel = avx512_extension("stdcl.kernels.attention._kernel")

_MOST_HOPS = 16  # a vector's lanes
_PIECE = 32  # frames whose sums are kept together, as in attention.c


def attend(
    qkv: Tensor, e: Tensor, rpe: Tensor, w1: Tensor, alpha: Tensor, outer: Tensor, groups: Tensor, hops: Tensor
) -> Tensor:
    """Return the heads' mixed values (F, V, H D), differentiable in the first six arguments.

    Args:
        qkv: (F, V, 3 H D).
        e: (F, G, H D).
        rpe: (J, H D).
        w1: (H, D).
        alpha: (1,).
        outer: (H, V, V).
        groups: (V,) int64, the group of each joint.
        hops: (V, V) int64, distances.
    """
    way = _Attend if _usable(qkv, rpe) else reference.Attend
    mixed: Tensor = way.apply(qkv, e, rpe, w1, alpha, outer, groups, hops)  # type: ignore[no-untyped-call]
    return mixed


def _usable(qkv: Tensor, rpe: Tensor) -> bool:
    """Return whether the kernel was built, this processor can run it, and it takes these tensors."""
    return _kernel is not None and takes(qkv, rpe) and len(rpe) <= _MOST_HOPS


class _Attend(torch.autograd.Function):
    """`attend` by the kernel."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        out, shares = forward(*arguments)
        ctx.save_for_backward(*arguments, shares)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        qkv, e, rpe, w1, alpha, outer, groups, hops, shares = ctx.saved_tensors
        found = backward(qkv, e, rpe, w1, alpha, outer, groups, hops, shares, gradients[0])
        return *found, None, None


def forward(
    qkv: Tensor, e: Tensor, rpe: Tensor, w1: Tensor, alpha: Tensor, outer: Tensor, groups: Tensor, hops: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the mixed values (F, V, H D) and the attention (F, H, V, V)."""
    assert _kernel is not None
    frames, v, _ = qkv.shape
    shared, kept = _shared(qkv, e, rpe, w1, alpha, outer, groups, hops)
    qkv, e = qkv.contiguous(), e.contiguous()
    out, attention = qkv.new_empty((frames, v, rpe.shape[1])), qkv.new_empty((frames, len(outer), v, v))
    _kernel.forward(
        *shared, qkv.data_ptr(), e.data_ptr(), torch.get_num_threads(), attention.data_ptr(), out.data_ptr()
    )
    del kept
    return out, attention


def backward(
    qkv: Tensor,
    e: Tensor,
    rpe: Tensor,
    w1: Tensor,
    alpha: Tensor,
    outer: Tensor,
    groups: Tensor,
    hops: Tensor,
    attention: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of qkv, e, rpe, w1, alpha and outer.

    Args:
        qkv: as given to `forward`, as all but the last two.
        attention: as it returned it.
        grad: (F, V, H D), the gradient of the mixed values.
    """
    assert _kernel is not None
    shared, kept = _shared(qkv, e, rpe, w1, alpha, outer, groups, hops)
    qkv, e, grad = qkv.contiguous(), e.contiguous(), grad.contiguous()
    grad_qkv, grad_e = torch.empty_like(qkv), torch.empty_like(e)
    parts = [rpe.numel(), w1.numel(), outer.numel(), 1]
    sums = qkv.new_empty((-(-len(qkv) // _PIECE), sum(parts)))
    _kernel.backward(
        *shared,
        qkv.data_ptr(),
        e.data_ptr(),
        attention.data_ptr(),
        grad.data_ptr(),
        torch.get_num_threads(),
        grad_qkv.data_ptr(),
        grad_e.data_ptr(),
        sums.data_ptr(),
    )
    del kept
    of_rpe, of_w1, of_outer, of_alpha = torch.split(sums.sum(0), parts)
    return grad_qkv, grad_e, of_rpe.view_as(rpe), of_w1.view_as(w1), of_alpha, of_outer.view_as(outer)


def _shared(
    qkv: Tensor, e: Tensor, rpe: Tensor, w1: Tensor, alpha: Tensor, outer: Tensor, groups: Tensor, hops: Tensor
) -> tuple[tuple[object, ...], tuple[Tensor, ...]]:
    """Return what both kernels are given first, and the tensors whose memory that names."""
    frames, v, _ = qkv.shape
    rows = torch.zeros((v, -(-v // 16) * 16), dtype=torch.int32)
    rows[:, :v] = hops
    kept = (rpe.contiguous(), w1.contiguous(), outer.contiguous(), groups.to(torch.int32), rows)
    sizes = (frames, v, e.shape[1], len(rpe), len(outer), w1.shape[1])
    return (*(x.data_ptr() for x in kept), float(alpha.detach()), sizes), kept
