"""Published numbers beside ours, where the paper has one for the same setting."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from stdcl import specs
from stdcl.config import RunConfig
from stdcl.config.fingerprint import differing_keys, flat_scientific
from stdcl.config.load import resolve
from stdcl.config.model import METHOD_NAME, is_baseline
from stdcl.errors import UserError


def benchmark_test_sequences(dataset: str, protocol: str) -> int | None:
    """Return the test sequences of an official protocol, None where there is none.

    A table row over another number of sequences (a synthetic corpus, a validation split, an incomplete dataset) is no
    repetition of the published experiment.
    """
    spec = specs.datasets().get(dataset)
    part = spec.protocols.get(protocol) if spec is not None else None
    return part.num_test if part is not None else None


STRATEGY = "spatial+temporal"
"""The paper's own, in all tables but 4c."""
TEMPERATURE = "contrast.temperature"
TEMPERATURES = (0.5, 0.8, 1.0)
"""The paper chooses tau among these by result, and does not say which value each number has."""


@dataclass(frozen=True)
class Reported:
    """One published number; ``accuracy`` in percent, None where the paper leaves the cell empty."""

    method: str
    encoder: str
    arm: str
    dataset: str
    protocol: str
    stream: str
    run_stream: str
    parameter: str
    value: str
    accuracy: float | None
    metric: str
    source: str
    note: str


@dataclass(frozen=True)
class PaperValue:
    """The paper's number for a row of a table."""

    accuracy: float
    """Percent, as printed."""
    source: str
    temperature_unstated: bool
    """Whether the paper does not say the temperature behind it."""
    note: str
    differences: Mapping[str, tuple[Any, Any]]
    """Key -> (the trial's value, the published recipe's) of each key that can change a result and differs."""


@cache
def reported_results() -> tuple[Reported, ...]:
    """The paper's tables and the public projects' own numbers, as shipped with the package."""
    text = files("stdcl.report").joinpath("reported_results.csv").read_text(encoding="utf-8")
    return tuple(
        Reported(
            **{name: line[name] for name in Reported.__dataclass_fields__ if name != "accuracy"},
            accuracy=float(line["reported"]) if line["reported"] else None,
        )
        for line in csv.DictReader(text.splitlines())
    )


@cache
def published_setting(dataset: str, protocol: str, stream: str, encoder: str, arm: str) -> RunConfig | None:
    """The setting of a published number: the encoder's published recipe, with STD-CL as section 4.1 of the paper has
    it, or with another method (``arm`` is its name) as its public code has it.

    None where no recipe is published.
    """
    if arm in ("baseline", "std-cl"):
        treatment = {"contrast": {"strategy": "none" if arm == "baseline" else STRATEGY}}
    else:
        treatment = {"method": {"name": arm, "preset": "release"}}
    raw = {
        "recipe": "full",
        "data": {"dataset": dataset, "path": dataset, "protocol": protocol, "stream": stream},
        "encoder": {"name": encoder},
        **treatment,
    }
    try:
        return resolve(raw, "the published recipe")
    except UserError:
        return None


def paper_value(config: RunConfig, num_test: int | None, varied: Collection[str] = ()) -> PaperValue | None:
    """The paper's number for a setting, or None where it has none.

    It has none for another method or for another value of a key that a sweep asks about, unless its Table 4 reports
    that value. Where other keys differ from the published recipe (fewer epochs, say) the number comes with all of them.

    Args:
        config: the whole configuration of a trial.
        num_test: test sequences; must be the benchmark's own.
        varied: dotted keys that the sweep varies.
    """
    settings = flat_scientific(config)
    place = Place.of(settings)
    found = differences_to_published(place, settings, num_test)
    if found is None:
        return None
    asked = {key for key in found if key.startswith("contrast.") or key in varied}
    if len(asked) > 1:
        return None
    parameter = next(iter(asked), "")
    value = str(found.pop(parameter)[0]) if parameter else ""
    for row in reported_results():
        if (
            row.source.startswith("STD-CL paper")
            and (row.encoder, row.arm, row.dataset, row.protocol, row.run_stream)
            == (place.encoder, place.arm, place.dataset, place.protocol, place.stream)
            and (row.parameter, row.value) == (parameter, value)
            and row.accuracy is not None
        ):
            return PaperValue(row.accuracy, row.source, place.arm == "std-cl", row.note, found)
    return None


LEVELS_TABLE = "STD-CL paper Table 4(d)"


def level_value(settings: Mapping[str, Any], num_test: int, level: str) -> PaperValue | None:
    """The paper's mean class accuracy of a level of difficulty, or None where it has none for this setting.

    Args:
        settings: dotted key -> value of the run's configuration, as its scores have it; empty where it is not known.
        num_test: test sequences; must be the benchmark's own.
        level: ``Hard``, ``Medium`` or ``Easy``.
    """
    if not settings:
        return None
    place = Place.of(settings)
    found = differences_to_published(place, settings, num_test)
    if found is None or place.arm not in ("baseline", "std-cl") or any(key.startswith("contrast.") for key in found):
        return None
    encoder = specs.encoders().get(place.encoder)
    if encoder is None or not encoder.paper_name:
        return None
    method = f"{encoder.paper_name}{' w/ours' if place.arm == 'std-cl' else ''}"
    for row in reported_results():
        if (
            row.source == LEVELS_TABLE
            and (row.method, row.dataset, row.protocol, row.stream)
            == (method, place.dataset, place.protocol, f"level:{level}")
            and place.stream == "joint"  # the paper names no stream; its other tables of this kind are of joints
            and row.accuracy is not None
        ):
            return PaperValue(row.accuracy, row.source, place.arm == "std-cl", row.note, found)
    return None


@dataclass(frozen=True)
class Place:
    """What a published number is of."""

    dataset: str
    protocol: str
    stream: str
    encoder: str
    arm: str

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Place:
        return cls(
            dataset=str(settings.get("data.dataset")),
            protocol=str(settings.get("data.protocol")),
            stream=str(settings.get("data.stream")),
            encoder=str(settings.get("encoder.name")),
            arm=str(settings.get(METHOD_NAME) or ("baseline" if is_baseline(settings) else "std-cl")),
        )


@cache
def _flat_setting(place: Place) -> dict[str, Any] | None:
    setting = published_setting(place.dataset, place.protocol, place.stream, place.encoder, place.arm)
    return None if setting is None else flat_scientific(setting)


def is_elsewhere(dataset: str, protocol: str, num_test: int | None) -> bool:
    """Whether no published number can belong to results on so many test sequences."""
    return num_test is None or benchmark_test_sequences(dataset, protocol) != num_test


def differences_to_published(
    place: Place, settings: Mapping[str, Any], num_test: int | None
) -> dict[str, tuple[Any, Any]] | None:
    """How a setting differs from the published one; None where it is another experiment."""
    if is_elsewhere(place.dataset, place.protocol, num_test):
        return None
    setting = _flat_setting(place)
    if setting is None:
        return None
    found = differing_keys(settings, setting)
    found.pop("training.seed", None)
    temperature, _ = found.pop(TEMPERATURE, (None, None))
    if temperature is not None and temperature not in TEMPERATURES:
        found[TEMPERATURE] = temperature, ", ".join(map(str, TEMPERATURES))
    return found
