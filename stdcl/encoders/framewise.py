"""Parts shared by the encoders that attend within a frame: channels-last tensors with frames first, (B, T, V, C)."""

from __future__ import annotations

from torch import Tensor, nn

from stdcl.encoders.layers import Pointwise, init_kaiming
from stdcl.parallel.batch_norm import BatchNorm


class InputNorm(BatchNorm):
    """Batch normalisation of the input over M V C channels: persons, then joints, then coordinates."""

    def __init__(self, num_persons: int, num_joints: int, channels: int = 3) -> None:
        super().__init__(num_persons * num_joints * channels)
        self.num_persons = num_persons

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """Normalise (N, C, T, V, M) and return (N M, T, V, C), contiguous."""
        n, c, t, v, m = x.shape
        rows = x.permute(0, 2, 4, 3, 1).reshape(n, t, m * v * c)
        normalised = super().forward(rows, residual, relu)
        return normalised.view(n, t, m, v, c).transpose(1, 2).reshape(n * m, t, v, c)


def pool(features: Tensor, num_persons: int) -> tuple[Tensor, Tensor]:
    """Return the feature map (N, M, C, T, V), a view, and its mean over frames, joints and persons (N, C).

    Args:
        features: (N M, T, V, C). Absent persons count like present ones.
        num_persons: M.
    """
    by_person = features.view(features.shape[0] // num_persons, num_persons, *features.shape[1:])
    return as_map(features, num_persons), by_person.mean(dim=(1, 2, 3))


def as_map(features: Tensor, num_persons: int) -> Tensor:
    """View (N M, T, V, C) as a feature map (N, M, C, T, V)."""
    by_person = features.view(features.shape[0] // num_persons, num_persons, *features.shape[1:])
    return by_person.permute(0, 1, 4, 2, 3)


class Projection(nn.Module):
    """A shortcut that changes the shape: 1x1 convolution, strided over frames, and batch normalisation."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, kaiming: bool = True) -> None:
        super().__init__()
        self.stride = (stride, 1)
        self.conv = Pointwise(channels_in, channels_out)
        self.bn = BatchNorm(channels_out)
        if kaiming:
            init_kaiming(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, V, Cin) to (B, T', V, C)."""
        y: Tensor = self.bn(self.conv(x, self.stride))
        return y
