"""Trials run the package of the command that started them, and say it where they would run another.

Ray puts the driver's current folder first on its workers' path: a checkout of this package there, or the user's own
``statistics.py``, would shadow what is installed. Ours get a folder that holds nothing but the driver's package.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stdcl.version import code_version

PACKAGE = Path(__file__).resolve().parents[1]


class ForeignCode(Exception):
    """A process would train with other code than the command that started it."""


@contextmanager
def folder_of_package() -> Iterator[Path]:
    """Give a folder that holds this package alone, as a link; on another machine it may lead nowhere."""
    folder = Path(tempfile.mkdtemp(prefix="stdcl-path-"))
    try:
        (folder / PACKAGE.name).symlink_to(PACKAGE, target_is_directory=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
