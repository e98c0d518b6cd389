"""Published numbers beside ours, where the paper has one for the same setting."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

# Test sequences of the official splits. A table row over another number of sequences (a synthetic corpus, a
# validation split, an incomplete data set) is no repetition of the published experiment.
BENCHMARK_TEST_SEQUENCES = {
    ("nw-ucla", "cross-view"): 464,
    ("ntu60", "x-sub"): 16_487,
    ("ntu60", "x-view"): 18_932,
    ("ntu120", "x-sub"): 50_919,
    ("ntu120", "x-set"): 59_477,
}

# What the paper states of the setting of its Tables 1 and 2 (section 4.1 and Table 4).
STATED: dict[str, Any] = {
    "contrast.strategy": "spatial+temporal",
    "contrast.channel_reduction": 8,
    "contrast.embedding_dim": 256,
    "contrast.hard_positives": 128,
    "contrast.hard_negatives": 512,
    "contrast.random_negatives": 512,
}
TEMPERATURES = (0.5, 0.8, 1.0)
"""The paper chooses tau among these by result, and does not say which value stands behind which number."""

_IDENTITY = ("encoder.name", "data.dataset", "data.protocol", "data.stream")


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


def paper_value(
    *, dataset: str, protocol: str, stream: str, encoder: str, num_test: int | None, settings: Mapping[str, Any]
) -> PaperValue | None:
    """The paper's number for a setting, or None where it has none.

    Args:
        dataset, protocol, stream, encoder: as in a configuration.
        num_test: test sequences; must be the benchmark's own.
        settings: dotted key -> value, of everything that is known of the trial and says how it differs from the
            paper's setting: what the sweep varies, and ``contrast.strategy``.
    """
    if num_test is None or BENCHMARK_TEST_SEQUENCES.get((dataset, protocol)) != num_test:
        return None
    strategy = settings.get("contrast.strategy", STATED["contrast.strategy"])
    arm = "baseline" if strategy == "none" else "std-cl"
    varied = {key: value for key, value in settings.items() if key not in _IDENTITY and key != "training.seed"}
    if arm == "baseline":
        varied = {key: value for key, value in varied.items() if not key.startswith("contrast.")}
    temperature = varied.pop("contrast.temperature", None)
    if temperature is not None and temperature not in TEMPERATURES:
        return None
    differing = {key: value for key, value in varied.items() if STATED.get(key) != value}
    if len(differing) > 1:
        return None
    parameter, value = next(iter(differing.items()), ("", ""))
    for row in reported_results():
        if (
            row.source.startswith("STD-CL paper")
            and (row.encoder, row.arm, row.dataset, row.protocol, row.run_stream)
            == (encoder, arm, dataset, protocol, stream)
            and (row.parameter, row.value) == (parameter, str(value))
            and row.accuracy is not None
        ):
            return PaperValue(row.accuracy, row.source, arm == "std-cl", row.note)
    return None
