"""What of a training's state stays on the disk. None of it changes a result, so none is a part of a fingerprint."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from stdcl.config.section import Section

CHECKPOINTS = "checkpoints"
"""The section's name, of a run and of a sweep."""
_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"^(\d+(?:\.\d+)?) ?([KMGT]i?B)$", re.IGNORECASE)

Keep = Literal["all", "weights"]


class CheckpointsConfig(Section):
    """How many checkpoints a training has, and what is left of them at its end."""

    keep: Keep = "all"
    """After the last epoch. all: the last and the best checkpoint, whole. weights: of both the weights alone, enough to
    evaluate, to predict and to fine-tune; optimiser and banks go, so the training cannot be made longer."""
    copies: Annotated[int, Field(ge=2, le=4)] = 4
    """The most checkpoints that lie on the disk at a moment, that which is being written included. 2: the last; 3: also
    the one before; 4: also the best epoch's."""


class SweepCheckpointsConfig(Section):
    """What the checkpoints of a sweep may take of the disk."""

    keep: Keep = "weights"
    """What a finished trial keeps of its last and its best checkpoint: the weights, or all, to train it longer."""
    budget: str | None = None
    """The most that all checkpoints of the sweep take at any moment, for example 50GB (MB, GB, TB, MiB, GiB, TiB).
    Those that are being written count. One that is too small is refused before the start. null: no limit."""

    @field_validator("budget")
    @classmethod
    def _a_size(cls, value: str | None) -> str | None:
        if value is not None:
            parse_size(value)
        return value

    @property
    def budget_bytes(self) -> int | None:
        """The budget; None for no limit."""
        return None if self.budget is None else parse_size(self.budget)


def parse_size(text: str) -> int:
    """Return the bytes that ``50GB`` or ``1.5 TiB`` names.

    Raises:
        ValueError: it names none.
    """
    match = _SIZE.match(text.strip())
    size = int(float(match.group(1)) * _UNITS.get(match.group(2).upper(), 0)) if match else 0
    if size <= 0:
        raise ValueError(f"{text!r} is no size; give a number above 0 with MB, GB, TB, MiB, GiB or TiB, as in 50GB")
    return size


def show_size(size: float) -> str:
    """Return bytes as people write them, in units of 1000: ``3.2 GB``."""
    for unit, one in (("TB", 1e12), ("GB", 1e9)):
        if size >= one:
            return f"{size / one:.1f} {unit}"
    return f"{size / 1e6:.1f} MB" if size < 1e7 else f"{size / 1e6:.0f} MB"
