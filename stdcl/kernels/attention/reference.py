"""The attention among the joints of a frame in PyTorch operations. Letters and arguments are the interface's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stdcl.kernels.check import recording

# A chunk's attention maps of all heads stay in the cache of a CPU core; a GPU takes all frames at once.
FRAMES_AT_ONCE = 128


class Attend(torch.autograd.Function):
    """From q, k, v, e to the heads' mixed values, a chunk of frames at a time.

    The hop term is one product of q with the table of distances, spread over the pairs afterwards; e is added to k.
    """

    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        e: Tensor,
        rpe: Tensor,
        w1: Tensor,
        alpha: Tensor,
        outer: Tensor,
        groups: Tensor,
        distances: Tensor,
    ) -> Tensor:
        frames, v, _ = qkv.shape
        heads, width = w1.shape
        row = heads * width
        # For each pair (u, w) its place in u's row of a (V, J) table.
        hops = (torch.arange(v, device=qkv.device)[:, None] * len(rpe) + distances).flatten()
        whole = recording()
        step = frames if whole else FRAMES_AT_ONCE if qkv.device.type == "cpu" else max(frames, 1)
        table = rpe.view(-1, heads, width).transpose(0, 1)
        out = qkv.new_empty((frames, v, row))
        saved: list[Tensor] = []
        for start in (0,) if whole else range(0, frames, step):
            part = qkv[start : start + step]
            count = part.shape[0]
            e_part = e[start : start + step]
            key = e_part.index_select(1, groups).add_(part[..., row : 2 * row])  # whole rows: before the heads part
            q, k, value, e_heads = (
                _by_head(y, heads).contiguous() for y in (part[..., :row], key, part[..., 2 * row :], e_part)
            )
            scores = _spread(torch.bmm(q.view(heads, -1, width), table.transpose(1, 2)), hops, v)
            of_key = torch.bmm(e_heads.view(heads, -1, width), w1[:, :, None]).view(heads, count, -1)
            scores.view(heads, count, v, v).add_(of_key.index_select(2, groups)[:, :, None])
            scores.baddbmm_(_flat(q), _flat(k).transpose(1, 2))
            shares = torch.softmax(scores, dim=-1)
            mixed = torch.bmm(_combine(shares, alpha, outer), _flat(value)).view(heads, count, v, width)
            _by_head(out[start : start + step], heads).copy_(mixed)
            saved += [q, k, value, e_heads, shares]
        ctx.save_for_backward(rpe, w1, alpha, outer, groups, hops, *saved)
        ctx.step = step
        ctx.num_groups = e.shape[1]
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        rpe, w1, alpha, outer, groups, hops, *saved = ctx.saved_tensors
        grad_out = gradients[0]
        frames, v, row = grad_out.shape
        heads, width = w1.shape
        num_groups = ctx.num_groups
        table = rpe.view(-1, heads, width).transpose(0, 1)
        spread = torch.nn.functional.one_hot(groups, num_groups).to(grad_out.dtype)
        grad_qkv = torch.empty((frames, v, 3 * row), dtype=grad_out.dtype, device=grad_out.device)
        grad_e = grad_qkv.new_empty((frames, num_groups, row))
        grad_table = torch.zeros_like(table, memory_format=torch.contiguous_format)
        grad_w1 = torch.zeros_like(w1)
        grad_alpha = torch.zeros_like(alpha)
        grad_outer = torch.zeros_like(outer)
        for index, start in enumerate(range(0, frames, ctx.step)):
            q, k, value, e_heads, shares = saved[5 * index : 5 * index + 5]
            grad = grad_out[start : start + ctx.step]
            count = grad.shape[0]
            grad = _flat(_by_head(grad, heads).contiguous())
            grad_value = torch.bmm(_combine(shares, alpha, outer).transpose(1, 2), grad)
            grad_mixing = torch.bmm(grad, _flat(value).transpose(1, 2))
            grad_outer += grad_mixing.view(heads, count, v, v).sum(1)
            grad_alpha += torch.dot(grad_mixing.view(-1), shares.view(-1))
            grad_scores = torch._softmax_backward_data(grad_mixing, shares, -1, shares.dtype).mul_(alpha)
            grad_k = torch.bmm(grad_scores.transpose(1, 2), _flat(q))
            grad_q = torch.bmm(grad_scores, _flat(k))
            by_distance = _gather(grad_scores, hops, v, table.shape[1]).view(heads, count * v, -1)
            grad_q.view(heads, -1, width).baddbmm_(by_distance, table)
            grad_table += torch.bmm(by_distance.transpose(1, 2), q.view(heads, -1, width))
            of_key = grad_scores.sum(1) @ spread
            of_key = of_key.view(heads, count * num_groups, 1)
            grad_w1 += torch.bmm(e_heads.view(heads, -1, width).transpose(1, 2), of_key)[:, :, 0]
            into = torch.split(grad_qkv[start : start + ctx.step], row, dim=-1)
            _by_head(into[0], heads).copy_(grad_q.view_as(q))
            _by_head(into[1], heads).copy_(grad_k.view_as(k))
            _by_head(into[2], heads).copy_(grad_value.view_as(value))
            into_e = grad_e[start : start + ctx.step]
            torch.matmul(spread.t(), into[1], out=into_e)
            into_e.view(-1, heads, width).addcmul_(of_key.view(heads, -1).t()[:, :, None], w1)
        grad_rpe = grad_table.transpose(0, 1).reshape_as(rpe)
        return grad_qkv, grad_e, grad_rpe, grad_w1, grad_alpha, grad_outer, None, None


def _by_head(x: Tensor, heads: int) -> Tensor:
    """View (F, V, H D) as (H, F, V, D)."""
    return x.view(*x.shape[:2], heads, x.shape[2] // heads).permute(2, 0, 1, 3)


def _flat(x: Tensor) -> Tensor:
    """(H, F, V, ...) to (H F, V, ...)."""
    return x.flatten(0, 1)


def _combine(shares: Tensor, alpha: Tensor, outer: Tensor) -> Tensor:
    """``alpha shares + outer``: (H F, V, V) and (H, V, V)."""
    heads, v, _ = outer.shape
    return torch.addcmul(outer[:, None], shares.view(heads, -1, v, v), alpha).view_as(shares)


def _spread(by_distance: Tensor, hops: Tensor, v: int) -> Tensor:
    """One value per joint and distance, (H, F V, J), to one per pair of joints, (H F, V, V)."""
    rows = by_distance.view(-1, v * by_distance.shape[-1])
    return rows.index_select(1, hops).view(-1, v, v)


def _gather(by_pair: Tensor, hops: Tensor, v: int, distances: int) -> Tensor:
    """The transpose of `_spread`: sums (H F, V, V) into (H F, V J)."""
    pairs = by_pair.view(-1, v * v)
    sums = pairs.new_zeros((pairs.shape[0], v * distances))
    return sums.scatter_add_(1, hops.expand_as(pairs), pairs)
