"""What a CPU can do at all, in the run that measures something else: the better of a large product and a convolution.

The two go through different libraries (MKL or OpenBLAS; oneDNN), and which is faster depends on the processor's maker:
on an AMD processor MKL's products reach less than half of what oneDNN's convolutions do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

SIZE = 2048
CHANNELS, PLACES = 512, 4096


@dataclass
class Peak:
    """Times of the two kinds of work, taken in turn with what is measured.

    Attributes:
        products: seconds of each square product.
        convolutions: seconds of each 1x1 convolution.
    """

    products: list[float] = field(default_factory=list)
    convolutions: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._square = torch.randn(SIZE, SIZE)
        image = torch.randn(1, CHANNELS, PLACES, 1)
        self._image = image.contiguous(memory_format=torch.channels_last)
        self._kernel = torch.randn(CHANNELS, CHANNELS, 1, 1)

    def take(self, seconds: Callable[[Callable[[], object]], float], keep: bool = True) -> None:
        """Run both once; ``seconds`` times a call."""
        product = seconds(lambda: self._square @ self._square)
        convolution = seconds(lambda: torch.conv2d(self._image, self._kernel))
        if keep:
            self.products.append(product)
            self.convolutions.append(convolution)

    def flops(self, of: Callable[[list[float]], float] = min) -> float:
        """Return floating-point operations per second; ``of`` picks from the repeats (``min``, a median)."""
        return max(2 * SIZE**3 / of(self.products), 2 * CHANNELS**2 * PLACES / of(self.convolutions))

    def kind(self) -> str:
        """Return which of the two is the peak."""
        product, convolution = 2 * SIZE**3 / min(self.products), 2 * CHANNELS**2 * PLACES / min(self.convolutions)
        return "product" if product >= convolution else "convolution"
