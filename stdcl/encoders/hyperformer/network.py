"""Hyperformer: attention among the joints of a frame that knows the skeleton and its joint groups (Zhou et al., 2022).

Inside, tensors are channels-last with frames first, (B, T, V, C) with B = N M: a frame's joints lie together, as the
attention needs them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stdcl.encoders.base import Encoder, EncoderOutput, Layout
from stdcl.encoders.framewise import InputNorm, Projection, as_map, pool
from stdcl.encoders.layers import Pointwise, convolve
from stdcl.encoders.precision import own_precision
from stdcl.encoders.temporal import MultiScale
from stdcl.errors import UserError, nearest
from stdcl.kernels.attention import attend
from stdcl.skeleton import hop_distance
from stdcl.taps import block_tap

WIDTH = 216
HEADS = 9
HEAD_WIDTH = WIDTH // HEADS
GROUPS = 6
# (channels in, stride over frames) of the ten blocks.
PLAN: tuple[tuple[int, int], ...] = ((3, 1), *[(WIDTH, 2 if block in (5, 8) else 1) for block in range(2, 11)])
TIME_AXIS = 1


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
    w1 one per head: ``score[u, w] = (q_u . (k_w + e_w + r_hop(u, w)) + w1 . e_w) / sqrt(24)``, and joint u receives
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
        with own_precision(x):
            dtype = self.outer.dtype
            qkv = qkv.to(dtype).reshape(b * t, v, 3 * WIDTH)
            mixed = attend(
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
