"""Similarities of all anchors with one shard, the same to the last bit however the bank is sharded.

A matrix product may sum the same two vectors in another order when the matrices have another shape or the row sits at
another place, which would let a near-tie fall differently for another number of ranks. Two things prevent it: every
product has the same shape (``TILE`` rows by a multiple of ``ANCHORS`` anchors, tail tiles filled up with zeros), and
within that shape each entry goes through the same kernel (whole blocks, aligned rows). The tests measure that it holds.
"""

from __future__ import annotations

import torch
from torch import Tensor

TILE = 1024
ANCHORS = 16


def anchor_columns(batch_size: int) -> int:
    """Number of anchor columns in every product of this batch size."""
    return -(-batch_size // ANCHORS) * ANCHORS


def tiled(rows: int) -> int:
    """Return the number of rows of whole tiles that hold ``rows`` and one row for "no slot"."""
    return -(-(rows + 1) // TILE) * TILE


def score_buffer(rows: int, batch_size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return an uninitialised buffer for ``score_rows``."""
    return torch.empty(tiled(rows), anchor_columns(batch_size), device=device, dtype=dtype)


def score_rows(features: Tensor, hidden: Tensor, anchors: Tensor, out: Tensor) -> Tensor:
    """Fill ``out`` with the similarity of every row and anchor, -inf in rows that are hidden or do not exist.

    Args:
        features: ``(R + 1, D)`` rows; the last stands for no slot.
        hidden: ``(tiles * TILE, 1)``: 0 for rows that may be chosen, -inf for others.
        anchors: ``(B, D)``.
        out: ``(tiles * TILE, columns)`` from ``score_buffer``.

    Returns:
        ``(tiles * TILE, B)``, a view of ``out``.
    """
    # Stored by dimension: by anchor, products in float64 depended on the number of threads (MKL, Sapphire Rapids).
    wide = anchors.new_zeros(features.shape[1], out.shape[1])
    wide[: anchors.shape[1], : anchors.shape[0]] = anchors.t()
    for tile, hide, part in zip(*(torch.split(x, TILE) for x in (features, hidden, out)), strict=True):
        if len(tile) < TILE:
            tile = torch.cat([tile, tile.new_zeros(TILE - len(tile), tile.shape[1])])
        torch.mm(tile, wide, out=part)
        part.add_(hide)  # while the tile is in the cache; it also makes every zero positive
    return out[:, : anchors.shape[0]]
