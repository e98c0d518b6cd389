"""What a search's figures show: which parameters matter and how surely, and every trial across all parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stdcl.report.labels import short_names, trial_number, value_text
from stdcl.report.load import TrialState
from stdcl.report.table import SweepTable

_FEW_VALUES = 6  # of a parameter, to be written out beside its axis


@dataclass(frozen=True)
class Shared:
    """A parameter's share of the importance in percent, and the middle 90 % of resampled studies."""

    label: str
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Axis:
    """An axis of parallel coordinates: (place between 0 and 1, text) of its ticks."""

    label: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Path:
    """A trial across the axes.

    Attributes:
        label: which trial, its values and its accuracy.
        places: between 0 and 1, one per axis; the last is the accuracy's.
        finished: False for a trial that was stopped early, whose accuracy is that of its last epoch.
        best: the one at the top of the table.
        strength: between 0 and 1, by its rank among those that finished; how strongly it is drawn.
    """

    label: str
    places: tuple[float, ...]
    finished: bool
    best: bool
    strength: float


@dataclass(frozen=True)
class Parallel:
    """Parallel coordinates: an axis per parameter and one of accuracy in percent, and a path per trial."""

    axes: tuple[Axis, ...]
    paths: tuple[Path, ...]


def importances(table: SweepTable) -> list[Shared]:
    """The parameters, most important first; empty where nothing was computed."""
    if table.importance is None:
        return []
    names = short_names(table.parameters)
    shares = sorted(table.importance.parameters.items(), key=lambda each: (-each[1].share, each[0]))
    return [Shared(names.get(key, key), 100 * s.share, 100 * s.low, 100 * s.high) for key, s in shares]


def importance_basis(table: SweepTable) -> str:
    """By what, and from how many trials, the importances were computed."""
    found = table.importance
    if found is None:
        return ""
    left = f", {found.pruned} that were stopped early left out" if found.pruned else ""
    return f"{found.method} over {found.complete} complete trials{left}; line: middle 90 % of resampled studies"


def undominated(table: SweepTable) -> list[TrialState]:
    """The finished trials that no other beats in accuracy without being slower, the most accurate first.

    Empty where the search has accuracy alone to judge by.
    """
    if len(table.objectives) < 2:
        return []
    known = [(trial, -float(trial.row["accuracy"]), _seconds(trial)) for trial in table.finished]
    front = [
        (loss, trial)
        for trial, loss, seconds in known
        if seconds is not None
        and not any(
            other_seconds is not None
            and other <= loss
            and other_seconds <= seconds
            and (other, other_seconds) != (loss, seconds)
            for _, other, other_seconds in known
        )
    ]
    return [trial for _, trial in sorted(front, key=lambda pair: (pair[0], pair[1].key))]


def _seconds(trial: TrialState) -> float | None:
    seconds = trial.row.get("seconds_per_epoch")
    return None if seconds is None else float(seconds)


def parallel(table: SweepTable) -> Parallel | None:
    """Every trial with an accuracy across the searched parameters that all have; None with fewer than two."""
    known = [trial for trial in table.trials if trial.state in ("finished", "pruned") and "accuracy" in trial.row]
    keys = tuple(key for key in table.parameters if all(key in trial.parameters for trial in known))
    if len(known) < 2 or not keys:
        return None
    names = short_names(keys)
    scales = [_scale(key, [trial.parameters[key] for trial in known], key in table.logarithmic) for key in keys]
    accuracies = [float(trial.row["accuracy"]) for trial in known]
    low, high = min(accuracies), max(accuracies)
    axes = [Axis(names[key], _ticks(scale)) for key, scale in zip(keys, scales, strict=True)]
    middle = (low + high) / 2
    axes.append(
        Axis("accuracy, %", tuple((_share(v, low, high), f"{100 * v:.1f}") for v in dict.fromkeys((low, middle, high))))
    )
    best = table.top[0].key if table.top else ""
    ended = sorted(float(trial.row["accuracy"]) for trial in known if trial.state == "finished")
    paths = [
        Path(
            label=_label(trial, names, accuracy),
            places=(
                *(scale.place(trial.parameters[key]) for key, scale in zip(keys, scales, strict=True)),
                _share(accuracy, low, high),
            ),
            finished=trial.state == "finished",
            best=trial.key == best,
            strength=_share(ended.index(accuracy), 0, len(ended) - 1) if trial.state == "finished" else 0.0,
        )
        for trial, accuracy in zip(known, accuracies, strict=True)
    ]
    # The best is drawn last, above all others, and those that were stopped below those that ended.
    return Parallel(tuple(axes), tuple(sorted(paths, key=lambda path: (path.best, path.finished, path.places[-1]))))


@dataclass(frozen=True)
class _Scale:
    """Places of a parameter's values: by number or logarithm, or evenly where they are names or few."""

    values: tuple[Any, ...]
    even: bool
    log: bool

    def place(self, value: Any) -> float:
        if self.even:
            return _share(self.values.index(value), 0, len(self.values) - 1)
        low, high = self.values[0], self.values[-1]
        if self.log:
            return _share(math.log(value), math.log(low), math.log(high))
        return _share(float(value), float(low), float(high))


def _scale(key: str, values: Sequence[Any], log: bool) -> _Scale:
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    distinct = sorted(set(values), key=lambda v: (0.0, float(v)) if numeric else (str(type(v)), str(v)))
    even = not numeric or (len(distinct) <= _FEW_VALUES and not any(isinstance(v, float) for v in distinct))
    return _Scale(tuple(distinct), even, log and numeric and distinct[0] > 0)


def _ticks(scale: _Scale) -> tuple[tuple[float, str], ...]:
    if scale.even:
        return tuple((scale.place(value), value_text(value)) for value in scale.values)
    low, high = float(scale.values[0]), float(scale.values[-1])
    middle = math.sqrt(low * high) if scale.log else (low + high) / 2
    return tuple((scale.place(value), f"{value:.3g}") for value in dict.fromkeys((low, middle, high)))


def _share(value: float, low: float, high: float) -> float:
    return 0.5 if high == low else (value - low) / (high - low)


def _label(trial: TrialState, names: Mapping[str, str], accuracy: float) -> str:
    values = ", ".join(f"{name} {value_text(trial.parameters[key])}" for key, name in names.items())
    epochs = trial.row.get("epochs", trial.epochs_done)
    how = "" if trial.state == "finished" else f", stopped after {epochs} epoch{'s' * (epochs != 1)}"
    return f"trial {trial_number(trial.key) or trial.key}: {100 * accuracy:.2f} % ({values}{how})"
