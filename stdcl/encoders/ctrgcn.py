"""CTR-GCN: channel-wise topology refinement graph convolution (Chen et al., ICCV 2021; as its public code)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stdcl.encoders.base import Layout
from stdcl.encoders.graph import TIME_AXIS, GraphEncoder, Projection, partition
from stdcl.encoders.layers import Pointwise, init_kaiming, product_dtype
from stdcl.encoders.temporal import MultiScale
from stdcl.parallel.batch_norm import BatchNorm

NUM_SUBSETS = 3


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


class TopologyRefinement(nn.Module):
    """The spatial part of a CTR-GCN block (paper, eq. 2-6; three subsets).

    With q, k the time means of two 1x1 convolutions, the graph of subset s, sample n and channel c is
    ``G[u, v] = alpha (r(tanh(q_u - k_v)))_c + A_s[u, v]``, joint u receives ``sum_s sum_v G[u, v] v_s(x)_v``, and
    ``ReLU(BN(.) + shortcut(x))`` follows.

    How it is computed, exactly: the time mean goes before the 1x1 convolutions of q and k. The graphs are one product
    of ``[alpha r | alpha bias | 1]`` with ``[tanh; 1; A_s]``, so neither alpha nor A costs a pass. One product makes v
    of all subsets, channels first, and one batched product over (subset, joint) sums over the subsets. The bias of v
    is added after the graph, where it is one number a joint and channel.
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

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, V, T, Cin) to (B, V, T, C)."""
        subsets = (self.s0, self.s1, self.s2)
        dtype = product_dtype(x)
        x = x.to(dtype)
        mixing, basis = (factor.to(dtype) for factor in self._factors(x))
        graph = _SubsetProduct.apply(mixing, basis)  # type: ignore[no-untyped-call]
        # (B, V, C): what v's bias becomes after the graph.
        v_bias = torch.stack([_vector(s.v) for s in subsets])
        offset = torch.einsum("sck,bsku->buc", mixing * v_bias[:, :, None], basis.sum(dim=3))
        weight = torch.stack([_matrix(s.v) for s in subsets], dim=1).flatten(0, 1).to(dtype)
        y = _GraphProduct.apply(x, weight, graph, offset.to(dtype))  # type: ignore[no-untyped-call]
        shortcut = x if self.down is None else self.down(x)
        out: Tensor = self.bn(y, shortcut, relu=True)
        return out

    def _factors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mixing (3, C, K) and basis (B, 3, K, V_v, V_u), K = R + 2, whose product over K is G[u, v]."""
        subsets = (self.s0, self.s1, self.s2)
        b, v = x.shape[:2]
        weight = torch.cat([_matrix(layer) for s in subsets for layer in (s.q, s.k)])
        bias = torch.cat([_vector(layer) for s in subsets for layer in (s.q, s.k)])
        joint_means = torch.nn.functional.linear(x.mean(dim=TIME_AXIS), weight, bias)
        q, k = joint_means.view(b, v, NUM_SUBSETS, 2, weight.shape[0] // (2 * NUM_SUBSETS)).permute(3, 0, 2, 4, 1)
        relation = torch.tanh(q[:, :, :, None, :] - k[:, :, :, :, None])
        constant = torch.stack((torch.ones_like(self.A), self.A.transpose(1, 2)), dim=1)
        basis = torch.cat((relation, constant.to(relation.dtype).expand(b, -1, -1, -1, -1)), dim=2)
        r = torch.stack([_matrix(s.r) for s in subsets]) * self.alpha
        r_bias = torch.stack([_vector(s.r) for s in subsets])[:, :, None] * self.alpha
        return torch.cat((r, r_bias, torch.ones_like(r_bias)), dim=2), basis


def _matrix(layer: Pointwise) -> Tensor:
    return layer.weight.flatten(1)


def _vector(layer: Pointwise) -> Tensor:
    assert layer.bias is not None
    return layer.bias


class _SubsetProduct(torch.autograd.Function):
    """(S, C, K), (B, S, K, V, V) -> (B, C, S V, V): a product over K for each subset, laid side by side."""

    @staticmethod
    def forward(ctx: Any, mixing: Tensor, basis: Tensor) -> Tensor:
        s, c, _ = mixing.shape
        b, _, _, v, _ = basis.shape
        ctx.save_for_backward(mixing, basis)
        out = mixing.new_empty((b, c, s, v * v))
        for i in range(s):
            torch.bmm(mixing[i].expand(b, -1, -1), basis[:, i].flatten(2), out=out[:, :, i])
        return out.view(b, c, s * v, v)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        mixing, basis = ctx.saved_tensors
        s, c, _ = mixing.shape
        b, _, _, v, _ = basis.shape
        grad = gradients[0].view(b, c, s, v * v)
        parts = [torch.bmm(mixing[i].t().expand(b, -1, -1), grad[:, :, i]) for i in range(s)]
        grad_basis = torch.stack(parts, dim=1).view_as(basis)
        grad_mixing = torch.stack(
            [torch.bmm(grad[:, :, i], basis[:, i].flatten(2).transpose(1, 2)).sum(0) for i in range(s)]
        )
        return grad_mixing, grad_basis


class _GraphProduct(torch.autograd.Function):
    """Transform features for every subset and sum them over subsets and joints, by a graph a sample and channel.

    x (B, V, T, Cin), weight (C S, Cin), graph (B, C, S V, V), offset (B, V, C) -> (B, V, T, C).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, graph: Tensor, offset: Tensor) -> Tensor:
        b, v, t, c_in = x.shape
        c, sv = graph.shape[1:3]
        rows = x.reshape(b, v * t, c_in)
        per_graph = graph.view(b * c, sv, v)
        values = torch.bmm(weight.expand(b, -1, -1), rows.transpose(1, 2)).view(b * c, sv, t)
        mixed = torch.bmm(per_graph.transpose(1, 2), values)
        ctx.save_for_backward(rows, weight, per_graph, values)
        ctx.sizes = (b, v, t, c)
        out = torch.empty((b, v, t, c), dtype=x.dtype, device=x.device)
        return torch.add(mixed.view(b, c, v, t).permute(0, 2, 3, 1), offset[:, :, None, :], out=out)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, weight, per_graph, values = ctx.saved_tensors
        b, v, t, c = ctx.sizes
        sv = per_graph.shape[1]
        grad_offset = gradients[0].sum(dim=2)
        grad = gradients[0].reshape(b, v * t, c).transpose(1, 2).contiguous().view(b * c, v, t)
        grad_graph = torch.bmm(values, grad.transpose(1, 2)).view(b, c, sv, v)
        grad_values = torch.bmm(per_graph, grad).view(b, c * sv // v, v * t)
        grad_weight = torch.bmm(grad_values, rows).sum(0)
        grad_x = torch.bmm(grad_values.transpose(1, 2), weight.expand(b, -1, -1)).view(b, v, t, rows.shape[2])
        return grad_x, grad_weight, grad_graph, grad_offset


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
