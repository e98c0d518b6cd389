"""ProtoGCN's network: "Motion Topology Enhancement" (Liu et al., CVPR 2025), then six branches over time.

Its public code stands on PYSKL's: wide blocks (96, 192, 384 channels) and a graph that is learned from noise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stdcl.encoders.base import Layout
from stdcl.encoders.graph import TIME_AXIS, Block, GraphEncoder, Projection
from stdcl.encoders.layers import Pointwise, TimeConv, bias_of, convolve, init_default
from stdcl.encoders.precision import own_precision
from stdcl.parallel.batch_norm import BatchNorm, normalise
from stdcl.taps import GRAPH

NUM_SUBSETS = 8
PLAN: tuple[tuple[int, int, int], ...] = (
    (3, 96, 1),
    (96, 96, 1),
    (96, 96, 1),
    (96, 96, 1),
    (96, 192, 2),
    (192, 192, 1),
    (192, 192, 1),
    (192, 384, 2),
    (384, 384, 1),
    (384, 384, 1),
)


class MotionTopology(nn.Module):
    """The spatial part of a block (paper, "Motion Topology Enhancement"; as its public code).

    With q, k the time means of two 1x1 convolutions and the C channels in eight groups, channel c of group s has the
    graph ``G[v, w] = alpha tanh(q_v - k_w)_c + beta I_s[v, w] + A_s[v, w]``, where I_s is the softmax over v of the sum
    of ``q_v k_w`` over the group's channels; joint w receives ``sum_v G[v, w] pre(x)_v``; then a
    1x1 convolution and ``ReLU(BN(.) + shortcut(x))``.
    """

    def __init__(self, channels_in: int, channels_out: int, joints: int) -> None:
        super().__init__()
        if channels_out % NUM_SUBSETS:
            raise ValueError(f"channels_out is {channels_out}; the graphs need a multiple of {NUM_SUBSETS}")
        self.A = nn.Parameter(torch.randn(NUM_SUBSETS, joints, joints) * 0.02 + 0.04)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.beta = nn.Parameter(torch.zeros(1))
        self.q = Pointwise(channels_in, channels_out)
        self.k = Pointwise(channels_in, channels_out)
        self.pre = Pointwise(channels_in, channels_out)
        self.pre_bn = BatchNorm(channels_out)
        self.post = Pointwise(channels_out, channels_out)
        self.bn = BatchNorm(channels_out)
        self.down = None if channels_in == channels_out else _projection(channels_in, channels_out)

    def forward(self, x: Tensor, taps: dict[str, Tensor] | None = None) -> Tensor:
        """Map (B, V, T, Cin) to (B, V, T, C); put the graphs without A (B, C, V, V) into ``taps``, if given."""
        motion = self._motion(x)
        if taps is not None:
            taps[GRAPH] = motion
        graphs = motion + self.A.repeat_interleave(motion.shape[1] // NUM_SUBSETS, dim=0)
        sent = self.pre_bn(self.pre(x), relu=True)
        received = torch.matmul(sent.permute(0, 3, 2, 1), graphs.to(sent.dtype)).permute(0, 3, 2, 1)
        shortcut = x if self.down is None else self.down(x)
        out: Tensor = self.bn(self.post(received), shortcut, relu=True)
        return out

    def _motion(self, x: Tensor) -> Tensor:
        with own_precision(x):
            mean = x.mean(dim=TIME_AXIS, keepdim=True, dtype=self.A.dtype)  # before the convolutions: they are linear
            q, k = (convolve(mean, layer.weight, bias_of(layer))[:, :, 0] for layer in (self.q, self.k))  # (B, V, C)
            inter = torch.tanh(q[:, :, None] - k[:, None]).permute(0, 3, 1, 2)
            width = q.shape[2] // NUM_SUBSETS
            # (B, S, V, C/S)
            first, second = (torch.unflatten(each, 2, (NUM_SUBSETS, width)).transpose(1, 2) for each in (q, k))
            intra = torch.softmax(first @ second.transpose(2, 3), dim=-2)
            return self.alpha * inter + self.beta * intra.repeat_interleave(width, dim=1)


class SixBranches(nn.Module):
    """The temporal part (PYSKL's dynamic-group multi-scale block): six branches of C/6 channels each.

    The first four: 1x1 - BN - ReLU - 3-frame convolution of dilation 1 to 4; then 1x1 - BN - ReLU - max-pool over 3
    frames; then 1x1. The mean over joints passes the branches as one joint more, and is added to each joint with its
    learned weight; then BN - ReLU - 1x1 - BN.
    """

    def __init__(self, channels: int, stride: int, joints: int) -> None:
        super().__init__()
        width = channels // 6
        widths = [channels - 5 * width] + [width] * 5
        self.stride = (1, stride)
        self.pw = nn.ModuleList(Pointwise(channels, each) for each in widths)
        self.bn = nn.ModuleList(BatchNorm(each) for each in widths[:5])
        self.conv = nn.ModuleList(
            TimeConv(each, each, 3, stride, dilation, TIME_AXIS) for dilation, each in enumerate(widths[:4], start=1)
        )
        self.joint_weight = nn.Parameter(torch.zeros(joints))
        self.mix_bn = BatchNorm(channels)
        self.mix = Pointwise(channels, channels)
        self.out_bn = BatchNorm(channels)

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """Map (B, V, T, C) to (B, V, T', C); optionally add ``residual``, then apply ReLU."""
        joints = x.shape[1]
        x = torch.cat((x, x.mean(dim=1, keepdim=True)), dim=1)
        layers = [layer for layer in self.pw if isinstance(layer, Pointwise)]
        norms = [norm for norm in self.bn if isinstance(norm, BatchNorm)]
        weight = torch.cat([layer.weight for layer in layers[:5]])
        bias = torch.cat([bias_of(layer) for layer in layers[:5]])
        hidden = normalise(norms, convolve(x, weight, bias), relu=True)
        *moving, pooled = torch.split(hidden, [norm.num_channels for norm in norms], dim=-1)
        branches = [conv(part) for conv, part in zip(self.conv, moving, strict=True)]
        pooled = torch.max_pool2d(pooled.permute(0, 3, 1, 2), (1, 3), self.stride, (0, 1)).permute(0, 2, 3, 1)
        y = torch.cat((*branches, pooled, layers[5](x, self.stride)), dim=-1)
        y = y[:, :joints] + y[:, joints:] * self.joint_weight[:, None, None]
        out: Tensor = self.out_bn(self.mix(self.mix_bn(y, relu=True)), residual, relu)
        return out


class ProtoGCN(GraphEncoder):
    """ProtoGCN's network for ``layout``.

    The tap ``graph`` is the last block's motion topology, alpha and beta included, as its own contrast reconstructs it.
    Weights begin as PyTorch's convolutions do, and the classifier's from N(0, 0.01^2).
    """

    def __init__(self, layout: Layout) -> None:
        joints = layout.num_joints
        super().__init__(
            layout,
            lambda channels_in, channels_out: MotionTopology(channels_in, channels_out, joints),
            lambda channels, stride: SixBranches(channels, stride, joints),
            PLAN,
            persons_alike=True,
        )
        for block in self.blocks:
            if isinstance(block, Block) and isinstance(block.res, Projection):
                init_default(block.res.conv)
        nn.init.normal_(self.fc.weight, 0.0, 0.01)
        nn.init.zeros_(self.fc.bias)


def _projection(channels_in: int, channels_out: int) -> Projection:
    projection = Projection(channels_in, channels_out)
    init_default(projection.conv)
    return projection
