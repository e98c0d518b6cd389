"""What every encoder takes, gives and promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stdcl.errors import UserError
from stdcl.skeleton import Skeleton


@dataclass(frozen=True)
class Layout:
    """The shape of the sequences that an encoder is built for.

    Attributes:
        num_joints: V.
        num_persons: M.
        num_frames: T.
        num_classes: K.
        skeleton: the joint tree; it has ``num_joints`` joints.
    """

    num_joints: int
    num_persons: int
    num_frames: int
    num_classes: int
    skeleton: Skeleton

    def __post_init__(self) -> None:
        if self.num_joints != self.skeleton.num_joints:
            raise UserError(
                f"layout: {self.num_joints} joints, but skeleton '{self.skeleton.name}' has {self.skeleton.num_joints}"
            )
        for name in ("num_joints", "num_persons", "num_frames", "num_classes"):
            if getattr(self, name) < 1:
                raise UserError(f"layout: {name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True)
class FeatureAxes:
    """Whether the T and V axes of an encoder's feature map still stand for frames and joints."""

    frames: bool = True
    joints: bool = True


class EncoderOutput(NamedTuple):
    """What an encoder gives for N sequences.

    Attributes:
        logits: (N, K).
        feature_map: (N, M, C, T, V), the last feature map before pooling; any strides.
        pooled: (N, C'), the vector that the classifier sees.
        taps: further tensors with first axis N by name: those that were asked for (`Encoder.request_taps`).
    """

    logits: Tensor
    feature_map: Tensor
    pooled: Tensor
    taps: dict[str, Tensor] = {}  # noqa: RUF012 - never changed, only replaced


class OutputShapes(NamedTuple):
    """Shapes of an encoder's outputs for one sequence.

    Attributes:
        feature_map: (M, C, T, V).
        pooled: C'.
        taps: of each tap that was asked for, without the first axis.
    """

    feature_map: tuple[int, int, int, int]
    pooled: int
    taps: dict[str, tuple[int, ...]]


class Encoder(nn.Module):
    """Base class of all encoders.

    A subclass takes a ``Layout`` in its constructor, sets ``axes``, calls this constructor and implements
    ``forward``. In evaluation mode a sequence's result depends on that sequence alone. In training mode the only link
    between the sequences of a batch is batch normalisation, and every random number is a function of the sequence's
    key (`stdcl.encoders.keyed`), so that neither the batch nor the rank a sequence lands in matters.
    """

    axes: FeatureAxes = FeatureAxes()
    offered_taps: tuple[str, ...] = ()
    """Names of the intermediate results that this encoder can give beside its standard outputs."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.wanted_taps: frozenset[str] = frozenset()

    def request_taps(self, names: tuple[str, ...]) -> None:
        """Let ``forward`` return the taps ``names`` from now on; an encoder does no work for a tap nobody asked for.

        Raises:
            UserError: this encoder does not offer one of them.
        """
        missing = [name for name in names if name not in self.offered_taps]
        if missing:
            raise UserError(
                f"{type(self).__name__}: no tap {', '.join(map(repr, missing))}; "
                f"it offers {', '.join(map(repr, self.offered_taps)) or 'none'}: this method needs another encoder"
            )
        self.wanted_taps = frozenset(names)

    def forward(self, x: Tensor, *, keys: Tensor | None = None, labels: Tensor | None = None) -> EncoderOutput:
        """Encode ``x``.

        Args:
            x: (N, 3, T, V, M) coordinates.
            keys: (N,) int64, a random key per sequence; needed in training by encoders that draw random numbers.
            labels: (N,) int64; ignored by most encoders.
        """
        raise NotImplementedError

    def own_losses(self, output: EncoderOutput, labels: Tensor) -> dict[str, Tensor]:
        """Return the encoder's own weighted loss terms beside cross-entropy; none by default."""
        return {}

    def feature_shape(self) -> tuple[int, int, int, int]:
        """Return (M, C, T, V) of the feature map."""
        return self.output_shapes().feature_map

    def output_shapes(self) -> OutputShapes:
        """Return the shapes of all outputs, by a dry run on one sequence that changes no state."""
        layout = self.layout
        like = next(self.parameters())
        x = like.new_zeros((1, 3, layout.num_frames, layout.num_joints, layout.num_persons))
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.no_grad():
                output: EncoderOutput = self(x)
        finally:
            for module, training in modes:
                module.training = training
        _, persons, channels, frames, joints = output.feature_map.shape
        return OutputShapes(
            feature_map=(persons, channels, frames, joints),
            pooled=output.pooled.shape[1],
            taps={name: tuple(tap.shape[1:]) for name, tap in output.taps.items()},
        )

    def check_input(self, x: Tensor) -> None:
        """Raise ``UserError`` unless ``x`` is (N, 3, T, V, M) with the layout's V and M; T may differ."""
        layout = self.layout
        if x.dim() != 5 or x.shape[1] != 3 or x.shape[3:] != (layout.num_joints, layout.num_persons):
            raise UserError(
                f"{type(self).__name__}: input of shape {tuple(x.shape)}; it must be (N, 3, T, {layout.num_joints}, "
                f"{layout.num_persons}): sequences, coordinates, frames, joints, persons"
            )
