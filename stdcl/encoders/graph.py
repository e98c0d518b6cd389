"""The shell that the graph encoders share: input normalisation, ten blocks, pooling over joints, frames and persons.

Inside, tensors are channels-last, (B, V, T, C) with B = N M: a 1x1 convolution is one matrix product, a product with a
graph is one over the leading joint axis, and a temporal convolution runs along contiguous frames.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from stdcl.encoders.base import Encoder, EncoderOutput, Layout
from stdcl.encoders.layers import Pointwise, init_kaiming
from stdcl.parallel.batch_norm import BatchNorm
from stdcl.skeleton import Skeleton, spatial_partition
from stdcl.taps import GRAPH, block_tap

# (channels in, channels out, stride over frames) of the ten blocks of ST-GCN's family; the first input is x, y, z.
PLAN: tuple[tuple[int, int, int], ...] = (
    (3, 64, 1),
    (64, 64, 1),
    (64, 64, 1),
    (64, 64, 1),
    (64, 128, 2),
    (128, 128, 1),
    (128, 128, 1),
    (128, 256, 2),
    (256, 256, 1),
    (256, 256, 1),
)
TIME_AXIS = 2


def partition(skeleton: Skeleton) -> Tensor:
    """Return the three adjacency subsets (3, V, V): identity, towards the centre, away from it."""
    return torch.from_numpy(spatial_partition(skeleton))


class InputNorm(BatchNorm):
    """Batch normalisation of the input over M V C channels: persons, then joints, then coordinates.

    Args:
        num_persons: M.
        num_joints: V.
        channels: C.
        persons_alike: V C channels instead, each over all persons.
    """

    def __init__(self, num_persons: int, num_joints: int, channels: int = 3, persons_alike: bool = False) -> None:
        super().__init__((1 if persons_alike else num_persons) * num_joints * channels)
        self.persons_alike = persons_alike

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """Normalise (N, C, T, V, M) and return (N M, V, T, C), contiguous."""
        if self.persons_alike:
            x = x.permute(0, 4, 1, 2, 3).flatten(0, 1)[..., None]
        n, c, t, v, m = x.shape
        rows = x.permute(0, 2, 4, 3, 1).reshape(n, t, m * v * c)
        normalised = super().forward(rows, residual, relu)
        return normalised.view(n, t, m, v, c).permute(0, 2, 3, 1, 4).reshape(n * m, v, t, c)


def pool(features: Tensor, num_persons: int) -> tuple[Tensor, Tensor]:
    """Return the feature map (N, M, C, T, V), a view, and its mean over frames, joints and persons (N, C).

    Args:
        features: (N M, V, T, C). Absent persons count like present ones.
        num_persons: M.
    """
    by_person = features.view(features.shape[0] // num_persons, num_persons, *features.shape[1:])
    return as_map(features, num_persons), by_person.mean(dim=(1, 2, 3))


def as_map(features: Tensor, num_persons: int) -> Tensor:
    """View (N M, V, T, C) as a feature map (N, M, C, T, V)."""
    by_person = features.view(features.shape[0] // num_persons, num_persons, *features.shape[1:])
    return by_person.permute(0, 1, 4, 3, 2)


class Projection(nn.Module):
    """A shortcut that changes the shape: strided 1x1 convolution and batch normalisation."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = (1, stride)
        self.conv = Pointwise(channels_in, channels_out)
        self.bn = BatchNorm(channels_out)
        init_kaiming(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, V, T, Cin) to (B, V, T', C)."""
        y: Tensor = self.bn(self.conv(x, self.stride))
        return y


class Block(nn.Module):
    """``ReLU(tcn(gcn(x)) + res(x))``, where res is nothing, the identity or a projection."""

    def __init__(self, gcn: nn.Module, tcn: nn.Module, res: nn.Module | None) -> None:
        super().__init__()
        self.gcn = gcn
        self.tcn = tcn
        self.res = res

    def forward(self, x: Tensor, taps: dict[str, Tensor] | None = None) -> Tensor:
        """Map (B, V, T, Cin) to (B, V, T', C); put the graph into ``taps``, if given."""
        residual = None if self.res is None else self.res(x)
        y: Tensor = self.tcn(self.gcn(x, taps), residual, relu=True)
        return y


class BlockEncoder(Encoder):
    """An encoder of blocks ``b1``, ``b2``, ... in order, each of whose outputs may be tapped."""

    offered_taps: tuple[str, ...] = tuple(block_tap(index) for index, _ in enumerate(PLAN, start=1))

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks in order."""
        return [child for name, child in self.named_children() if _BLOCK.fullmatch(name)]

    def through_blocks(
        self, features: Tensor, taps: dict[str, Tensor], call: Callable[[int, nn.Module, Tensor], Tensor]
    ) -> Tensor:
        """Return the last block's output, and put the maps that are wanted of blocks into ``taps``.

        Args:
            features: (N M, V, T, C), of the first block.
            taps: by name.
            call: (number of the block from 1, block, its input) -> its output.
        """
        for index, block in enumerate(self.blocks, start=1):
            features = call(index, block, features)
            if block_tap(index) in self.wanted_taps:
                taps[block_tap(index)] = as_map(features, self.layout.num_persons)
        return features


_BLOCK = re.compile(r"b\d+")


class GraphEncoder(BlockEncoder):
    """Ten blocks over the joint graph, as ST-GCN, 2s-AGCN and CTR-GCN have them; the parts differ.

    Args:
        layout: shape of the sequences.
        make_gcn: (channels in, channels out) -> the spatial part of a block, (B, V, T, Cin) -> (B, V, T, C). Its
            second argument is None, or a mapping into which it puts its relation between joints (B, S, V, V).
        make_tcn: (channels, stride) -> the temporal part, which takes a residual and ``relu``.
        plan: (channels in, channels out, stride over frames) of the ten blocks.
        persons_alike: whether the input's normalisation has the same statistics for all persons.
    """

    offered_taps = (*BlockEncoder.offered_taps, GRAPH)

    def __init__(
        self,
        layout: Layout,
        make_gcn: Callable[[int, int], nn.Module],
        make_tcn: Callable[[int, int], nn.Module],
        plan: Sequence[tuple[int, int, int]] = PLAN,
        persons_alike: bool = False,
    ) -> None:
        super().__init__(layout)
        self.in_bn = InputNorm(layout.num_persons, layout.num_joints, persons_alike=persons_alike)
        for index, (channels_in, channels_out, stride) in enumerate(plan, start=1):
            res: nn.Module | None
            if index == 1:
                res = None
            elif channels_in == channels_out and stride == 1:
                res = nn.Identity()
            else:
                res = Projection(channels_in, channels_out, stride)
            block = Block(make_gcn(channels_in, channels_out), make_tcn(channels_out, stride), res)
            self.add_module(f"b{index}", block)
        self.fc = nn.Linear(plan[-1][1], layout.num_classes)
        nn.init.normal_(self.fc.weight, 0.0, math.sqrt(2.0 / layout.num_classes))

    def forward(self, x: Tensor, *, keys: Tensor | None = None, labels: Tensor | None = None) -> EncoderOutput:
        self.check_input(x)
        persons = self.layout.num_persons
        taps: dict[str, Tensor] = {}

        def call(index: int, block: nn.Module, features: Tensor) -> Tensor:
            last = GRAPH in self.wanted_taps and index == len(PLAN)
            out: Tensor = block(features, taps if last else None)
            return out

        features = self.through_blocks(self.in_bn(x), taps, call)
        if GRAPH in taps:
            graph = taps[GRAPH]
            taps[GRAPH] = graph.view(len(x), persons, *graph.shape[1:]).mean(dim=1)
        feature_map, pooled = pool(features, persons)
        return EncoderOutput(self.fc(pooled), feature_map, pooled, taps)
