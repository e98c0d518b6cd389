"""Random numbers that belong to a sequence: pure functions of (key, site, position).

A key is one 64-bit integer a sequence and step. A sequence therefore meets the same dropout mask and the same noise
whatever the batch, the rank or the device it is computed on, and nothing random is left in a module's state.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = 31


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def _mix(bits: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014) on int64, whose products wrap around."""

    def xor_shift(x: Tensor, by: int) -> Tensor:
        return x ^ ((x >> by) & ((1 << (64 - by)) - 1))  # >> copies the sign: mask it away

    for shift, factor in _ROUNDS:
        bits = xor_shift(bits, shift) * _signed(factor)
    return xor_shift(bits, _LAST_SHIFT)


def _bits(keys: Tensor, site: int, count: int) -> Tensor:
    stream = _mix(_mix(keys.to(torch.int64)) + _signed((site + 1) * _GOLDEN))
    steps = torch.arange(1, count + 1, device=keys.device, dtype=torch.int64) * _signed(_GOLDEN)
    return _mix(stream[:, None] + steps)


def keyed_uniform(keys: Tensor, site: int, count: int) -> Tensor:
    """Return independent uniforms of the open interval (0, 1).

    Args:
        keys: (N,) int64, one a sequence.
        site: a number for the place in the network; two places never share numbers.
        count: numbers a sequence.

    Returns:
        (N, count) float32, on the device of ``keys``, equal on every device.
    """
    upper = (_bits(keys, site, count) >> 41) & ((1 << 23) - 1)
    return (upper.to(torch.float32) + 0.5) * 2.0**-23


def keyed_normal(keys: Tensor, site: int, count: int) -> Tensor:
    """Return independent standard normals, (N, count) float64 (Box-Muller). Arguments as in :func:`keyed_uniform`."""
    half = (count + 1) // 2
    uniform = keyed_uniform(keys, site, 2 * half).double()
    radius = torch.sqrt(-2.0 * torch.log(uniform[:, :half]))
    angle = 2.0 * math.pi * uniform[:, half:]
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :count]


def keyed_dropout(x: Tensor, rate: float, keys: Tensor, site: int, repeat: int = 1) -> Tensor:
    """Drop whole channels of ``x`` with probability ``rate`` and scale the others by 1 / (1 - rate).

    Args:
        x: (N * repeat, C, ...); the mask is shared by everything after the channel axis.
        rate: probability of a zero, in [0, 1).
        keys: (N,) int64.
        site: as in :func:`keyed_uniform`.
        repeat: rows of ``x`` a key (persons), each with a mask of its own.
    """
    channels = x.shape[1]
    keep = keyed_uniform(keys, site, repeat * channels) >= rate
    scale = keep.to(x.dtype) / (1.0 - rate)
    return x * scale.view(keys.shape[0] * repeat, channels, *([1] * (x.dim() - 2)))


def fresh_keys(count: int, device: torch.device) -> Tensor:
    """Draw keys from torch's own generator, for callers in training mode who give none."""
    return torch.randint(-(1 << 62), 1 << 62, (count,), device=device)
