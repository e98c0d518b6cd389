"""Which code made a number: the release, and a digest of the package's own files."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

from stdcl.release import __version__

_SUFFIXES = {".py", ".c", ".h", ".yaml", ".csv", ".txt", ".html"}


EXECUTED = (
    "data", "encoders", "hashing.py", "kernels", "methods", "parallel", "seeding.py", "skeleton.py",
    "specs.py", "taps.py", "training",
)  # fmt: skip
"""The files and folders of the package that can change what a training computes, beside its resolved configuration."""


@cache
def code_version() -> str:
    """Return, for example, ``0.1.0+3fa8c1d2e4``; equal for equal code: in a checkout, installed, or a job's copy."""
    return f"{__version__}+{_digest(())[:10]}"


@cache
def execution_digest() -> str:
    """Return 16 hexadecimal digits, equal for equal code of what a training executes: not of reports or commands."""
    return _digest(EXECUTED)[:16]


def _digest(parts: tuple[str, ...]) -> str:
    """Digest the package's files below ``parts``; all of them if there are none."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(p for p in package.rglob("*") if p.suffix in _SUFFIXES):
        name = path.relative_to(package)
        if parts and name.parts[0] not in parts:
            continue
        digest.update(name.as_posix().encode("utf-8") + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def package_versions() -> str:
    """Versions of Python and of what a training computes with, for example ``python 3.11.2, torch 2.9.0``."""
    found = {"python": platform.python_version()}
    for name in ("torch", "numpy", "ray"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(f"{name} {version}" for name, version in found.items())
