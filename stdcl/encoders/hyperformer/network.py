"""Hyperformer: attention among the joints of a frame that knows the skeleton and its joint groups (Zhou et al., 2022).

Inside, tensors are channels-last with frames first, (B, T, V, C) with B = N M: a frame's joints lie together, as the
attention needs them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stdcl.compiled import attention
from stdcl.encoders.base import Encoder, EncoderOutput, Layout
from stdcl.encoders.framewise import InputNorm, Projection, as_map, pool
from stdcl.encoders.layers import Pointwise, convolve
from stdcl.encoders.temporal import MultiScale
from stdcl.errors import UserError, nearest
from stdcl.skeleton import hop_distance
from stdcl.taps import block_tap

WIDTH = 216
HEADS = 9
HEAD_WIDTH = WIDTH // HEADS
GROUPS = 6
# (channels in, stride over frames) of the ten blocks.
PLAN: tuple[tuple[int, int], ...] = ((3, 1), *[(WIDTH, 2 if block in (5, 8) else 1) for block in range(2, 11)])
TIME_AXIS = 1
# A chunk's attention maps of all heads stay in the cache of a CPU core; a GPU takes all frames at once.
FRAMES_AT_ONCE = 128


class Topology(NamedTuple):
    """What attention knows of the skeleton. V joints, G joint groups.

    Attributes:
        groups: (V,) int64, the group of each joint.
        mean: (G, V), the matrix that takes the mean over each group.
        distances: (V, V) int64, hops between two joints; J is their largest plus one.
    """

    groups: Tensor
    mean: Tensor
    distances: Tensor


class Attention(nn.Module):
    """Hypergraph self-attention among the joints of one frame, and the grouped projection of its result.

    With q, k, v maps of the normalised input, e the map of the mean of a joint's group, r a vector a hop distance, and
    w1 one a head: ``score[u, w] = (q_u . (k_w + e_w + r_hop(u, w)) + w1 . e_w) / sqrt(24)``, and joint u receives
    ``sum_w (alpha softmax_w(score) + outer)[u, w] v_w`` of each head.
    """

    def __init__(self, channels_in: int, num_joints: int, num_distances: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(channels_in)
        self.q = Pointwise(channels_in, WIDTH, bias=False)
        self.kv = Pointwise(channels_in, 2 * WIDTH, bias=False)
        self.e = Pointwise(channels_in, WIDTH, bias=False)
        self.proj = nn.Conv2d(WIDTH, WIDTH, 1, groups=GROUPS)
        self.rpe = nn.Parameter(torch.zeros(num_distances, WIDTH))
        self.w1 = nn.Parameter(torch.zeros(HEADS, HEAD_WIDTH))
        self.alpha = nn.Parameter(torch.zeros(1))
        self.outer = nn.Parameter(torch.eye(num_joints).repeat(HEADS, 1, 1))

    def forward(self, x: Tensor, topology: Topology) -> Tensor:
        """Map (B, T, V, Cin) to (B, T, V, 216)."""
        b, t, v, _ = x.shape
        scale = HEAD_WIDTH**-0.5  # on the small weights rather than on the scores
        weight = torch.cat([self.q.weight * scale, self.kv.weight])
        qkv = convolve(self.ln(x), weight, None)
        e = self.e(torch.matmul(topology.mean, x))
        with torch.autocast(x.device.type, enabled=False):
            dtype = self.outer.dtype
            qkv = qkv.to(dtype).reshape(b * t, v, 3 * WIDTH)
            mix = _CompiledMix if attention.usable(qkv, self.rpe) else _Mix
            mixed: Tensor = mix.apply(  # type: ignore[no-untyped-call]
                qkv,
                e.to(dtype).reshape(b * t, e.shape[2], WIDTH),
                self.rpe,
                self.w1 * scale,
                self.alpha,
                self.outer,
                topology.groups,
                topology.distances,
            )
        projected: Tensor = self.proj(mixed.view(b, t, v, WIDTH).permute(0, 3, 1, 2))
        return projected.permute(0, 2, 3, 1)


class _CompiledMix(torch.autograd.Function):
    """As `_Mix`, by the kernel."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        out, shares = attention.forward(*arguments)
        ctx.save_for_backward(*arguments, shares)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        qkv, e, rpe, w1, alpha, outer, groups, distances, shares = ctx.saved_tensors
        found = attention.backward(qkv, e, rpe, w1, alpha, outer, groups, distances, shares, gradients[0])
        return *found, None, None


class _Mix(torch.autograd.Function):
    """From q, k, v, e to the heads' mixed values, a chunk of frames at a time.

    qkv (F, V, 3 * 216), e (F, G, 216), rpe (J, 216), w1 (9, 24), alpha (1,), outer (9, V, V) -> (F, V, 216); q and w1
    carry the factor 1/sqrt(24). The hop term is one product of q with the table of distances, spread over the pairs
    afterwards; e is added to k.
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
        # For each pair (u, w) its place in u's row of a (V, J) table.
        hops = (torch.arange(v, device=qkv.device)[:, None] * len(rpe) + distances).flatten()
        step = FRAMES_AT_ONCE if qkv.device.type == "cpu" else max(frames, 1)
        table = rpe.view(-1, HEADS, HEAD_WIDTH).transpose(0, 1)
        out = qkv.new_empty((frames, v, WIDTH))
        saved: list[Tensor] = []
        for start in range(0, frames, step):
            part = qkv[start : start + step]
            count = part.shape[0]
            e_part = e[start : start + step]
            key = e_part.index_select(1, groups).add_(part[..., WIDTH : 2 * WIDTH])  # whole rows: before the heads part
            q, k, value, e_heads = (
                _by_head(y).contiguous() for y in (part[..., :WIDTH], key, part[..., 2 * WIDTH :], e_part)
            )
            scores = _spread(torch.bmm(q.view(HEADS, -1, HEAD_WIDTH), table.transpose(1, 2)), hops, v)
            of_key = torch.bmm(e_heads.view(HEADS, -1, HEAD_WIDTH), w1[:, :, None]).view(HEADS, count, -1)
            scores.view(HEADS, count, v, v).add_(of_key.index_select(2, groups)[:, :, None])
            scores.baddbmm_(_flat(q), _flat(k).transpose(1, 2))
            shares = torch.softmax(scores, dim=-1)
            mixed = torch.bmm(_combine(shares, alpha, outer), _flat(value)).view(HEADS, count, v, HEAD_WIDTH)
            _by_head(out[start : start + step]).copy_(mixed)
            saved += [q, k, value, e_heads, shares]
        ctx.save_for_backward(rpe, w1, alpha, outer, groups, hops, *saved)
        ctx.step = step
        ctx.num_groups = e.shape[1]
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        rpe, w1, alpha, outer, groups, hops, *saved = ctx.saved_tensors
        grad_out = gradients[0]
        frames, v, _ = grad_out.shape
        num_groups = ctx.num_groups
        table = rpe.view(-1, HEADS, HEAD_WIDTH).transpose(0, 1)
        spread = torch.nn.functional.one_hot(groups, num_groups).to(grad_out.dtype)
        grad_qkv = torch.empty((frames, v, 3 * WIDTH), dtype=grad_out.dtype, device=grad_out.device)
        grad_e = grad_qkv.new_empty((frames, num_groups, WIDTH))
        grad_table = torch.zeros_like(table, memory_format=torch.contiguous_format)
        grad_w1 = torch.zeros_like(w1)
        grad_alpha = torch.zeros_like(alpha)
        grad_outer = torch.zeros_like(outer)
        for index, start in enumerate(range(0, frames, ctx.step)):
            q, k, value, e_heads, shares = saved[5 * index : 5 * index + 5]
            grad = grad_out[start : start + ctx.step]
            count = grad.shape[0]
            grad = _flat(_by_head(grad).contiguous())
            grad_value = torch.bmm(_combine(shares, alpha, outer).transpose(1, 2), grad)
            grad_mixing = torch.bmm(grad, _flat(value).transpose(1, 2))
            grad_outer += grad_mixing.view(HEADS, count, v, v).sum(1)
            grad_alpha += torch.dot(grad_mixing.view(-1), shares.view(-1))
            grad_scores = torch._softmax_backward_data(grad_mixing, shares, -1, shares.dtype).mul_(alpha)
            grad_k = torch.bmm(grad_scores.transpose(1, 2), _flat(q))
            grad_q = torch.bmm(grad_scores, _flat(k))
            by_distance = _gather(grad_scores, hops, v, table.shape[1]).view(HEADS, count * v, -1)
            grad_q.view(HEADS, -1, HEAD_WIDTH).baddbmm_(by_distance, table)
            grad_table += torch.bmm(by_distance.transpose(1, 2), q.view(HEADS, -1, HEAD_WIDTH))
            of_key = grad_scores.sum(1) @ spread
            of_key = of_key.view(HEADS, count * num_groups, 1)
            grad_w1 += torch.bmm(e_heads.view(HEADS, -1, HEAD_WIDTH).transpose(1, 2), of_key)[:, :, 0]
            into = torch.split(grad_qkv[start : start + ctx.step], WIDTH, dim=-1)
            _by_head(into[0]).copy_(grad_q.view_as(q))
            _by_head(into[1]).copy_(grad_k.view_as(k))
            _by_head(into[2]).copy_(grad_value.view_as(value))
            into_e = grad_e[start : start + ctx.step]
            torch.matmul(spread.t(), into[1], out=into_e)
            into_e.view(-1, HEADS, HEAD_WIDTH).addcmul_(of_key.view(HEADS, -1).t()[:, :, None], w1)
        grad_rpe = grad_table.transpose(0, 1).reshape_as(rpe)
        return grad_qkv, grad_e, grad_rpe, grad_w1, grad_alpha, grad_outer, None, None


def _by_head(x: Tensor) -> Tensor:
    """View (F, V, 216) as (9, F, V, 24)."""
    return x.view(*x.shape[:2], HEADS, HEAD_WIDTH).permute(2, 0, 1, 3)


def _flat(x: Tensor) -> Tensor:
    """(9, F, V, ...) to (9 F, V, ...)."""
    return x.flatten(0, 1)


def _combine(shares: Tensor, alpha: Tensor, outer: Tensor) -> Tensor:
    """``alpha shares + outer``: (9 F, V, V) and (9, V, V)."""
    v = outer.shape[-1]
    return torch.addcmul(outer[:, None], shares.view(HEADS, -1, v, v), alpha).view_as(shares)


def _spread(by_distance: Tensor, hops: Tensor, v: int) -> Tensor:
    """One value a joint and distance, (9, F V, J), to one a pair of joints, (9 F, V, V)."""
    rows = by_distance.view(-1, v * by_distance.shape[-1])
    return rows.index_select(1, hops).view(-1, v, v)


def _gather(by_pair: Tensor, hops: Tensor, v: int, distances: int) -> Tensor:
    """The transpose of `_spread`: sums (9 F, V, V) into (9 F, V J)."""
    pairs = by_pair.view(-1, v * v)
    sums = pairs.new_zeros((pairs.shape[0], v * distances))
    return sums.scatter_add_(1, hops.expand_as(pairs), pairs)


class Block(nn.Module):
    """``ReLU(tcn(att(x) + skip(x)) + res(x))``."""

    def __init__(self, channels_in: int, stride: int, num_joints: int, num_distances: int) -> None:
        super().__init__()
        changes = channels_in != WIDTH
        self.att = Attention(channels_in, num_joints, num_distances)
        self.skip = Pointwise(channels_in, WIDTH, bias=False) if changes else None
        self.tcn = MultiScale(WIDTH, WIDTH, stride, TIME_AXIS)
        self.res = Projection(channels_in, WIDTH, stride) if changes or stride > 1 else None

    def forward(self, x: Tensor, topology: Topology) -> Tensor:
        """Map (B, T, V, Cin) to (B, T', V, 216)."""
        mixed = self.att(x, topology) + (x if self.skip is None else self.skip(x))
        out: Tensor = self.tcn(mixed, x if self.res is None else self.res(x), relu=True)
        return out


class Hyperformer(Encoder):
    """Hyperformer for ``layout``: ten blocks of width 216.

    Parameter names: ``in_bn``, ``b1`` ... ``b10`` with ``att`` (``ln``, ``q``, ``kv``, ``e``, ``rpe``, ``w1``,
    ``alpha``, ``outer``, ``proj``), ``skip`` (block 1), ``tcn``, ``res`` (blocks 1, 5, 8), then ``fc``.

    Args:
        layout: shape of the sequences.
        hyperedges: which of the skeleton's joint groupings to use.

    Raises:
        UserError: if the skeleton has no such grouping.
    """

    offered_taps = tuple(block_tap(index) for index, _ in enumerate(PLAN, start=1))

    groups: Tensor
    group_mean: Tensor
    distances: Tensor

    def __init__(self, layout: Layout, *, hyperedges: str = "default") -> None:
        super().__init__(layout)
        skeleton = layout.skeleton
        if hyperedges not in skeleton.hyperedges:
            known = ", ".join(sorted(skeleton.hyperedges)) or "none"
            raise UserError(
                f"encoder.hyperedges is '{hyperedges}', which skeleton '{skeleton.name}' does not have; it has: {known}"
                f"{nearest(hyperedges, skeleton.hyperedges)}"
            )
        groups = torch.tensor(skeleton.hyperedges[hyperedges])
        distance = torch.from_numpy(hop_distance(skeleton.graph_parents))
        num_distances = int(distance.max()) + 1
        member = F.one_hot(groups).t().to(torch.get_default_dtype())
        self.register_buffer("groups", groups, persistent=False)
        self.register_buffer("group_mean", member / member.sum(1, keepdim=True), persistent=False)
        self.register_buffer("distances", distance.to(torch.int64), persistent=False)
        self.in_bn = InputNorm(layout.num_persons, layout.num_joints)
        for index, (channels_in, stride) in enumerate(PLAN, start=1):
            self.add_module(f"b{index}", Block(channels_in, stride, layout.num_joints, num_distances))
        self.fc = nn.Linear(WIDTH, layout.num_classes)
        nn.init.normal_(self.fc.weight, 0.0, math.sqrt(2.0 / layout.num_classes))

    @property
    def blocks(self) -> list[Block]:
        """The ten blocks in order."""
        return [block for block in self.children() if isinstance(block, Block)]

    def forward(self, x: Tensor, *, keys: Tensor | None = None, labels: Tensor | None = None) -> EncoderOutput:
        self.check_input(x)
        topology = Topology(self.groups, self.group_mean, self.distances)
        taps: dict[str, Tensor] = {}
        features = self.in_bn(x)
        for index, block in enumerate(self.blocks, start=1):
            features = block(features, topology)
            if block_tap(index) in self.wanted_taps:
                taps[block_tap(index)] = as_map(features, self.layout.num_persons)
        feature_map, pooled = pool(features, self.layout.num_persons)
        return EncoderOutput(self.fc(pooled), feature_map, pooled, taps)
