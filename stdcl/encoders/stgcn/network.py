"""ST-GCN's network (Yan et al., AAAI 2018): a fixed graph with learned edge weights, then a convolution over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stdcl.encoders.base import EncoderOutput, Layout
from stdcl.encoders.graph import PLAN, TIME_AXIS, BlockEncoder, InputNorm, Projection, pool
from stdcl.encoders.keyed import keyed_dropout
from stdcl.encoders.layers import Pointwise, TimeConv, bias_of, convolve
from stdcl.parallel.batch_norm import BatchNorm
from stdcl.skeleton import configuration_partition

NUM_SUBSETS = 3


class Block(nn.Module):
    """``ReLU(drop(BN(time(ReLU(BN(graph(x)))))) + res(x))`` (paper, sections 3.4 and 4).

    With A the partition and E the learned edge weights, joint w receives
    ``sum_k sum_v (A E)_k[v, w] (W_k x_v + b_k)``. It is computed as one product with the three graphs side by side and
    one convolution whose kernel spans the subsets; the biases, times the sums of the columns, are added per joint.
    """

    A: Tensor

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, adjacency: Tensor, dropout: float, site: int
    ) -> None:
        super().__init__()
        self.register_buffer("A", adjacency.clone(), persistent=False)
        self.dropout = dropout if site > 1 else 0.0
        self.site = site
        self.edge = nn.Parameter(torch.ones_like(adjacency))
        self.graph = Pointwise(channels_in, NUM_SUBSETS * channels_out)
        self.bn1 = BatchNorm(channels_out)
        self.time = TimeConv(channels_out, channels_out, 9, stride, 1, TIME_AXIS)
        self.bn2 = BatchNorm(channels_out)
        self.res: nn.Module | None = None
        if site > 1:
            same = channels_in == channels_out and stride == 1
            self.res = nn.Identity() if same else Projection(channels_in, channels_out, stride)

    def forward(self, x: Tensor, num_persons: int, keys: Tensor | None) -> Tensor:
        """Map (N M, V, T, Cin) to (N M, V, T', C); ``keys`` (N,)."""
        residual = None if self.res is None else self.res(x)
        hidden: Tensor = self.bn1(self._aggregate(x), relu=True)
        if not (self.training and self.dropout):
            out: Tensor = self.bn2(self.time(hidden), residual, relu=True)
            return out
        y = self.bn2(self.time(hidden))
        by_sequence = y.view(len(y) // num_persons, num_persons, *y.shape[1:])
        y = keyed_dropout(by_sequence, self.dropout, keys, self.site, training=True).view(y.shape)
        return torch.relu(y if residual is None else y + residual)

    def _aggregate(self, x: Tensor) -> Tensor:
        b, v, t, c = x.shape
        graph = (self.A * self.edge).to(x.dtype)
        receivers = graph.transpose(1, 2).reshape(NUM_SUBSETS * v, v)
        gathered = torch.matmul(receivers, x.reshape(b, v, t * c)).view(b, NUM_SUBSETS, v * t, c)
        weight = self.graph.weight.view(NUM_SUBSETS, -1, c, 1).permute(1, 2, 0, 3)
        y = convolve(gathered, weight, None).view(b, v, t, -1)
        bias = graph.sum(1).transpose(0, 1) @ bias_of(self.graph).view(NUM_SUBSETS, -1).to(graph.dtype)
        return y + bias[:, None, :].to(y.dtype)


class STGCN(BlockEncoder):
    """ST-GCN's network for ``layout``.

    Parameter names: ``in_bn``, ``b1`` ... ``b10`` with ``edge``, ``graph``, ``bn1``, ``time``, ``bn2`` and ``res``
    (``conv``, ``bn``), then ``fc``. Each is one parameter of the public code's, of equal shape: ``data_bn``,
    ``edge_importance.i``, ``st_gcn_networks.i`` with ``gcn.conv``, ``tcn.0``, ``tcn.2``, ``tcn.3`` and ``residual``,
    ``fcn``. Weights begin as its training code draws them: convolutions from N(0, 0.02^2) without bias, the factors of
    the batch normalisations from N(1, 0.02^2).

    Args:
        layout: shape of the sequences.
        dropout: share of the outputs of blocks 2 to 10 that is dropped in training.
    """

    def __init__(self, layout: Layout, dropout: float) -> None:
        super().__init__(layout)
        adjacency = torch.from_numpy(configuration_partition(layout.skeleton))
        self.in_bn = InputNorm(layout.num_persons, layout.num_joints, persons_alike=True)
        for index, (channels_in, channels_out, stride) in enumerate(PLAN, start=1):
            self.add_module(f"b{index}", Block(channels_in, channels_out, stride, adjacency, dropout, index))
        self.fc = Pointwise(PLAN[-1][1], layout.num_classes)
        _initialise(self)

    def forward(self, x: Tensor, *, keys: Tensor | None = None, labels: Tensor | None = None) -> EncoderOutput:
        self.check_input(x)
        persons = self.layout.num_persons
        taps: dict[str, Tensor] = {}

        def call(index: int, block: nn.Module, features: Tensor) -> Tensor:
            out: Tensor = block(features, persons, keys)
            return out

        features = self.through_blocks(self.in_bn(x), taps, call)
        feature_map, pooled = pool(features, persons)
        logits = self.fc(pooled[:, None, None])[:, 0, 0]
        return EncoderOutput(logits, feature_map, pooled, taps)


@torch.no_grad()
def _initialise(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, Pointwise | TimeConv):
            module.weight.normal_(0.0, 0.02)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, BatchNorm):
            module.weight.normal_(1.0, 0.02)
