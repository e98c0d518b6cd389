"""The metric that docs/adding.md shows is one file, and reaches the history of a run and a table."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch

from stdcl import specs
from stdcl.config.load import resolve
from stdcl.parallel.comm import LocalComm
from stdcl.results.history import read_history
from stdcl.results.layout import RunFolder
from stdcl.training.trainer import training
from tests.train.conftest import small_raw, small_store

__all__ = ["small_store"]

PAGE = Path(__file__).parents[2] / "docs" / "adding.md"
SECTION = PAGE.read_text(encoding="utf-8").split("\n## A metric\n")[1].split("\n## ")[0]
(FILE,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    site = tmp_path / "site"
    site.mkdir()
    (site / "confidence.py").write_text(FILE, encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    point = EntryPoint("confidence", "confidence:SPECS", "stdcl.metrics")
    found = dict(specs.metrics())
    monkeypatch.setattr(specs, "metrics", lambda: found | {spec.name: spec for spec in point.load()})
    yield
    sys.modules.pop("confidence", None)


def test_it_is_in_every_row_that_is_evaluated(installed: None, small_store: Path, tmp_path: Path) -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    assert specs.metric("confidence").compute(logits, np.array([0, 0])) == pytest.approx((0.5 + 0.8) / 2)
    config = resolve(small_raw(small_store, training={"epochs": 1}), "test")
    (row,) = training(config, tmp_path / "run", comm=LocalComm(), device=torch.device("cpu"))
    (kept,) = read_history(RunFolder(tmp_path / "run").history)
    assert 0 < kept["metric/confidence"] <= 1  # type: ignore[typeddict-item]
    assert kept["metric/mean_class_accuracy"] == row["metric/mean_class_accuracy"]  # type: ignore[typeddict-item]
