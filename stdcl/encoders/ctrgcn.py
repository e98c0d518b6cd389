"""CTR-GCN: channel-wise topology refinement graph convolution (Chen et al., ICCV 2021; as its public code)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stdcl.compiled import graph_product
from stdcl.encoders.base import Layout
from stdcl.encoders.graph import TIME_AXIS, GraphEncoder, Projection, partition
from stdcl.encoders.layers import Pointwise, init_kaiming, product_dtype
from stdcl.encoders.temporal import MultiScale
from stdcl.parallel.batch_norm import BatchNorm

NUM_SUBSETS = 3
# A product a sample, summed afterwards, is faster than one that adds up samples; so many at once bounds its memory.
SAMPLES_AT_ONCE = 16


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
    ``ReLU(BN(.) + shortcut(x))`` follows. `_RefinedProduct` says how it is computed.
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
        layers = [layer for kind in ("q", "k", "v", "r") for layer in (getattr(s, kind) for s in subsets)]
        weights = [layer.weight for layer in layers]
        biases = [layer.bias for layer in layers]
        y = _RefinedProduct.apply(  # type: ignore[no-untyped-call]
            x, product_dtype(x), self.A, self.alpha, *weights, *biases
        )
        shortcut = x if self.down is None else self.down(x)
        out: Tensor = self.bn(y, shortcut, relu=True)
        return out


class _RefinedProduct(torch.autograd.Function):
    """x (B, V, T, Cin) -> (B, V, T, C): features of every subset, summed over subsets and joints by the refined graphs.

    Exactly, with S subsets and K = R + 2:

    - The time mean goes before the 1x1 convolutions of q and k.
    - Graphs are one product a subset, ``[alpha r | alpha bias | 1]`` (C, K) by ``[tanh; 1; A]`` (K, V V): neither alpha
      nor A costs a pass.
    - One product makes v of all subsets, channels first, and one batched product sums over the subsets.
    - The bias of v is added after the graph, where it is one number a joint and channel.

    One function, with its gradient written out, because a chain of some hundred small operations would otherwise cost
    as much as the products. Products run in ``dtype``, the small factors in the type of the parameters.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype, a: Tensor, alpha: Tensor, *parameters: Tensor) -> Tensor:
        p = _Parameters.of(parameters)
        b, v, t, c_in = x.shape
        s, c, reduced = p.r_weight.shape
        mean = x.mean(dim=TIME_AXIS, dtype=a.dtype)
        qk = torch.addmm(p.qk_bias, mean.view(b * v, c_in), p.qk_weight.t()).view(b, v, 2, s, reduced)
        q, k = qk.permute(2, 0, 3, 4, 1)  # (B, S, R, V) each
        # (B, S, K, V_v, V_u)
        basis = a.new_ones((b, s, reduced + 2, v, v))
        relation = basis[:, :, :reduced]
        torch.tanh(torch.sub(q[:, :, :, None, :], k[:, :, :, :, None], out=relation), out=relation)
        basis[:, :, -1] = a.transpose(1, 2)
        mixing = torch.ones((s, c, reduced + 2), dtype=a.dtype, device=a.device)
        torch.mul(p.r_weight, alpha, out=mixing[:, :, :reduced])
        torch.mul(p.r_bias, alpha, out=mixing[:, :, reduced])

        rows = x.to(dtype).reshape(b, v * t, c_in)
        weight = p.v_weight.to(dtype)
        values = torch.bmm(weight.expand(b, -1, -1), rows.transpose(1, 2)).view(b, c, s, v, t)

        # What v's bias becomes after the graph: a sum over V_v of the graph, (B, V_u, C).
        columns = basis.sum(dim=3)
        biased = mixing * p.v_bias[:, :, None]
        offset = torch.bmm(_joint_rows(columns), _factor_rows(biased).expand(b, -1, -1))
        out = graph_product.mix(values, mixing, basis, offset)
        ctx.save_for_backward(rows, weight, values, basis, mixing, columns, mean, alpha, *parameters)
        ctx.x_dtype = x.dtype
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, weight, values, basis, mixing, columns, mean, alpha, *parameters = ctx.saved_tensors
        p = _Parameters.of(parameters)
        b, c, s, v, t = values.shape
        reduced = p.r_weight.shape[2]
        grad_values, grad_mixing, grad_basis, grad_offset = graph_product.mix_backward(
            values, mixing, basis, gradients[0]
        )
        grad_values = grad_values.view(b, c * s, v * t)
        grad_v_weight = torch.zeros_like(weight)
        for some, of_some in zip(
            torch.split(grad_values, SAMPLES_AT_ONCE), torch.split(rows, SAMPLES_AT_ONCE), strict=True
        ):
            grad_v_weight += torch.bmm(some, of_some).sum(0)
        grad_x = torch.bmm(grad_values.transpose(1, 2), weight.expand(b, -1, -1)).view(b, v, t, weight.shape[1])

        # The offset, down to mixing and basis.
        biased = mixing * p.v_bias[:, :, None]
        grad_biased = torch.mm(grad_offset.view(b * v, c).t(), _joint_rows(columns).flatten(0, 1))
        grad_biased = grad_biased.view(c, s, reduced + 2).transpose(0, 1)
        grad_v_bias = (grad_biased * mixing).sum(dim=2)
        grad_mixing += grad_biased * p.v_bias[:, :, None]
        grad_columns = torch.bmm(grad_offset, _factor_rows(biased).t().expand(b, -1, -1))
        grad_columns = grad_columns.view(b, v, s, reduced + 2).permute(0, 2, 3, 1)
        grad_basis += grad_columns[:, :, :, None, :]

        # Their parts.
        grad_a = grad_basis[:, :, -1].sum(0).transpose(1, 2)
        grad_r_weight = grad_mixing[:, :, :reduced]
        grad_r_bias = grad_mixing[:, :, reduced]
        grad_alpha = ((grad_r_weight * p.r_weight).sum() + (grad_r_bias * p.r_bias).sum()).view(1)
        relation = basis[:, :, :reduced]
        grad_relation = torch.ops.aten.tanh_backward(grad_basis[:, :, :reduced], relation)
        grad_qk = torch.stack((grad_relation.sum(dim=3), -grad_relation.sum(dim=4)))  # (2, B, S, R, V)
        grad_qk = grad_qk.permute(1, 4, 0, 2, 3).reshape(b * v, 2 * s * reduced)
        grad_mean = torch.mm(grad_qk, p.qk_weight).view(b, v, 1, weight.shape[1])
        grad_x += (grad_mean / t).to(grad_x.dtype)
        flat = _Parameters(
            torch.mm(grad_qk.t(), mean.flatten(0, 1)),
            grad_qk.sum(0),
            grad_v_weight.to(mean.dtype),
            grad_v_bias,
            grad_r_weight * alpha,
            grad_r_bias * alpha,
        )
        return grad_x.to(ctx.x_dtype), None, grad_a, grad_alpha, *flat.split()


class _Parameters(NamedTuple):
    """The parameters of the three subsets, joined. Order of the rows: kind, subset, channel; for v: channel, subset."""

    qk_weight: Tensor  # (2 S R, Cin)
    qk_bias: Tensor  # (2 S R,)
    v_weight: Tensor  # (C S, Cin)
    v_bias: Tensor  # (S, C)
    r_weight: Tensor  # (S, C, R)
    r_bias: Tensor  # (S, C)

    @staticmethod
    def of(parameters: Sequence[Tensor]) -> _Parameters:
        """Join weights and biases in the order q, k, v, r, of three subsets each."""
        n = NUM_SUBSETS
        weights, biases = [w.flatten(1) for w in parameters[: 4 * n]], parameters[4 * n :]
        return _Parameters(
            torch.cat(weights[: 2 * n]),
            torch.cat(list(biases[: 2 * n])),
            torch.stack(weights[2 * n : 3 * n], dim=1).flatten(0, 1),
            torch.stack(list(biases[2 * n : 3 * n])),
            torch.stack(weights[3 * n :]),
            torch.stack(list(biases[3 * n :])),
        )

    def split(self) -> list[Tensor]:
        """Undo `of`: a tensor a parameter, weights as 1x1 convolutions have them."""
        n = NUM_SUBSETS
        v_weight = self.v_weight.view(-1, n, self.v_weight.shape[1]).unbind(1)
        weights = (*self.qk_weight.chunk(2 * n), *v_weight, *self.r_weight.unbind(0))
        biases = (*self.qk_bias.chunk(2 * n), *self.v_bias.unbind(0), *self.r_bias.unbind(0))
        return [*(w[:, :, None, None] for w in weights), *biases]


def _joint_rows(columns: Tensor) -> Tensor:
    """Turn (B, S, K, V) into (B, V, S K)."""
    return columns.flatten(1, 2).transpose(1, 2)


def _factor_rows(factors: Tensor) -> Tensor:
    """Turn (S, C, K) into (S K, C)."""
    return factors.transpose(1, 2).flatten(0, 1)


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
