"""Where Ray keeps its sockets and logs on this machine: checked before Ray starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from stdcl.errors import UserError

VARIABLES = ("RAY_TMPDIR", "TMPDIR")
"""In the order in which Ray looks."""

LONGEST_SOCKET = 107
"""Bytes of a path of a Unix socket (``sun_path`` of 108, with its end)."""

_SOCKET = "ray/session_2026-01-31_12-00-00_000000_{pid}/sockets/plasma_store"
"""The longest path that Ray makes below its folder."""


def scratch_folder(environment: Mapping[str, str]) -> tuple[str, Path]:
    """Return the variable that names Ray's folder (empty: none does) and the folder."""
    for name in VARIABLES:
        if environment.get(name):
            return name, Path(environment[name])
    return "", Path("/tmp")


def check_scratch(environment: Mapping[str, str] | None = None) -> None:
    """Check that Ray can keep its files; a folder that is missing is made, as Ray does.

    Raises:
        UserError: the folder's path is too long for a socket, or nothing can be written there.
    """
    name, folder = scratch_folder(os.environ if environment is None else environment)
    where = f"{name}={folder}" if name else str(folder)
    way_out = "set RAY_TMPDIR to a short path that you can write to, for example RAY_TMPDIR=/tmp"
    longest = folder / _SOCKET.format(pid=os.getpid())
    room = LONGEST_SOCKET - (len(os.fsencode(longest)) - len(os.fsencode(folder)))
    if len(os.fsencode(folder)) > room:
        raise UserError(
            f"{where}: {len(os.fsencode(folder))} bytes are too long for the sockets that Ray keeps there (at most "
            f"{room}); {way_out}"
        )
    try:
        (folder / "ray").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{where}: Ray cannot keep its files there ({error.strerror}); {way_out}") from None
    if not os.access(folder / "ray", os.W_OK | os.X_OK):
        raise UserError(f"{folder / 'ray'}: Ray cannot keep its files there (not writable); {way_out}")
