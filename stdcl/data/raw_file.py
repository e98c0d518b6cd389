"""Bytes of a raw file, whatever the name stands for: reading never waits for a writer."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}

#: Coordinates beyond this, in any unit, are damage: their squares would soon leave float32.
FARTHEST = 1e9


def check_regular(path: Path) -> None:
    """Refuse what is not a file, before it is opened: opening a named pipe waits for ever.

    Raises:
        OSError: it is a pipe, a device or a folder, or it cannot be looked at.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(stat.S_IFMT(mode), 'not a file')}, not a file", str(path))


def read_raw(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        OSError: as :func:`check_regular`, or it cannot be read; ``strerror`` says why.
    """
    check_regular(path)
    return path.read_bytes()
