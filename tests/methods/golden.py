"""Golden numbers of the comparison methods: tensors made from names, and statistics of what comes out."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"


def load(method: str) -> dict[str, Any]:
    """Return the golden file of a method."""
    content: dict[str, Any] = json.loads((FOLDER / f"{method}.json").read_text())
    return content


def raw(name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the standard normal numbers that belong to a name."""
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)


def arr(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return ``raw`` in float32."""
    return torch.from_numpy(raw(name, shape)).to(torch.float32)


def parameter(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return a parameter by the fill rule, which the last part of its name decides."""
    w = raw(name, shape)
    match name.rsplit(".", 1)[-1]:
        case "w":
            w = w / math.sqrt(math.prod(shape[1:]))
        case "b" | "beta" | "mean":
            w = 0.05 * w
        case "gamma":
            w = 1 + 0.1 * w
        case "var":
            w = 1 + 0.3 * np.abs(w)
        case "scale":
            w = math.log(1 / 0.07) + 0.1 * w
        case "proto":
            pass
        case other:
            raise ValueError(f"no fill rule for '{other}'")
    return torch.from_numpy(np.asarray(w)).to(torch.float32)


def assert_stat(x: Tensor, want: dict[str, Any], tolerance: float = 1e-4, what: str = "") -> None:
    """Assert that a tensor has the golden statistics, each to ``tolerance`` of the largest value of its kind.

    Absolute values are compared relative to ``absmax``; norms and weighted sums relative to the norm.
    """
    flat = x.detach().double().flatten()
    assert flat.numel() == want["size"], what
    weights = torch.cos(0.01 * torch.arange(flat.numel(), dtype=torch.float64))
    got = {
        "mean": (float(flat.mean()), want["absmax"]),
        "std": (float(flat.std(unbiased=False)), want["absmax"]),
        "absmax": (float(flat.abs().max()), want["absmax"]),
        "norm": (float(flat.norm()), want["norm"]),
        "wsum": (float((flat * weights).sum()), want["norm"]),
    }
    for key, (value, scale) in got.items():
        if key in want:
            assert abs(value - want[key]) <= tolerance * scale, f"{what}: {key} is {value}, golden {want[key]}"
    for key, values in (("first", flat), ("last", flat.flip(0))):
        entries = torch.tensor(want[key] if key == "first" else want[key][::-1], dtype=torch.float64)
        worst = float((values[: len(entries)] - entries).abs().max())
        assert worst <= tolerance * want["absmax"], f"{what}: {key} differ by {worst}"
