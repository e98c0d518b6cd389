"""Which code made a number: the release, and a digest of the package's own files."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from stdcl import __version__

_SUFFIXES = {".py", ".c", ".h", ".yaml", ".csv", ".txt"}


@cache
def code_version() -> str:
    """Return, for example, ``0.1.0+3fa8c1d2e4``; equal for equal code: in a checkout, installed, or a job's copy."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(p for p in package.rglob("*") if p.suffix in _SUFFIXES):
        digest.update(path.relative_to(package).as_posix().encode("utf-8") + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:10]}"
