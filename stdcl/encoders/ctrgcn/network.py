"""CTR-GCN: channel-wise topology refinement graph convolution (Chen et al., ICCV 2021; as its public code)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stdcl.encoders.base import Layout
from stdcl.encoders.graph import TIME_AXIS, GraphEncoder, Projection, partition
from stdcl.encoders.layers import Pointwise, bias_of, convolve, init_kaiming, product_dtype
from stdcl.encoders.precision import own_precision
from stdcl.encoders.temporal import MultiScale
from stdcl.kernels.graph_product import graph_product
from stdcl.parallel.batch_norm import BatchNorm
from stdcl.taps import GRAPH


class _Subset(nn.Module):
    """The four 1x1 convolutions of one adjacency subset: q, k (Cin -> R), v (Cin -> C), r (R -> C)."""

    def __init__(self, channels_in: int, channels_out: int, reduced: int) -> None:
        super().__init__()
        self.q = Pointwise(channels_in, reduced)
        self.k = Pointwise(channels_in, reduced)
        self.v = Pointwise(channels_in, channels_out)
        self.r = Pointwise(reduced, channels_out)
        for layer in (self.q, self.k, self.v, self.r):
            init_kaiming(layer)

    def relation(self, mean: Tensor) -> Tensor:
        """Map time means (B, V, Cin) to the channel mean of r(tanh(q_u - k_v)): (B, V, V)."""
        q, k = (convolve(mean[:, :, None], layer.weight, layer.bias) for layer in (self.q, self.k))
        related = torch.tanh(q - k.transpose(1, 2))  # (B, V, V, R)
        assert self.r.bias is not None
        return related @ self.r.weight.mean(dim=0).flatten() + self.r.bias.mean()


class TopologyRefinement(nn.Module):
    """The spatial part of a CTR-GCN block (paper, eq. 2-6; three subsets).

    With q, k the time means of two 1x1 convolutions, the graph of subset s, sample n and channel c is
    ``G[u, v] = alpha (r(tanh(q_u - k_v)))_c + A_s[u, v]``, joint u receives ``sum_s sum_v G[u, v] v_s(x)_v``, and
    ``ReLU(BN(.) + shortcut(x))`` follows. `_refined_product` says how it is computed.
    """

    def __init__(self, channels_in: int, channels_out: int, adjacency: Tensor) -> None:
        super().__init__()
        reduced = 8 if channels_in in (3, 9) else channels_in // 8
        self.A = nn.Parameter(adjacency.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        self.s0 = _Subset(channels_in, channels_out, reduced)
        self.s1 = _Subset(channels_in, channels_out, reduced)
        self.s2 = _Subset(channels_in, channels_out, reduced)
        self.down = None if channels_in == channels_out else Projection(channels_in, channels_out)
        self.bn = BatchNorm(channels_out)
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor, taps: dict[str, Tensor] | None = None) -> Tensor:
        """Map (B, V, T, Cin) to (B, V, T, C); put `relation` into ``taps``, if given."""
        if taps is not None:
            taps[GRAPH] = self.relation(x)
        subsets = (self.s0, self.s1, self.s2)
        y = _refined_product(x, self.A, self.alpha, subsets)
        shortcut = x if self.down is None else self.down(x)
        out: Tensor = self.bn(y, shortcut, relu=True)
        return out

    def relation(self, x: Tensor) -> Tensor:
        """Return the channel mean of ``r(tanh(q_u - k_v))``, before alpha and A: (B, 3, V, V) for x (B, V, T, Cin).

        The mean goes before r, of which only the mean row is needed: no map of C channels is made.
        """
        with own_precision(x):
            mean = x.mean(dim=TIME_AXIS, dtype=self.A.dtype)
            return torch.stack([subset.relation(mean) for subset in (self.s0, self.s1, self.s2)], dim=1)


def _refined_product(x: Tensor, a: Tensor, alpha: Tensor, subsets: tuple[_Subset, ...]) -> Tensor:
    """x (B, V, T, Cin) -> (B, V, T, C): features of every subset, summed over subsets and joints by the refined graphs.

    Exactly, with S subsets and K = R + 2:

    - The time mean goes before the 1x1 convolutions of q and k.
    - Graphs are one product per subset, ``[alpha r | alpha bias | 1]`` (C, K) by ``[tanh; 1; A]`` (K, V V): neither
      alpha nor A costs a pass.
    - One product makes v of all subsets, channels first, and one batched product sums over the subsets.
    - The bias of v is added after the graph, where it is one number per joint and channel.

    Products run in `product_dtype`, the small factors in the type of the parameters.
    """
    p = _Parameters.of(subsets)
    b, v, t, c_in = x.shape
    s, c, reduced = p.r_weight.shape
    dtype = product_dtype(x)
    x = x.view_as(x)  # both of its gradients are added up here, before that of the shortcut
    with own_precision(x):
        # Not `x.mean`, whose gradient is a pass over x.
        mean = (x.sum(dim=TIME_AXIS, dtype=a.dtype) / t).view(b * v, c_in)
        qk = torch.addmm(p.qk_bias, mean, p.qk_weight.t()).view(b, v, 2, s, reduced)
        mixing = torch.cat((p.r_weight * alpha, (p.r_bias * alpha)[:, :, None], p.r_bias.new_ones((s, c, 1))), dim=2)
        rows = x.to(dtype).reshape(b, v * t, c_in)
        values = torch.bmm(p.v_weight.to(dtype).expand(b, -1, -1), rows.transpose(1, 2)).view(b, c, s, v, t)
        return graph_product(values, p.v_bias, qk, a, mixing)


class _Parameters(NamedTuple):
    """The parameters of the subsets, joined. Order of the rows: kind, subset, channel; for v: channel, subset."""

    qk_weight: Tensor  # (2 S R, Cin)
    qk_bias: Tensor  # (2 S R,)
    v_weight: Tensor  # (C S, Cin)
    v_bias: Tensor  # (S, C)
    r_weight: Tensor  # (S, C, R)
    r_bias: Tensor  # (S, C)

    @staticmethod
    def of(subsets: tuple[_Subset, ...]) -> _Parameters:
        q_and_k = [*(s.q for s in subsets), *(s.k for s in subsets)]
        v_weight = torch.stack([s.v.weight for s in subsets], dim=1)
        return _Parameters(
            torch.cat([layer.weight for layer in q_and_k]).flatten(1),
            torch.cat([bias_of(layer) for layer in q_and_k]),
            v_weight.view(-1, v_weight.shape[2]),
            torch.stack([bias_of(s.v) for s in subsets]),
            torch.stack([s.r.weight for s in subsets]).flatten(2),
            torch.stack([bias_of(s.r) for s in subsets]),
        )


class CTRGCN(GraphEncoder):
    """CTR-GCN for ``layout``.

    Parameter names: ``in_bn``, ``b1`` ... ``b10`` with ``gcn`` (``A``, ``alpha``, ``s0`` to ``s2`` with ``q``, ``k``,
    ``v``, ``r``; ``down.conv``, ``down.bn``; ``bn``), ``tcn`` (``br0`` to ``br3`` with ``pw``, ``bn1``, ``conv``,
    ``bn2``) and ``res`` (``conv``, ``bn``), then ``fc``. Each is one parameter of the public code's, of equal shape:
    ``data_bn``, ``lI.gcn1`` (``PA``; ``convs.S.conv1`` to ``conv4`` are q, k, v, r; ``down.0``, ``down.1``),
    ``lI.tcn1.branches.B`` (``0`` pw, ``1`` bn1, ``3.conv``, ``3.bn``; ``4`` is bn2 of the pooling branch),
    ``lI.residual`` (``conv``, ``bn``), ``fc``.
    """

    def __init__(self, layout: Layout) -> None:
        adjacency = partition(layout.skeleton)
        super().__init__(
            layout,
            lambda channels_in, channels_out: TopologyRefinement(channels_in, channels_out, adjacency),
            lambda channels, stride: MultiScale(channels, channels, stride, TIME_AXIS),
        )
