"""The study's file, whatever was left of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from stdcl.config.space import OptunaConfig
from stdcl.errors import UserError
from stdcl.results.layout import DATABASE, JOURNAL
from stdcl.sweep import storage as storages
from stdcl.sweep.storage import open_storage, sqlite_url

SQLITE = OptunaConfig(storage="sqlite")


def _make(folder: Path, config: OptunaConfig | None = None, trials: int = 3) -> optuna.Study:
    storage, _ = open_storage(config or OptunaConfig(), folder)
    study = optuna.create_study(storage=storage, study_name="s", load_if_exists=True)
    for _ in range(trials):
        study.tell(study.ask(), 1.0)
    return study


@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_a_half_written_last_line_is_cut_and_a_copy_kept(tmp_path: Path, kept: float) -> None:
    _make(tmp_path)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    last = whole.rstrip(b"\n").rpartition(b"\n")[2]
    part = last[: int(kept * len(last))]
    journal.write_bytes(whole + part)
    assert len(_make(tmp_path, trials=0).trials) == 3
    assert journal.read_bytes().startswith(whole)
    assert (tmp_path / f"{JOURNAL}.cut-1").read_bytes() == part
    assert len(_make(tmp_path, trials=1).trials) == 4, "what follows is on a line of its own"
    journal.write_bytes(journal.read_bytes() + b"{")
    assert len(_make(tmp_path, trials=0).trials) == 4
    assert (tmp_path / f"{JOURNAL}.cut-2").read_bytes() == b"{"


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    _make(tmp_path)
    journal = tmp_path / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    for broken in (b'{"op_code": 4, "wor{"op_code": 4}\n', b"\xff\xfe\n", b"[1]\n"):
        journal.write_bytes(b"".join([*lines[:3], broken, *lines[3:]]))
        with pytest.raises(UserError, match=rf"{JOURNAL}, line 4: not a record of a study"):
            _make(tmp_path)


def test_a_lock_that_leads_nowhere_is_removed(tmp_path: Path) -> None:
    """Optuna would wait for it without end."""
    _make(tmp_path)
    lock = tmp_path / f"{JOURNAL}.lock"
    lock.symlink_to("/where/the/sweep/was/before/journal.log")
    assert len(_make(tmp_path, trials=1).trials) == 4
    assert not lock.is_symlink()
    lock.symlink_to(tmp_path / JOURNAL)
    open_storage(OptunaConfig(), tmp_path)
    assert lock.is_symlink(), "somebody may be writing"


@pytest.mark.parametrize("name", ["plain", "a?b", "a%20b", "a b", "{x}", "a#b", "ü"])
def test_sqlite_lies_where_it_should(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    _make(folder, SQLITE)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (folder / DATABASE).stat().st_size > 0
    assert len(_make(folder, SQLITE, trials=0).trials) == 3
    loaded = optuna.load_study(study_name="s", storage=sqlite_url(folder / DATABASE))
    assert len(loaded.trials) == 3, "what the dashboard is given"


def test_a_damaged_database_is_said_with_the_way_out(tmp_path: Path) -> None:
    _make(tmp_path, SQLITE, trials=20)
    path = tmp_path / DATABASE
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no database at all" * 100):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"damaged or cut off.*recover"):
            _make(tmp_path, SQLITE)


def test_another_schema_is_said_with_the_way_out(tmp_path: Path) -> None:
    _make(tmp_path, SQLITE)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v3.0.0.a'")
        connection.commit()
    with pytest.raises(
        UserError, match=r"another version of Optuna than .*optuna storage upgrade --storage sqlite:///"
    ):
        _make(tmp_path, SQLITE)


def test_a_locked_database_is_said_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = _make(tmp_path, SQLITE)
    path = tmp_path / DATABASE
    monkeypatch.setattr(storages, "LOCKED_SECONDS", 0.1)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match=r"has held the study's database for 0\.1 s"):
            _make(tmp_path, SQLITE)
    del study


def test_faults_of_our_own_are_not_taken_for_the_file_s(tmp_path: Path) -> None:
    _make(tmp_path)
    for fault in (KeyError("x"), ValueError("y"), RuntimeError("z")):
        with pytest.raises(type(fault)), storages.faults_said(tmp_path / JOURNAL):
            raise fault
