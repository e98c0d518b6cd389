"""What a reviewer needs of sweeps, in one archive: configurations, scores, histories, results, commands and tables."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from stdcl.atomic import staging_file
from stdcl.config.model import METHOD
from stdcl.config.yaml_text import dump_yaml, parse_yaml
from stdcl.errors import UserError
from stdcl.report.provenance import provenance
from stdcl.report.table import sweep_table
from stdcl.results.layout import RunFolder, SweepFolder
from stdcl.results.store import PART

_REPORT = ("table*.*", "trials*.csv", "levels*.*", "report.html", "*.png", "*.pdf")


def write_bundle(directories: Sequence[Path], path: Path) -> list[str]:
    """Write the archive, atomically; the same inputs give the same bytes. Returns the names in it.

    Checkpoints, and what W&B and Ray keep for themselves, are left out. Folders of this machine are left out: where
    a trial's configuration names the whole path of its data, the last part stays, which is looked up under $STDCL_DATA.
    Unpacked in $STDCL_STORAGE it is a sweep that ``stdcl sweep`` continues.

    Args:
        directories: the sweeps' folders.
        path: a ``.tar.gz``.

    Raises:
        UserError: a folder is no sweep's.
    """
    members: dict[str, bytes | Path] = {}
    for directory in directories:
        folder, table = SweepFolder(directory), sweep_table(directory)
        files = [folder.plan, folder.sweep_file, *folder.results.glob(PART)]
        files += [file for pattern in _REPORT for file in folder.report.glob(pattern)]
        for trial in table.trials:
            run = RunFolder(trial.folder)
            files += [run.history, run.result, run.scores(), run.evaluation()]
            if run.config.is_file():
                members[f"{table.name}/{run.config.relative_to(directory)}"] = _portable(run.config)
        members |= {f"{table.name}/{file.relative_to(directory)}": file for file in files if file.is_file()}
        commands = []
        for key, source in provenance(table, directory).items():
            row = source.trial.row
            codes = ", ".join(dict.fromkeys(attempt.code_version for attempt in source.attempts))
            said = [f"code {codes or row.get('code_version', '')}", str(source.environment.get("packages", ""))]
            commands.append(f"# {key}: {', '.join(filter(None, said))}")
            commands.append(str(row.get("command") or "# no command is recorded"))
        members[f"{table.name}/commands.sh"] = ("\n".join(commands) + "\n").encode()
    sums = []
    # Neither the time nor the file's temporary name stands in the header.
    with (
        staging_file(path) as part,
        part.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(members):
            member = members[name]
            data = member if isinstance(member, bytes) else member.read_bytes()
            sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}")
            _add(archive, name, data)
        _add(archive, "SHA256SUMS", ("\n".join(sums) + "\n").encode())
    return [*sorted(members), "SHA256SUMS"]


def _portable(file: Path) -> bytes:
    """Return a trial's configuration without the folders of this machine; a damaged one as it lies, as evidence."""
    packed = file.read_bytes()
    try:
        config = parse_yaml(packed.decode(), str(file))
    except (UserError, UnicodeDecodeError):
        return packed
    if not isinstance(config, dict):
        return packed
    for section, key in (("data", "path"), (METHOD, "texts")):
        values = config.get(section)
        if isinstance(values, dict) and Path(str(values.get(key, ""))).is_absolute():
            values[key] = Path(values[key]).name
    return dump_yaml(config).encode()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    archive.addfile(member, io.BytesIO(data))
