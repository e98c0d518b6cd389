"""A small synthetic store and a small configuration, for everything that trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stdcl.config import RunConfig
from stdcl.config.load import merge, resolve


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 60 synthetic NW-UCLA sequences (40 train, 20 test)."""
    from stdcl.data.nw_ucla.synthetic import prepare_synthetic

    out = tmp_path_factory.mktemp("small") / "store"
    prepare_synthetic(out, 60, 5)
    return out


def small_raw(store: Path, **sections: Any) -> dict[str, Any]:
    """A raw configuration of a few seconds: HCN on 16 frames."""
    raw: dict[str, Any] = {
        "recipe": "none",
        "data": {"dataset": "nw-ucla", "path": str(store), "frames": 16, "repeat": 2},
        "encoder": {"name": "hcn", "hidden": 16, "dropout": 0.2},
        "contrast": {
            "embedding_dim": 16,
            "channel_reduction": 8,
            "hard_positives": 3,
            "hard_negatives": 8,
            "random_negatives": 8,
        },
        "training": {"epochs": 3, "batch_size": 16, "learning_rate": 0.01, "warmup_epochs": 1},
        "resources": {"workers": 1, "loader_threads": 0},
        "tracking": {"wandb": "disabled"},
    }
    return merge(raw, sections)


MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def make_config(small_store: Path) -> MakeConfig:
    """Return a function: sections -> checked configuration."""
    return lambda **sections: resolve(small_raw(small_store, **sections), "test")
