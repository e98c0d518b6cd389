"""Names of a search's trials: short, with the number by which Optuna and its dashboard know them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import optuna

from stdcl.config.sweep import Trial

_LONGEST = 64  # characters of the parameters; the dashboard has them all


class TrialNames:
    """Gives each configuration one name, whatever trial of the study proposes it.

    A trial that is proposed again after it was cut off, and one of equal parameters, keep the name of the first: it
    names the run folder, in which they resume or find a complete run. Trials of earlier versions keep theirs.

    Args:
        trials: of the study, so far.
    """

    def __init__(self, trials: Iterable[optuna.trial.FrozenTrial]) -> None:
        self._names: dict[str, str] = {}
        for trial in trials:
            attributes = trial.user_attrs
            if "trial" in attributes and "fingerprint" in attributes:
                self._names.setdefault(str(attributes["fingerprint"]), str(attributes["trial"]))

    def named(self, trial: Trial, number: int) -> Trial:
        """Return the trial under its configuration's name, which is made of ``number`` if it has none yet."""
        known = self._names.setdefault(trial.fingerprint, _name(number, trial.parameters, trial.fingerprint))
        return replace(trial, key=known)


def _name(number: int, parameters: Mapping[str, Any], fingerprint: str) -> str:
    parts = [f"{key.rpartition('.')[2]}={_short(value)}" for key, value in parameters.items()]
    return f"trial={number},{','.join(parts)[:_LONGEST]},{fingerprint[:8]}"


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-")
