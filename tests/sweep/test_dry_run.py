"""A dry run writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from stdcl.sweep.driver import run_sweep


def test_a_synthetic_corpus_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STDCL_DATA", str(tmp_path / "data"))
    said: list[str] = []
    assert run_sweep(Path("quickstart"), dry_run=True, storage=tmp_path / "runs", say=said.append) == 0
    assert list(tmp_path.iterdir()) == []
    assert any("is made when the sweep runs" in line for line in said)
    assert any("not started" in line for line in said)
