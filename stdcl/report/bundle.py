"""What a reviewer needs of sweeps, in one archive: configurations, scores, histories, results, commands and tables."""

from __future__ import annotations

import gzip
import hashlib
import io
import sqlite3
import tarfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import quote

from stdcl.atomic import staging_file
from stdcl.errors import UserError
from stdcl.report.files import is_outdated, texts
from stdcl.report.portable import (
    folders_named,
    portable_added,
    portable_config,
    portable_plan,
    portable_result,
    portable_rows,
    portable_sweep,
    without_folders,
)
from stdcl.report.provenance import provenance
from stdcl.report.table import sweep_table
from stdcl.report.wording import display
from stdcl.results.layout import RunFolder, SweepFolder
from stdcl.results.store import PART

_TEXTS = ("table*.*", "trials*.csv", "confirmation*.csv", "levels*.*", "report.html")
_FILES = "*.yaml"
"""The sweep's own file, and those of the sweeps that confirm it."""
_PICTURES = ("*.png", "*.pdf")
"""Of a report."""
SUMS = "SHA256SUMS"
"""In a sweep's folder, of its files: ``sha256sum -c SHA256SUMS``."""


def write_bundle(directories: Sequence[Path], path: Path) -> list[str]:
    """Write the archive, atomically; the same inputs give the same bytes. Returns the names in it.

    Checkpoints, and what W&B and Ray keep for themselves, are left out. So are the folders of this machine: of the
    whole path of data, and of one that a command names, the last part stays, which for data is looked up under
    $STDCL_DATA; other runs are named by their places below the storage folder. Messages of errors stay as they are.
    Unpacked in $STDCL_STORAGE it is a sweep that ``stdcl sweep`` continues. Each sweep's folder has its SHA256SUMS, so
    that archives unpacked beside each other keep theirs. The sweep's own table is a new one where the folder has none,
    or one that is older than the last attempt at a trial.

    Args:
        directories: the sweeps' folders.
        path: a ``.tar.gz``.

    Raises:
        UserError: a folder is no sweep's, or two sweeps have one name.
    """
    members: dict[str, dict[str, Callable[[], bytes]]] = {}
    for directory in directories:
        folder, table = SweepFolder(directory), sweep_table(directory)
        if table.name in members:
            raise UserError(
                f"{directory}: another sweep named {table.name!r} is packed too, and each has a folder of its "
                "name; write an archive of each"
            )
        storage = directory.absolute().parent
        commands, named = [], dict[str, str]()
        for key, source in provenance(table, directory).items():
            row = source.trial.row
            codes = ", ".join(dict.fromkeys(attempt.code_version for attempt in source.attempts))
            said = [f"code {codes or row.get('code_version', '')}", str(source.environment.get("packages", ""))]
            commands.append(f"# {key}: {', '.join(filter(None, said))}")
            commands.append(str(row.get("command") or "# no command is recorded"))
            named |= folders_named(commands[-1], storage)
        kept = [
            folder.journal,
            folder.importance,
            *(each for name in _PICTURES for each in folder.report.glob(name)),
        ]
        changed = {
            folder.plan: portable_plan,
            folder.plan_added: portable_added,
            **dict.fromkeys(directory.glob(_FILES), portable_sweep),
            **dict.fromkeys(folder.results.glob(PART), portable_rows),
        }
        for trial in table.trials:
            run = RunFolder(trial.folder)
            kept += [run.history, run.scores(), run.evaluation(), run.ask]
            changed |= {run.config: portable_config, run.result: portable_result}
        found = {file: file.read_bytes for file in kept} | {folder.database: partial(_database, folder.database)}
        found |= {file: partial(_portable, file, portable, storage) for file, portable in changed.items()}
        found |= {file: partial(_text, file, named) for name in _TEXTS for file in folder.report.glob(name)}
        inside = {str(file.relative_to(directory)): read for file, read in found.items() if file.is_file()}
        if is_outdated(folder):
            own = folder.report.relative_to(directory)
            fresh = texts(table, display(table))
            inside |= {f"{own}/{name}": partial(without_folders, fresh[name].encode(), named) for name in fresh}
        inside["commands.sh"] = partial(without_folders, ("\n".join(commands) + "\n").encode(), named)
        members[table.name] = inside
    written = []
    # Neither the time nor the file's temporary name stands in the header.
    with (
        staging_file(path) as part,
        part.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for sweep, inside in sorted(members.items()):
            sums = []
            for name, read in sorted(inside.items()):
                data = read()
                sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
                written.append(_add(archive, f"{sweep}/{name}", data))
            written.append(_add(archive, f"{sweep}/{SUMS}", "".join(sums).encode()))
    return written


def _database(file: Path) -> bytes:
    """An SQLite file as of one moment, whoever writes to it; a damaged one as it lies."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as database:
            database.execute("SELECT count(*) FROM sqlite_master")
            return database.serialize()
    except sqlite3.DatabaseError:
        return file.read_bytes()


def _text(file: Path, named: Mapping[str, str]) -> bytes:
    return without_folders(file.read_bytes(), named)


def _portable(file: Path, portable: Callable[[bytes, Path], bytes], storage: Path) -> bytes:
    return portable(file.read_bytes(), storage)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> str:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    archive.addfile(member, io.BytesIO(data))
    return name
