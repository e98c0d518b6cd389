"""Random numbers that an encoder may use: pure functions of a sequence's key, the same in any batch and on any rank."""

from __future__ import annotations

import torch
from torch import Tensor

from stdcl.hashing import GOLDEN, mix64, shift_right


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
    stream = mix64(keys + GOLDEN) ^ mix64(torch.full_like(keys, site) * GOLDEN + 1)
    counters = torch.arange(1, count + 1, device=keys.device) * GOLDEN
    bits = shift_right(mix64(mix64(stream)[:, None] + counters), 40)
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
