"""Which configurations of a sweep that confirms a search are those that the search promised something of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stdcl.config.checkpoints import CHECKPOINTS
from stdcl.config.load import merge
from stdcl.config.sweep import Sweep
from stdcl.errors import UserError


def is_promised(sweep: Sweep | None, arm: str, parameters: Mapping[str, Any]) -> bool | None:
    """Whether a cell is what the search found, and not what a grid or ``--set`` made of it.

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
    if not parameters and confirms.base in (None, sweep.config.base):
        return True  # nothing to resolve, which another machine may not be able to: it may lack the plugin
    searched = sweep if confirms.base is None else replace(sweep, base=_with_places(confirms.base, sweep))
    seed = sweep.config.seeds[0]
    try:
        return (
            searched.make_trial(arm, {}, seed).fingerprint == sweep.make_trial(arm, dict(parameters), seed).fingerprint
        )
    except UserError:
        return None


def _with_places(base: Mapping[str, Any], sweep: Sweep) -> dict[str, Any]:
    """A base with what a sweep's own says of places: they are where it runs, no part of what was found."""
    path = sweep.base_value("data.path")
    places = {section: sweep.base[section] for section in ("resources", CHECKPOINTS) if section in sweep.base}
    return merge(base, {**places, **({} if path is None else {"data": {"path": path}})})
