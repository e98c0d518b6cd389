"""Trials run the package of the command that started them, and say it where they would run another.

Ray puts the driver's current folder first on its workers' path: a checkout of this package there, or the user's own
``statistics.py``, would shadow what is installed. Ours get a folder that holds nothing but the driver's package.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stdcl.version import code_version

PACKAGE = Path(__file__).resolve().parents[1]

_PREFIX = "stdcl-code-"  # versions that did not lock theirs named them otherwise

YOUNG_SECONDS = 60.0
"""A folder as new as that may be one that its process has made and not locked yet."""


class ForeignCode(Exception):
    """A process would train with other code than the command that started it."""


@contextmanager
def folder_of_package() -> Iterator[Path]:
    """Give a folder that holds this package alone, as a link; on another machine it may lead nowhere.

    It is locked for as long as its process lives; those of processes that were killed are removed.
    """
    _remove_ownerless()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        (folder / PACKAGE.name).symlink_to(PACKAGE, target_is_directory=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _remove_ownerless() -> None:
    """Remove the folders of this user's processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # gone meanwhile, or another user's
            found = folder.lstat()
            if found.st_uid != os.geteuid() or time.time() - found.st_mtime < YOUNG_SECONDS:
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def check_package(expected: str) -> None:
    """Check that this process has the code of the driver.

    Args:
        expected: the driver's ``code_version``.

    Raises:
        ForeignCode: it has another.
    """
    found = code_version()
    if found != expected:
        raise ForeignCode(
            f"{os.uname().nodename} would train with stdcl {found} of {PACKAGE}, but the command runs {expected}. "
            "Install the same version on every node, and see that no folder on their PYTHONPATH holds another"
        )
