"""A dry run writes nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from stdcl.config import RunConfig
from stdcl.sweep.driver import DataCheck, run_sweep
from tests.sweep.conftest import GRID, MakeSweep


def test_a_synthetic_corpus_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STDCL_DATA", str(tmp_path / "data"))
    said: list[str] = []
    assert run_sweep(Path("quickstart"), dry_run=True, storage=tmp_path / "runs", say=said.append) == 0
    assert list(tmp_path.iterdir()) == []
    assert any("is made when the sweep runs" in line for line in said)
    assert any("not started" in line for line in said)


def test_what_the_check_remarks_is_said_before_the_start(
    make_sweep: MakeSweep, small_store: Path, tmp_path: Path
) -> None:
    data = {"dataset": "nw-ucla", "path": str(small_store)}
    path = Path(make_sweep({**GRID, "base": {**GRID["base"], "data": data}}).where)

    def check(config: RunConfig) -> tuple[str, ...]:
        return ("a class is left out", "rare") if config.contrast.temperature == 0.5 else ("a class is left out",)

    said: list[str] = []
    assert run_sweep(path, dry_run=True, storage=tmp_path / "runs", check=check, say=said.append) == 0
    assert said[:2] == ["a class is left out", "rare (in contrast.temperature=0.5)"]


def test_the_check_of_a_sweep_remarks_what_that_of_a_run_does(
    make_sweep: MakeSweep, small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"dataset": "nw-ucla", "path": str(small_store)}
    trial = make_sweep({**GRID, "base": {**GRID["base"], "data": data}}).trials()[0]
    monkeypatch.setattr("stdcl.training.components.check", lambda config, opens: SimpleNamespace(remarks=("said",)))
    assert DataCheck()(trial.config) == ("said",)
