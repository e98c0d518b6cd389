"""The trials of a sweep: those of its plan, and those that a search has run although its plan does not hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stdcl.config.arms import FORMER
from stdcl.config.yaml_text import parse_yaml
from stdcl.errors import UserError
from stdcl.results.layout import SweepFolder
from stdcl.results.plan import Plan, PlannedTrial, Search


def search_of(folder: SweepFolder, plan: Plan) -> Search:
    """Return how a sweep's trials are chosen: as its plan says, else its file; an empty plan without is a search's."""
    return plan.search or _said_by_file(folder) or ("grid" if plan.trials else "optuna")


def known_trials(plan: Plan, search: Search, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, PlannedTrial]:
    """Return a sweep's trials by key: the planned ones, and of a search the others that have a result.

    An archive can lack what was added to a search's plan: earlier ones do. A grid's results that are not in its plan
    are of values that its file no longer names.

    Args:
        plan: the sweep's.
        search: see ``search_of``.
        rows: key -> the row of a trial's latest attempt.
    """
    found = {trial.key: trial for trial in plan.trials}
    if search == "optuna":
        for key, row in rows.items():
            found.setdefault(key, PlannedTrial(key, str(row.get("arm", FORMER)), row["parameters"], int(row["seed"])))
    return found


def _said_by_file(folder: SweepFolder) -> Search | None:
    try:
        content = parse_yaml(folder.sweep_file.read_text(encoding="utf-8"), str(folder.sweep_file))
    except (OSError, UnicodeDecodeError, UserError):
        return None
    said = content.get("search") if isinstance(content, dict) else None
    return "optuna" if said == "optuna" else "grid" if said == "grid" else None
