"""Which configurations of a sweep that confirms a search are those that the search promised something of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stdcl.config.sweep import Sweep
from stdcl.errors import UserError


def is_promised(sweep: Sweep | None, arm: str, parameters: Mapping[str, Any]) -> bool | None:
    """Whether a cell is what the search found, and not what a grid beside the search's arms made of it.

    Args:
        sweep: the sweep that confirms; anything else promises nothing.
        arm: of the cell.
        parameters: dotted key -> value, of what the sweep varies beside its arms.

    Returns:
        None where the arm's configuration without the grid cannot be resolved, so that the search's is not known.
    """
    confirms = sweep.config.confirms if sweep is not None else None
    if sweep is None or confirms is None or arm not in confirms.arms:
        return False
    if not parameters:
        return True
    seed = sweep.config.seeds[0]
    try:
        own, here = (sweep.make_trial(arm, cell, seed).fingerprint for cell in ({}, dict(parameters)))
    except UserError:
        return None
    return own == here
