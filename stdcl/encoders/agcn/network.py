"""2s-AGCN's network: adaptive graph convolution (Shi et al., CVPR 2019). "2s" is a fusion of joint and bone models."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stdcl.encoders.base import Layout
from stdcl.encoders.graph import TIME_AXIS, GraphEncoder, Projection, partition
from stdcl.encoders.layers import Pointwise, convolve, init_kaiming
from stdcl.encoders.temporal import WideConv
from stdcl.parallel.batch_norm import BatchNorm
from stdcl.taps import GRAPH

NUM_SUBSETS = 3


class _Subset(nn.Module):
    """The 1x1 convolutions of one adjacency subset: theta, phi (Cin -> C/4), out (Cin -> C)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.theta = Pointwise(channels_in, channels_out // 4)
        self.phi = Pointwise(channels_in, channels_out // 4)
        self.out = Pointwise(channels_in, channels_out)
        for layer in (self.theta, self.phi, self.out):
            init_kaiming(layer)
        nn.init.normal_(self.out.weight, 0.0, math.sqrt(2.0 / (channels_out * channels_in * NUM_SUBSETS)))


class AdaptiveGraph(nn.Module):
    """The spatial part of a 2s-AGCN block (paper, eq. 3).

    ``S_s[u, v]`` is the mean over channels and frames of theta(x)_u phi(x)_v, ``K_s = softmax over u of S_s, + A_s +
    B_s`` with fixed A and learned B, joint v receives ``sum_u K_s[u, v] x_u``, a 1x1 convolution follows, then the sum
    over the subsets and ``ReLU(BN(.) + shortcut(x))``.

    How it is computed, exactly: one convolution makes theta and phi of all subsets; one product with the three graphs
    side by side aggregates; and the three output convolutions with their sum are one convolution whose kernel spans the
    subsets.
    """

    A: Tensor

    def __init__(self, channels_in: int, channels_out: int, adjacency: Tensor) -> None:
        super().__init__()
        self.register_buffer("A", adjacency.clone(), persistent=False)
        self.B = nn.Parameter(torch.full_like(adjacency, 1e-6))
        self.s0 = _Subset(channels_in, channels_out)
        self.s1 = _Subset(channels_in, channels_out)
        self.s2 = _Subset(channels_in, channels_out)
        self.down = None if channels_in == channels_out else Projection(channels_in, channels_out)
        self.bn = BatchNorm(channels_out)
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor, taps: dict[str, Tensor] | None = None) -> Tensor:
        """Map (B, V, T, Cin) to (B, V, T, C); put S (B, 3, V, V) into ``taps``, if given."""
        subsets = (self.s0, self.s1, self.s2)
        b, v, t, c = x.shape
        similarity = self._similarity(x)
        if taps is not None:
            taps[GRAPH] = similarity
        graph = torch.softmax(similarity, dim=-2) + (self.A + self.B)
        senders = graph.transpose(2, 3).reshape(b, NUM_SUBSETS * v, v)
        aggregated = torch.bmm(senders, x.reshape(b, v, t * c)).view(b, NUM_SUBSETS, v * t, c)
        weight = torch.cat([s.out.weight for s in subsets], dim=2)
        bias = torch.stack([_vector(s.out) for s in subsets]).sum(0)
        y = convolve(aggregated, weight, bias).reshape(b, v, t, bias.shape[0])
        shortcut = x if self.down is None else self.down(x)
        out: Tensor = self.bn(y, shortcut, relu=True)
        return out

    def _similarity(self, x: Tensor) -> Tensor:
        """Return S (B, 3, V, V)."""
        subsets = (self.s0, self.s1, self.s2)
        b, v, t, _ = x.shape
        layers = [s.theta for s in subsets] + [s.phi for s in subsets]
        embedded = convolve(x, torch.cat([s.weight for s in layers]), torch.cat([_vector(s) for s in layers]))
        width = embedded.shape[-1] // len(layers)
        by_layer = embedded.view(b, v, t, len(layers), width).permute(3, 0, 1, 2, 4)
        by_layer = by_layer.reshape(2, NUM_SUBSETS * b, v, t * width)
        # Divided inside the product: as a sum over channels and frames it can exceed the range of float16.
        similarity = torch.baddbmm(
            by_layer.new_empty(()), by_layer[0], by_layer[1].transpose(1, 2), beta=0, alpha=1 / (width * t)
        )
        return similarity.view(NUM_SUBSETS, b, v, v).transpose(0, 1)


def _vector(layer: Pointwise) -> Tensor:
    assert layer.bias is not None
    return layer.bias


class AGCN(GraphEncoder):
    """2s-AGCN's network for ``layout``.

    Parameter names: ``in_bn``, ``b1`` ... ``b10`` with ``gcn`` (``B``, ``s0`` to ``s2`` with ``theta``, ``phi``,
    ``out``; ``down.conv``, ``down.bn``; ``bn``), ``tcn`` (``conv``, ``bn``) and ``res`` (``conv``, ``bn``), then
    ``fc``. Each is one parameter of the public code's, of equal shape: ``data_bn``, ``lI.gcn1`` (``PA`` is B;
    ``conv_a.S``, ``conv_b.S``, ``conv_d.S`` are theta, phi, out; ``down.0``, ``down.1``; ``bn``), ``lI.tcn1``
    (``conv``, ``bn``), ``lI.residual`` (``conv``, ``bn``), ``fc``.
    """

    def __init__(self, layout: Layout) -> None:
        adjacency = partition(layout.skeleton)
        super().__init__(
            layout,
            lambda channels_in, channels_out: AdaptiveGraph(channels_in, channels_out, adjacency),
            lambda channels, stride: WideConv(channels, channels, stride, TIME_AXIS),
        )
