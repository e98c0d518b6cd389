"""Trials of one or several sweeps by configuration: what seeds have in common is one line, whichever sweep ran them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stdcl.config.arms import shared
from stdcl.config.fingerprint import flat_scientific
from stdcl.report.load import SweepState, TrialState
from stdcl.report.published import Place
from stdcl.report.table import is_synthetic
from stdcl.results.layout import RunFolder

_SEED = "training.seed"
_OF_THE_STREAM = ("data.stream", "data.convention", "data.orientation", "encoder.")
"""Keys that may differ between the streams that are fused: encoders have options that belong to a stream."""


@dataclass(frozen=True)
class SweepCell:
    """A configuration in a sweep.

    Attributes:
        directory: of the sweep.
        arm: its name there.
        parameters: dotted key -> value, of what the sweep varies beside its arms.
    """

    directory: Path
    arm: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """One configuration over its seeds.

    Attributes:
        settings: dotted key -> value of what can change a result, without the seed.
        place: what it is a result of.
        parameters: dotted key -> value, of what its sweeps vary.
        trials: one per seed, in ascending order of seeds.
        sweeps: name of each trial's sweep.
        planned: seeds as its sweeps planned them before their first result.
        cells: what it is in each sweep that contains it, whichever of them its trials are counted for.
    """

    settings: Mapping[str, Any]
    place: Place
    parameters: Mapping[str, Any]
    trials: tuple[TrialState, ...]
    sweeps: tuple[str, ...]
    planned: tuple[int, ...]
    cells: tuple[SweepCell, ...]

    @property
    def finished(self) -> tuple[TrialState, ...]:
        """The trials with a result."""
        return tuple(trial for trial in self.trials if trial.state == "finished")

    @property
    def num_test(self) -> int | None:
        """Evaluated sequences; None where no trial is finished, or they differ."""
        counts = {int(trial.row["num_test"]) for trial in self.finished}
        return counts.pop() if len(counts) == 1 else None

    @property
    def synthetic(self) -> bool:
        """Whether its data are made up."""
        return any(map(is_synthetic, self.trials))

    @property
    def names(self) -> tuple[str, ...]:
        """``sweep/trial`` of each trial."""
        return tuple(f"{sweep}/{trial.key}" for sweep, trial in zip(self.sweeps, self.trials, strict=True))

    @property
    def apart_from_treatment(self) -> str:
        """Equal for lines that differ in the method alone."""
        return _text(shared(self.settings))

    @property
    def apart_from_stream(self) -> str:
        """Equal for lines that differ in the stream alone."""
        rest = {key: value for key, value in self.settings.items() if not key.startswith(_OF_THE_STREAM)}
        return _text({**rest, "encoder": self.place.encoder})


@dataclass
class _Open:
    settings: dict[str, Any]
    place: Place
    parameters: Mapping[str, Any]
    by_seed: dict[int, tuple[str, TrialState]] = field(default_factory=dict)
    planned: dict[int, None] = field(default_factory=dict)
    cells: list[SweepCell] = field(default_factory=list)


def lines_of(sweeps: Iterable[SweepState]) -> tuple[tuple[Line, ...], tuple[str, ...]]:
    """Group the trials of sweeps.

    A training that several sweeps contain counts once, finished ones first.

    Returns:
        The lines in the order of the sweeps' plans, and what was left out and why.
    """
    found: dict[str, _Open] = {}
    remarks: list[str] = []
    for sweep in sweeps:
        for trial in sweep.trials:
            config = sweep.config_of(trial)
            if config is None:
                remarks.append(f"left out, its configuration cannot be read: {sweep.name}/{trial.key}")
                continue
            if trial.config is None and trial.state == "finished" and (path := RunFolder(trial.folder).config).exists():
                remarks.append(
                    f"{path}: damaged, or of another version; what this trial was is taken from the sweep's file"
                )
            settings = {key: value for key, value in flat_scientific(config).items() if key != _SEED}
            line = found.setdefault(_text(settings), _Open(settings, Place.of(settings), trial.parameters))
            known = line.by_seed.get(trial.seed)
            if known is not None and (differing := _two_results(known, (sweep.name, trial))):
                remarks.append(differing)
            if known is None or (known[1].state != "finished" and trial.state == "finished"):
                line.by_seed[trial.seed] = (sweep.name, trial)
            line.planned |= dict.fromkeys(sweep.seeds)
            cell = SweepCell(sweep.directory, trial.arm, trial.parameters)
            if cell not in line.cells:
                line.cells.append(cell)
    return tuple(map(_closed, found.values())), tuple(remarks)


def _two_results(known: tuple[str, TrialState], other: tuple[str, TrialState]) -> str:
    """What is wrong where two sweeps have different results of one training; empty where nothing is."""
    if any(trial.state != "finished" for _, trial in (known, other)):
        return ""
    (first, one), (second, two) = known, other
    values = [float(trial.row["accuracy"]) for trial in (one, two)]
    if values[0] == values[1]:
        return ""
    return (
        f"two results of one training: {first}/{one.key} has {100 * values[0]:.2f} %, {second}/{two.key} has "
        f"{100 * values[1]:.2f} %; the first counts"
    )


def _closed(line: _Open) -> Line:
    pairs = [line.by_seed[seed] for seed in sorted(line.by_seed)]
    return Line(
        settings=line.settings,
        place=line.place,
        parameters=line.parameters,
        trials=tuple(trial for _, trial in pairs),
        sweeps=tuple(name for name, _ in pairs),
        planned=tuple(line.planned),
        cells=tuple(line.cells),
    )


def varied(lines: Sequence[Line]) -> tuple[str, ...]:
    """The keys in which lines differ."""
    keys = dict.fromkeys(key for line in lines for key in line.settings)
    return tuple(key for key in keys if len({_text(line.settings.get(key)) for line in lines}) > 1)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
