"""One driver a sweep, one writer a run folder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stdcl.errors import UserError
from stdcl.locks import exclusive

HOLDER = """
import sys, time
from pathlib import Path
from stdcl.locks import exclusive
with exclusive(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_holder_is_refused_by_name_and_a_dead_one_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"the sweep 'x' is in use by process {process.pid} on "):
            exclusive(path, "the sweep 'x'").__enter__()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with exclusive(path, "the sweep 'x'"):
        pass


def test_it_can_be_taken_again_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with exclusive(tmp_path / "lock", "it"):
            raise RuntimeError

    for _ in range(2):
        with pytest.raises(RuntimeError):
            fail()


@pytest.fixture(params=[errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS], ids=errno.errorcode.get)
def without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that knows no locks."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(request.param, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("without_locks")
def test_a_file_system_without_locks(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        exclusive(path, "the sweep 'x'"),
        pytest.raises(UserError, match=f"in use by process {os.getpid()}"),
        exclusive(path, "the sweep 'x'"),
    ):
        pass
    held = tmp_path / "lock.held"
    assert not held.exists()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    held.write_text(json.dumps({"host": socket.gethostname(), "pid": ended.pid}))
    with exclusive(path, "the sweep 'x'"):
        assert json.loads(held.read_text())["pid"] == os.getpid()
    held.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with pytest.raises(UserError, match="remove that file"), exclusive(path, "the sweep 'x'"):
        pass
    assert held.exists()


def test_a_lock_file_of_a_colleague_can_be_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to write to it: an account that is not root's meets this with umask 022."""
    path = tmp_path / "lock"
    path.touch()
    real = os.open

    def deny(name: str | Path, flags: int, mode: int = 0o777) -> int:
        if Path(name) == path and flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return real(name, flags, mode)

    monkeypatch.setattr(os, "open", deny)
    with (
        exclusive(path, "the sweep 'x'"),
        pytest.raises(UserError, match="in use by another process"),
        exclusive(path, "the sweep 'x'"),
    ):
        pass
