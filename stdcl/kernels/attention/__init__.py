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
from stdcl.kernels.check import check, check_axes, check_indices
from stdcl.kernels.choice import kernel_for, operator
from stdcl.kernels.extension import avx512_extension, run

_kernel = avx512_extension("stdcl.kernels.attention._kernel")


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

    Raises:
        ValueError: if a shape does not fit.
        TypeError: if types or devices do not fit.
        IndexError: if a group or distance is out of range.
    """
    _check(qkv, e, rpe, w1, alpha, outer, groups, hops)
    way = _Attend if _takes(qkv, e, rpe, w1, alpha, outer) else reference.Attend
    mixed: Tensor = way.apply(qkv, e, rpe, w1, alpha, outer, groups, hops)  # type: ignore[no-untyped-call]
    return mixed


class _Attend(torch.autograd.Function):
    """`attend` by the kernel."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        out, shares = _forward(*arguments)
        ctx.save_for_backward(*arguments, shares)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        qkv, e, rpe, w1, alpha, outer, groups, hops, shares = ctx.saved_tensors
        grad_qkv, grad_e, sums = _backward(qkv, e, rpe, w1, alpha, outer, groups, hops, shares, gradients[0])
        of_rpe, of_w1, of_outer, of_alpha = torch.split(sums.sum(0), _parts(rpe, w1, outer))
        found = (of_rpe.view_as(rpe), of_w1.view_as(w1), of_alpha, of_outer.view_as(outer))
        return grad_qkv, grad_e, *found, None, None


def _check(
    qkv: Tensor, e: Tensor, rpe: Tensor, w1: Tensor, alpha: Tensor, outer: Tensor, groups: Tensor, hops: Tensor
) -> None:
    check_axes("attention", qkv=(qkv, 3), e=(e, 3), rpe=(rpe, 2), w1=(w1, 2))
    (frames, v, _), (heads, width) = qkv.shape, w1.shape
    row = heads * width
    check(
        "attention",
        qkv,
        ("qkv", qkv, (frames, v, 3 * row)),
        ("e", e, (frames, e.shape[1], row)),
        ("rpe", rpe, (len(rpe), row)),
        ("w1", w1, (heads, width)),
        ("alpha", alpha, (1,)),
        ("outer", outer, (heads, v, v)),
    )
    check_indices("attention", "groups", groups, (v,), e.shape[1])
    check_indices("attention", "hops", hops, (v, v), len(rpe))


def _takes(qkv: Tensor, e: Tensor, rpe: Tensor, *others: Tensor) -> bool:
    kernel = kernel_for(_kernel, qkv, e, rpe, *others)
    return kernel is not None and len(rpe) <= kernel.MOST_HOPS


def _fake_forward(
    qkv: Tensor, e: Tensor, rpe: Tensor, w1: Tensor, alpha: Tensor, outer: Tensor, groups: Tensor, hops: Tensor
) -> tuple[Tensor, Tensor]:
    frames, v, _ = qkv.shape
    return qkv.new_empty((frames, v, rpe.shape[1])), qkv.new_empty((frames, len(outer), v, v))


@operator("attention", _fake_forward)
def _forward(
    qkv: Tensor, e: Tensor, rpe: Tensor, w1: Tensor, alpha: Tensor, outer: Tensor, groups: Tensor, hops: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the mixed values (F, V, H D) and the attention (F, H, V, V)."""
    assert _kernel is not None
    made = _fake_forward(qkv, e, rpe, w1, alpha, outer, groups, hops)
    run(_kernel.forward, (rpe, w1, outer, *_shared(groups, hops), alpha, qkv, e), _sizes(qkv, e, rpe, w1), made)
    return made


def _fake_backward(
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
) -> tuple[Tensor, Tensor, Tensor]:
    assert _kernel is not None
    pieces = -(-len(qkv) // _kernel.PIECE)
    return qkv.new_empty(qkv.shape), e.new_empty(e.shape), qkv.new_empty((pieces, sum(_parts(rpe, w1, outer))))


@operator("attention_backward", _fake_backward)
def _backward(
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of qkv and e and, per piece of frames, those of rpe, w1, outer and alpha in one row.

    Args:
        qkv: as given to `_forward`, as all but the last two.
        attention: as it returned it.
        grad: (F, V, H D), the gradient of the mixed values.
    """
    assert _kernel is not None
    made = _fake_backward(qkv, e, rpe, w1, alpha, outer, groups, hops, attention, grad)
    given = (rpe, w1, outer, *_shared(groups, hops), alpha, qkv, e, attention, grad)
    run(_kernel.backward, given, _sizes(qkv, e, rpe, w1), made)
    return made


def _parts(rpe: Tensor, w1: Tensor, outer: Tensor) -> list[int]:
    return [rpe.numel(), w1.numel(), outer.numel(), 1]


def _shared(groups: Tensor, hops: Tensor) -> tuple[Tensor, Tensor]:
    """Return groups and hops as the kernel reads them: int32, hops in rows of whole vectors."""
    assert _kernel is not None
    v = len(groups)
    rows = torch.zeros((v, -(-v // _kernel.LANES) * _kernel.LANES), dtype=torch.int32)
    rows[:, :v] = hops
    return groups.to(torch.int32), rows


def _sizes(qkv: Tensor, e: Tensor, rpe: Tensor, w1: Tensor) -> tuple[int, ...]:
    return *qkv.shape[:2], e.shape[1], len(rpe), *w1.shape
