"""A small sweep file, as text that tests change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stdcl.config.sweep import Sweep, load_sweep
from tests.train.conftest import make_config, small_store

__all__ = ["make_config", "small_store"]

GRID: dict[str, Any] = {
    "name": "small",
    "question": "Does it run?",
    "base": {
        "recipe": "none",
        "data": {"dataset": "nw-ucla", "path": "nothing"},
        "encoder": {"name": "ctrgcn"},
        "training": {"epochs": 6, "batch_size": 16, "learning_rate": 0.1},
        "tracking": {"wandb": "disabled"},
    },
    "grid": {"contrast.temperature": [0.5, 0.8]},
    "baseline": True,
    "seeds": [1, 2],
    "resources": {"workers": 1},
}

SEARCH: dict[str, Any] = {
    **{key: value for key, value in GRID.items() if key not in ("grid", "baseline", "seeds")},
    "name": "searching",
    "search": "optuna",
    "space": {
        "contrast.temperature": {"type": "float", "low": 0.2, "high": 2.0},
        "contrast.channel_reduction": {"type": "choices", "values": [4, 8, 16]},
    },
    "optuna": {"trials": 6, "startup_trials": 3, "grace_epochs": 2},
}

MakeSweep = Callable[..., Sweep]


@pytest.fixture
def make_sweep(tmp_path: Path) -> MakeSweep:
    """Write a sweep file (a dictionary, with changes on top) and load it."""

    def make(content: dict[str, Any], *overrides: str) -> Sweep:
        file = tmp_path / "sweep-under-test.yaml"
        file.write_text(yaml.safe_dump(content))
        return load_sweep(file, overrides)

    return make
