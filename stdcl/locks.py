"""One writer at a time in a folder, whatever happens to the writers."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stdcl.errors import UserError, not_written

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP)
"""What ``flock`` says on file systems without locks (Lustre, NFS without a lock server)."""


@contextmanager
def exclusive(path: Path, what: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock file ``path`` while the body runs.

    The lock is the kernel's (``flock``, on NFS through the server): it ends with the process that holds it, so a
    killed holder leaves nothing to clean up. The file's content only tells a reader who holds it. On a file system
    without locks a second file stands for it, which a killed holder leaves behind: on the same machine it is found to
    be dead, on another the error says what to remove.

    Args:
        path: the lock file; its folder is made.
        what: what is locked, for the error text, for example ``the sweep 'ablation_tau'``.
        wait: seconds to wait for another holder to end.

    Raises:
        UserError: another process holds it, or the folder cannot be written to.
    """
    descriptor, taken = _open(path), False
    try:
        deadline = time.monotonic() + wait
        while not _take(descriptor, path):
            if time.monotonic() >= deadline:
                raise UserError(
                    f"{what} is in use by {_holder(path)}; wait for it to end or stop it (lock file: {path})"
                )
            time.sleep(0.2)
        taken = True
        with suppress(OSError):  # of somebody else's file, read-only
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _own(), 0)
        yield
    finally:
        os.close(descriptor)
        if taken:
            _release_without_locks(path)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:
            # A colleague's, whose umask gives us no right to write; the lock itself needs none.
            return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise not_written(path.parent, error) from None


def _take(descriptor: int, path: Path) -> bool:
    """Take the lock; returns whether nobody else holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise not_written(path, error) from None
        return _take_without_locks(path)
    return True


# ---- file systems without locks -------------------------------------------------------------------------------


def _held_file(path: Path) -> Path:
    """Stands for the lock where the file system knows none: who creates it, holds it."""
    return path.with_name(f"{path.name}.held")


def _take_without_locks(path: Path) -> bool:
    held = _held_file(path)
    for _ in range(2):
        try:
            descriptor = os.open(held, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            found = _read(held) or {}
            if found.get("host") not in (None, socket.gethostname()):
                raise UserError(
                    f"{held}: held by {_holder(held)}, on a file system without locks, which cannot tell whether that "
                    "process still lives. If it does not, remove that file"
                ) from None
            if not _is_ours_and_dead(held):
                return False
            held.unlink(missing_ok=True)
            continue
        os.write(descriptor, _own())
        os.close(descriptor)
        return True
    return False


def _release_without_locks(path: Path) -> None:
    held = _held_file(path)
    with suppress(OSError):
        if held.read_bytes() == _own():
            held.unlink()


def _is_ours_and_dead(held: Path) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    found = _read(held)
    if found is None or found.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(str(found["pid"])), 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, ValueError, TypeError):
        return False
    return False


def _own() -> bytes:
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()


def _read(path: Path) -> dict[str, object] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _holder(path: Path) -> str:
    found = _read(path) or {}
    return f"process {found['pid']} on {found['host']}" if {"pid", "host"} <= found.keys() else "another process"
