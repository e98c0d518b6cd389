"""Names of the intermediate results that encoders offer and methods ask for."""

from __future__ import annotations

GRAPH = "graph"
"""The last block's relation between joints: (N, S, V, V), see the encoders that offer it."""


def block_tap(index: int) -> str:
    """Return the name of the output of block ``index`` (from 1): (N, M, C, T, V), any strides."""
    return f"block{index}"
