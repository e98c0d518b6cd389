"""CTR-GCN: channel-wise topology refinement graph convolution (Chen et al., ICCV 2021; as its public code)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stdcl.encoders.base import Layout
from stdcl.encoders.graph import TIME_AXIS, GraphEncoder, Projection, partition
from stdcl.encoders.layers import Pointwise, convolve, init_kaiming, product_dtype
from stdcl.encoders.temporal import MultiScale
from stdcl.kernels import graph_product
from stdcl.parallel.batch_norm import BatchNorm
from stdcl.taps import GRAPH

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

    def forward(self, x: Tensor, taps: dict[str, Tensor] | None = None) -> Tensor:
        """Map (B, V, T, Cin) to (B, V, T, C); put `relation` into ``taps``, if given."""
        if taps is not None:
            taps[GRAPH] = self.relation(x)
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

    def relation(self, x: Tensor) -> Tensor:
        """Return the channel mean of ``r(tanh(q_u - k_v))``, before alpha and A: (B, 3, V, V) for x (B, V, T, Cin).

        The mean goes before r, of which only the mean row is needed: no map of C channels is made.
        """
        with torch.autocast(x.device.type, enabled=False):
            mean = x.mean(dim=TIME_AXIS, dtype=self.A.dtype)
            return torch.stack([subset.relation(mean) for subset in (self.s0, self.s1, self.s2)], dim=1)


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
        mean = x.mean(dim=TIME_AXIS, dtype=a.dtype).view(b * v, c_in)
        qk = torch.addmm(p.qk_bias, mean, p.qk_weight.t()).view(b, v, 2, s, reduced)
        mixing = torch.cat((p.r_weight * alpha, (p.r_bias * alpha)[:, :, None], p.r_bias.new_ones((s, c, 1))), dim=2)
        rows = x.to(dtype).reshape(b, v * t, c_in)
        weight = p.v_weight.to(dtype)
        values = torch.bmm(weight.expand(b, -1, -1), rows.transpose(1, 2)).view(b, c, s, v, t)
        ctx.save_for_backward(rows, weight, values, mean, qk, a, mixing, alpha, *p)
        ctx.x_dtype = x.dtype
        return graph_product.forward(values, qk, a, mixing, _biased(mixing, p.v_bias))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, weight, values, mean, qk, a, mixing, alpha, *joined = ctx.saved_tensors
        p = _Parameters(*joined)
        b, c, s, v, t = values.shape
        found = graph_product.backward(values, qk, a, mixing, _biased(mixing, p.v_bias), gradients[0])

        grad_values = found.values.view(b, c * s, v * t)
        grad_x = torch.bmm(grad_values.transpose(1, 2), weight.expand(b, -1, -1)).view(b, v, t, weight.shape[1])
        grad_v_weight = torch.zeros_like(weight)
        for some, of_some in zip(
            torch.split(grad_values, SAMPLES_AT_ONCE), torch.split(rows, SAMPLES_AT_ONCE), strict=True
        ):
            grad_v_weight += torch.bmm(some, of_some).sum(0)

        grad_biased = found.biased.view(s, -1, c).transpose(1, 2)
        grad_mixing = torch.addcmul(found.mixing, grad_biased, p.v_bias[:, :, None])
        grad_r_weight, grad_r_bias = grad_mixing[:, :, :-2], grad_mixing[:, :, -2]
        grad_alpha = ((grad_r_weight * p.r_weight).sum() + (grad_r_bias * p.r_bias).sum()).view(1)
        grad_qk = found.qk.reshape(b * v, p.qk_weight.shape[0])
        grad_mean = torch.mm(grad_qk, p.qk_weight).view(b, v, 1, weight.shape[1])
        grad_x += (grad_mean / t).to(grad_x.dtype)
        flat = _Parameters(
            torch.mm(grad_qk.t(), mean),
            grad_qk.sum(0),
            grad_v_weight.to(mean.dtype),
            (grad_biased * mixing).sum(dim=2),
            grad_r_weight * alpha,
            grad_r_bias * alpha,
        )
        return grad_x.to(ctx.x_dtype), None, found.a, grad_alpha, *flat.split()


def _biased(mixing: Tensor, v_bias: Tensor) -> Tensor:
    """Return ``mixing v_bias`` (S K, C): what v's bias becomes after the graph."""
    return (mixing * v_bias[:, :, None]).transpose(1, 2).flatten(0, 1)


class _Parameters(NamedTuple):
    """The parameters of the three subsets, joined. Order of the rows: kind, subset, channel; for v: channel, subset."""

    qk_weight: Tensor  # (2 S R, Cin)
    qk_bias: Tensor  # (2 S R,)
    v_weight: Tensor  # (C S, Cin)
    v_bias: Tensor  # (S, C)
    r_weight: Tensor  # (S, C, R)
    r_bias: Tensor  # (S, C)

    @staticmethod
    def of(parameters: tuple[Tensor, ...]) -> _Parameters:
        """Join weights and biases in the order q, k, v, r, of three subsets each."""
        n = NUM_SUBSETS
        weights, biases = parameters[: 4 * n], parameters[4 * n :]
        v_weight = torch.stack(weights[2 * n : 3 * n], dim=1)
        return _Parameters(
            torch.cat(weights[: 2 * n]).flatten(1),
            torch.cat(biases[: 2 * n]),
            v_weight.view(-1, v_weight.shape[2]),
            torch.stack(biases[2 * n : 3 * n]),
            torch.stack(weights[3 * n :]).flatten(2),
            torch.stack(biases[3 * n :]),
        )

    def split(self) -> list[Tensor]:
        """Undo `of`: a tensor a parameter, weights as 1x1 convolutions have them."""
        n, (_, c, reduced) = NUM_SUBSETS, self.r_weight.shape
        return [
            *self.qk_weight.view(2 * n, reduced, -1, 1, 1).unbind(0),
            *self.v_weight.view(c, n, -1, 1, 1).unbind(1),
            *self.r_weight.view(n, c, reduced, 1, 1).unbind(0),
            *self.qk_bias.view(2 * n, reduced).unbind(0),
            *self.v_bias.unbind(0),
            *self.r_bias.unbind(0),
        ]


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
