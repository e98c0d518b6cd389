"""The file of a search's study: opened whatever an earlier process left of it, or refused with the way out.

One driver at a time opens it (the sweep's lock), beside readers such as optuna-dashboard.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from stdcl.atomic import cut_incomplete_line, is_incomplete
from stdcl.config.space import OptunaConfig
from stdcl.errors import UserError
from stdcl.results.layout import DATABASE, JOURNAL

LOCKED_SECONDS = 60.0
"""How long a database that another process writes to is waited for."""
_ENGINE = {"connect_args": {"timeout": LOCKED_SECONDS}}
"""SQLAlchemy's options of a database."""


def study_file(config: OptunaConfig, folder: Path) -> Path:
    """Return the file that holds the study."""
    return folder / (DATABASE if config.storage == "sqlite" else JOURNAL)


def open_storage(config: OptunaConfig, folder: Path) -> tuple[BaseStorage, str]:
    """Open the study's storage; return it with what ``optuna-dashboard`` is to be given.

    Raises:
        UserError: the file cannot be used; says what to do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = study_file(config, folder)
    if config.storage == "sqlite":
        url = sqlite_url(path)
        with faults_said(path):
            return RDBStorage(url, engine_kwargs=_ENGINE), url
    _drop_dangling_lock(path)
    if is_incomplete(path):
        with _journal_lock(path):
            cut_incomplete_line(path)
    with faults_said(path):
        return JournalStorage(JournalFileBackend(str(path))), str(path)


def read_storage(path: Path) -> BaseStorage:
    """Open a study's file that is there, to read it: what an earlier process left behind is not mended."""
    if path.name == JOURNAL:
        return JournalStorage(JournalFileBackend(str(path)))
    return RDBStorage(sqlite_url(path), engine_kwargs=_ENGINE)


def sqlite_url(path: Path) -> str:
    """Return SQLAlchemy's URL of an SQLite file, whatever characters its path has."""
    plain = str(path)
    quoted = quote(plain)
    # In a plain path "?" would begin options, and Optuna would take braces for a template. Of two quotations SQLAlchemy
    # takes one off, and SQLite the other.
    return f"sqlite:///{plain}" if quoted == plain else f"sqlite:///file:{quote(quoted)}?uri=true"


@contextmanager
def _journal_lock(path: Path) -> Iterator[None]:
    """Hold Optuna's lock: a reader such as the dashboard may be writing the line that looks incomplete."""
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _drop_dangling_lock(path: Path) -> None:
    """Remove a lock of Optuna that leads nowhere, which Optuna 5.0 would wait for without end.

    The lock of a killed process is a symbolic link to the journal by the name that the process knew it by, for example
    before the sweep's folder was moved. One that leads somewhere Optuna itself takes over after 30 seconds.
    """
    lock = path.with_name(f"{path.name}.lock")
    if lock.is_symlink() and not lock.exists():
        lock.unlink(missing_ok=True)


@contextmanager
def faults_said(path: Path) -> Iterator[None]:
    """Turn what Optuna and its database raise for an unusable file into a sentence with the way out.

    Raises:
        UserError: for such an error; others pass.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        number = _broken_record(path)
        if number is None:
            raise
        raise UserError(
            f"{path}, line {number}: not a record of a study. Take the line out, or bring back a copy of the file from "
            "before it was damaged"
        ) from error
    except Exception as error:
        reason = _of_the_database(path, error)
        if reason is None:
            raise
        raise UserError(f"{path}: {reason}") from error


def _broken_record(path: Path) -> int | None:
    if path.name != JOURNAL or not path.is_file():
        return None
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                record = json.loads(line)
            except ValueError:
                return number
            if not isinstance(record, dict) or "op_code" not in record:
                return number
    return None


def _of_the_database(path: Path, error: BaseException) -> str | None:
    texts = []
    seen: BaseException | None = error
    while seen is not None:
        texts.append(str(seen))
        if isinstance(seen, sqlite3.DatabaseError):
            texts.append(type(seen).__name__)
        seen = getattr(seen, "orig", None) or seen.__cause__ or seen.__context__
    text = "\n".join(texts)
    if "database is locked" in text:
        return (
            f"another process has held the study's database for {LOCKED_SECONDS:g} s. End it (an optuna-dashboard, a "
            "database browser, a backup), then run this again; on NFS use optuna.storage: journal"
        )
    if "malformed" in text or "not a database" in text:
        return (
            "the study's database is damaged or cut off. Bring back a copy, or see what is left of it with 'sqlite3 "
            f"{path} .recover'; with the file moved away the search starts anew and trained trials are not repeated "
            "where they are proposed again"
        )
    if "compatible with the table schema" in text or "no such column" in text or "no such table" in text:
        import optuna

        return (
            f"the study was written by another version of Optuna than {optuna.__version__}. Convert it with 'optuna "
            f"storage upgrade --storage {sqlite_url(path)}' (make a copy first), or install the version that wrote it"
        )
    if "readonly database" in text or "unable to open database file" in text:
        return "the study's database cannot be opened for writing; check the permissions of its folder"
    return None
