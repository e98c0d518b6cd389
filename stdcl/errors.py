"""Errors that are the user's to mend: the command line prints their text alone, without a traceback."""

from __future__ import annotations

import errno
import zipfile
import zlib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from tokenize import TokenError


class UserError(Exception):
    """Bad input. The message says what was wrong, where, what is allowed, and the nearest right spelling."""


NPZ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    TokenError,
    RuntimeError,  # encrypted; also NotImplementedError, a compression that zipfile does not know
    MemoryError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
)
"""What reading a damaged .npz raises: the archive, its compression, and NumPy's header, which is Python's text."""

_WAYS_OUT = {
    errno.ENOSPC: "make room on its disk, or choose another place, and type the same command again",
    errno.EDQUOT: "your quota there is used up: make room, or choose another place, and type the same command again",
    errno.EACCES: "it belongs to somebody else: choose another place, or ask its owner for the right to write there",
    errno.EPERM: "it belongs to somebody else: choose another place, or ask its owner for the right to write there",
    errno.EROFS: "choose another place",
    errno.ENAMETOOLONG: "choose a shorter name: file systems take 255 bytes",
    errno.ENOTDIR: "a file is in the way: choose another place",
    errno.EEXIST: "a file is in the way: choose another place",
}


def not_written(what: str | Path, error: OSError) -> UserError:
    """Return the error to raise where something could not be written: what, why, and what to do."""
    way_out = _WAYS_OUT.get(error.errno or 0, "")
    return UserError(f"{what}: not written to ({error.strerror or error}){f'; {way_out}' if way_out else ''}")


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest allowed spelling, or an empty string."""
    found = get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean '{found[0]}'?)" if found else ""
