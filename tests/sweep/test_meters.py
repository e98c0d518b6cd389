"""What Prometheus sees of a trial's epoch, and that the panels ask for it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from stdcl.sweep.meters import AGE_GAUGE, FIGURES, Meters

PANELS = Path(__file__).resolve().parents[2] / "ray_cluster" / "grafana.json"


class _Gauge:
    def __init__(self, name: str, keys: tuple[str, ...]) -> None:
        self.name, self.keys = name, keys
        self.values: dict[tuple[str, ...], float] = {}

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert tuple(tags) == self.keys
        self.values[tuple(tags.values())] = value


def test_each_figure_of_a_row_is_a_gauge() -> None:
    made: dict[str, _Gauge] = {}

    def make(name: str, description: str, keys: tuple[str, ...]) -> _Gauge:
        assert name not in made, "once"
        made[name] = _Gauge(name, keys)
        return made[name]

    meters = Meters("tau", make)
    meters.row("a", {"epoch": 1, "loss": 2.0, "contrast/spatial/age": 3.0, "accuracy": None})
    meters.row("a", {"epoch": 2, "sequences_per_second": 30.5, "contrast/share_of_step": 0.25})
    meters.row("b", {"epoch": 1, "contrast/bytes_per_step": 100, "notices": ["x"]})
    assert {name: gauge.values for name, gauge in made.items()} == {
        "stdcl_epoch": {("tau", "a"): 2.0, ("tau", "b"): 1.0},
        "stdcl_loss": {("tau", "a"): 2.0},
        "stdcl_bank_age_steps": {("tau", "a", "spatial"): 3.0},
        "stdcl_sequences_per_second": {("tau", "a"): 30.5},
        "stdcl_contrast_share_of_step": {("tau", "a"): 0.25},
        "stdcl_contrast_bytes_per_step": {("tau", "b"): 100.0},
    }


def test_grafanas_panels_ask_for_gauges_that_there_are() -> None:
    board = json.loads(PANELS.read_text())
    asked = {name for panel in board["panels"] for target in panel["targets"] for name in _names(target["expr"])}
    assert asked == {f"ray_{name}" for name, _ in (*FIGURES.values(), AGE_GAUGE)}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def _names(expression: str) -> list[str]:
    return re.findall(r"\bray_\w+", expression)
