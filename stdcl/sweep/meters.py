"""What Prometheus sees of a sweep on a cluster: gauges of each trial's last epoch, through Ray's own metrics.

Ray's nodes serve them beside its own, with the prefix ``ray_`` (docs/clusters.md; ``ray_cluster/grafana.json``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

FIGURES: Mapping[str, tuple[str, str]] = {
    "epoch": ("stdcl_epoch", "Complete epochs of a trial"),
    "accuracy": ("stdcl_accuracy", "Accuracy after the last epoch that was evaluated, 0 to 1"),
    "loss": ("stdcl_loss", "Mean loss of the last epoch"),
    "sequences_per_second": ("stdcl_sequences_per_second", "Sequences trained a second, over all workers"),
    "contrast/share_of_step": ("stdcl_contrast_share_of_step", "Part of a step's time that the contrast takes, 0 to 1"),
    "contrast/bytes_per_step": (
        "stdcl_contrast_bytes_per_step",
        "Bytes that a worker sends for the contrast in a step",
    ),
}
"""Name in an epoch's row -> name and description of a gauge."""

AGE = "contrast/{}/age"
BRANCHES = ("spatial", "temporal", "global")
AGE_GAUGE = ("stdcl_bank_age_steps", "Mean age of the bank's rows that were chosen, in steps")


class Gauge(Protocol):
    """The part of ``ray.util.metrics.Gauge`` that is used here."""

    def set(self, value: float, tags: dict[str, str]) -> None: ...


MakeGauge = Callable[[str, str, tuple[str, ...]], Gauge]


def _ray_gauge(name: str, description: str, tags: tuple[str, ...]) -> Gauge:
    from ray.util import metrics

    made: Gauge = metrics.Gauge(name, description=description, tag_keys=tags)
    return made


class Meters:
    """Gauges of one sweep; each is made when it is first needed.

    Args:
        sweep: its name.
        make: makes a gauge (name, description, keys of its tags).
    """

    def __init__(self, sweep: str, make: MakeGauge = _ray_gauge) -> None:
        self._sweep, self._make = sweep, make
        self._gauges: dict[str, Gauge] = {}

    def row(self, trial: str, row: Mapping[str, Any]) -> None:
        """Show a trial's epoch; what the row does not hold stays as it was."""
        tags = {"sweep": self._sweep, "trial": trial}
        for name, (gauge, description) in FIGURES.items():
            self._set(gauge, description, tags, row.get(name))
        for branch in BRANCHES:
            self._set(*AGE_GAUGE, {**tags, "branch": branch}, row.get(AGE.format(branch)))

    def _set(self, name: str, description: str, tags: dict[str, str], value: Any) -> None:
        if not isinstance(value, (int, float)):
            return
        if name not in self._gauges:
            self._gauges[name] = self._make(name, description, tuple(tags))
        self._gauges[name].set(float(value), tags)
