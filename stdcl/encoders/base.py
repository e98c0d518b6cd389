"""What every encoder takes, gives and promises, and the random numbers it may use."""

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
    """

    logits: Tensor
    feature_map: Tensor
    pooled: Tensor


class Encoder(nn.Module):
    """Base class of all encoders.

    A subclass takes a ``Layout`` in its constructor, sets ``axes``, calls this constructor and implements
    ``forward``. In evaluation mode a sequence's result depends on that sequence alone. In training mode the only link
    between the sequences of a batch is batch normalisation, and every random number is a function of the sequence's
    key (`keyed_uniform`), so that neither the batch nor the rank a sequence lands in matters.
    """

    axes: FeatureAxes = FeatureAxes()

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, x: Tensor, *, keys: Tensor | None = None, labels: Tensor | None = None) -> EncoderOutput:
        """Encode ``x``.

        Args:
            x: (N, 3, T, V, M) coordinates.
            keys: (N,) int64, a random key a sequence; needed in training by encoders that draw random numbers.
            labels: (N,) int64; ignored by most encoders.
        """
        raise NotImplementedError

    def own_losses(self, output: EncoderOutput, labels: Tensor) -> dict[str, Tensor]:
        """Return the encoder's own weighted loss terms beside cross-entropy; none by default."""
        return {}

    def feature_shape(self) -> tuple[int, int, int, int]:
        """Return (M, C, T, V) of the feature map, by a dry run that changes no state."""
        layout = self.layout
        like = next(self.parameters())
        x = like.new_zeros((1, 3, layout.num_frames, layout.num_joints, layout.num_persons))
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.no_grad():
                shape = self(x).feature_map.shape
        finally:
            for module, training in modes:
                module.training = training
        return (shape[1], shape[2], shape[3], shape[4])

    def check_input(self, x: Tensor) -> None:
        """Raise ``UserError`` unless ``x`` is (N, 3, T, V, M) with the layout's V and M; T may differ."""
        layout = self.layout
        if x.dim() != 5 or x.shape[1] != 3 or x.shape[3:] != (layout.num_joints, layout.num_persons):
            raise UserError(
                f"{type(self).__name__}: input of shape {tuple(x.shape)}; it must be (N, 3, T, {layout.num_joints}, "
                f"{layout.num_persons}): sequences, coordinates, frames, joints, persons"
            )


# Multipliers and shifts of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014),
# as signed 64-bit numbers: torch's int64 products wrap around, on CPU and GPU alike.
_GOLDEN = -7046029254386353131
_MIX_1 = -4658895280553007687
_MIX_2 = -7723592293110705685


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def keyed_uniform(keys: Tensor, site: int, shape: tuple[int, ...]) -> Tensor:
    """Return float32 numbers uniform in [0, 1), a pure function of (key, site, position).

    Args:
        keys: (N,) int64.
        site: which of an encoder's random places this is; different sites give independent numbers.
        shape: the shape for one sequence.

    Returns:
        (N, *shape) on the device of ``keys``. Row i depends on ``keys[i]`` alone, so it is the same in any batch, on
        any rank and on any device.
    """
    count = 1
    for size in shape:
        count *= size
    stream = _mix(keys + _GOLDEN) ^ _mix(torch.full_like(keys, site) * _GOLDEN + 1)
    counters = torch.arange(1, count + 1, device=keys.device) * _GOLDEN
    bits = _shift_right(_mix(_mix(stream)[:, None] + counters), 40)
    return (bits.to(torch.float32) * 2.0**-24).view(keys.shape[0], *shape)


def keyed_normal(keys: Tensor, site: int, shape: tuple[int, ...]) -> Tensor:
    """Return standard normal numbers (N, *shape) as `keyed_uniform` does, by Box and Muller's transform."""
    pair = keyed_uniform(keys, site, (2, *shape))
    radius = torch.sqrt(-2.0 * torch.log1p(-pair[:, 0]))
    return radius * torch.cos(2.0 * torch.pi * pair[:, 1])


def keyed_dropout(x: Tensor, rate: float, keys: Tensor | None, site: int, *, training: bool, axes: int = 0) -> Tensor:
    """Drop elements of ``x`` (N, ...) with probability ``rate`` and scale the rest by 1/(1 - rate).

    Args:
        x: (N, ...).
        rate: in [0, 1).
        keys: (N,) int64; required when something is dropped.
        site: the random place, see `keyed_uniform`.
        training: nothing happens when false.
        axes: draw one number for the first ``axes`` axes after N and share it over the others, as channel dropout
            does with 1; 0 draws one an element.

    Raises:
        ValueError: when ``keys`` is missing although numbers are needed.
    """
    if not training or rate == 0.0:
        return x
    if keys is None:
        raise ValueError("dropout in training mode needs the sequences' random keys: pass keys= to the encoder")
    kept = axes or x.dim() - 1
    drawn = tuple(x.shape[1 : 1 + kept])
    mask = (keyed_uniform(keys, site, drawn) >= rate).to(x.dtype) / (1.0 - rate)
    return x * mask.view(x.shape[0], *drawn, *([1] * (x.dim() - 1 - kept)))
