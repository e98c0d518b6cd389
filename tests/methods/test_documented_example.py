"""The method that docs/adding.md shows trains, from its record alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from stdcl import specs
from stdcl.config import fingerprint
from stdcl.config.load import resolve
from stdcl.parallel.comm import LocalComm
from stdcl.training.trainer import training
from tests.train.conftest import small_raw, small_store

__all__ = ["small_store"]

PAGE = Path(__file__).parents[2] / "docs" / "adding.md"
SECTION = PAGE.read_text(encoding="utf-8").split("\n## A method\n")[1].split("\n## ")[0]
RECORD, METHOD = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    package = tmp_path / "site" / "calm_logits"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(RECORD, encoding="utf-8")
    (package / "method.py").write_text(METHOD, encoding="utf-8")
    monkeypatch.syspath_prepend(package.parent)
    point = EntryPoint("calm", "calm_logits:SPECS", "stdcl.methods")
    found = dict(specs.methods())
    monkeypatch.setattr(specs, "methods", lambda: found | {spec.name: spec for spec in point.load()})
    yield
    for name in ("calm_logits", "calm_logits.method"):
        sys.modules.pop(name, None)


def test_it_trains_and_its_options_are_part_of_the_fingerprint(
    installed: None, small_store: Path, tmp_path: Path
) -> None:
    raw = small_raw(small_store, training={"epochs": 1})
    del raw["contrast"]
    config = resolve({**raw, "method": {"name": "calm"}}, "test")
    (row,) = training(config, tmp_path / "run", comm=LocalComm(), device=torch.device("cpu"))
    assert row["loss"] == pytest.approx(row["ce"] + 0.01 * row["loss_size"])  # type: ignore[typeddict-item]
    other = resolve({**raw, "method": {"name": "calm", "weight": 0.5}}, "test")
    assert fingerprint(other) != fingerprint(config)
