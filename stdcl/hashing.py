"""SplitMix64 on signed 64-bit integers: the same bits for NumPy arrays and for torch tensors on any device.

Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. Products of 64-bit integers
wrap around in both libraries, so the constants are written as signed numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

GOLDEN = -7046029254386353131
"""2**64 divided by the golden ratio: the step between the generator's counters."""

_MULTIPLIERS = (-4658895280553007687, -7723592293110705685)
_SHIFTS = (30, 27)

Integers = TypeVar("Integers", "NDArray[np.int64]", "Tensor")
"""int64."""


def shift_right(x: Integers, bits: int) -> Integers:
    """Return ``x`` shifted right, with zeros coming in from the left as for unsigned integers."""
    shifted = x >> bits
    shifted &= (1 << (64 - bits)) - 1
    return shifted


def mix64_(x: Integers) -> Integers:
    """Apply the finaliser of SplitMix64 (a bijection) to ``x`` in place, and return it."""
    for bits, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=True):
        x ^= shift_right(x, bits)
        x *= multiplier
    x ^= shift_right(x, 31)
    return x


def mix64(x: Integers) -> Integers:
    """Return the finaliser of SplitMix64 of ``x``, which is left as it is."""
    return mix64_(x + 0)
