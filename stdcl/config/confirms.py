"""Where a sweep that confirms a search comes from: what the search promised, and what it had trained with."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from stdcl.config.section import Positive, Section, Seed


class PromiseConfig(Section):
    """What a search found for one of its configurations."""

    trial: str
    """The trial of the search."""
    accuracy: float = Field(ge=0, le=1)
    """After its last epoch, a fraction of the held-out sequences."""
    sequences: Positive | None = None
    """The held-out sequences that it was judged on; null where the search's results do not say."""


class ConfirmsConfig(Section):
    """The search whose best configurations a sweep trains again; `stdcl confirm` writes it."""

    search: str = Field(min_length=1)
    """Name of the search."""
    judged: Positive
    """Trials that it had judged: among so many the best were picked."""
    seeds: list[Seed] = Field(min_length=1)
    """Its seeds, which the sweep may not use again."""
    arms: dict[str, PromiseConfig] = Field(min_length=1)
    """Arm -> what the search promised of it."""
    base: dict[str, Any] | None = None
    """The base under which it promised that, with the test set; null in a file of an earlier version: the sweep's."""
