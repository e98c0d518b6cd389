"""Where Ray keeps its sockets is checked before it starts."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest

from stdcl.errors import UserError
from stdcl.launch import scratch
from stdcl.launch.cluster import connected, prepare_environment
from stdcl.launch.scratch import check_scratch, scratch_folder
from tests.launch.test_cluster import resources


def test_the_folder_is_the_one_that_ray_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._common.utils import get_default_system_temp_dir

    for given in ({}, {"TMPDIR": "/var/tmp"}, {"TMPDIR": "/var/tmp", "RAY_TMPDIR": "/opt/r"}):
        for name in scratch.VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        assert str(scratch_folder(given)[1]) == get_default_system_temp_dir()


def _room() -> int:
    """Bytes that are left for the folder, by the name of a session as Ray makes it."""
    session = f"session_{datetime.now():%Y-%m-%d_%H-%M-%S_%f}_{os.getpid()}"
    return scratch.LONGEST_SOCKET - len(f"/ray/{session}/sockets/plasma_store")


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._common.utils import get_default_system_temp_dir

    monkeypatch.setenv("RAY_TMPDIR", "")
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    prepare_environment(resources())
    assert (
        get_default_system_temp_dir() == "/var/tmp" == str(scratch_folder({"RAY_TMPDIR": "", "TMPDIR": "/var/tmp"})[1])
    )


@pytest.mark.parametrize("name", scratch.VARIABLES)
def test_a_long_path_is_refused_before_ray_fails_at_its_sockets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    room = _room()
    with pytest.raises(UserError, match=rf"{name}=/tmp/l+: .* are too long .* \(at most {room}\)"):
        check_scratch({name: f"/tmp/{'l' * 90}"})
    monkeypatch.setenv(name, f"/tmp/{'l' * 90}")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match="set RAY_TMPDIR to a short path"), connected(resources()):
        pass


def test_the_longest_path_that_is_allowed_is_as_long_as_a_socket_s_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", lambda *given, **more: None)
    monkeypatch.setattr(scratch.os, "access", lambda *given: True)
    room = _room()
    check_scratch({"TMPDIR": "/" + "l" * (room - 1)})
    with pytest.raises(UserError, match=f"{room + 1} bytes are too long"):
        check_scratch({"TMPDIR": "/" + "l" * room})


def test_a_missing_folder_is_made_and_an_impossible_one_refused(tmp_path: Path) -> None:
    short = Path("/tmp") / f"stdcl-{os.getpid()}"
    try:
        check_scratch({"RAY_TMPDIR": str(short)})
        assert (short / "ray").is_dir()
    finally:
        (short / "ray").rmdir()
        short.rmdir()
    with pytest.raises(UserError, match=r"RAY_TMPDIR=/dev/null: Ray cannot keep its files there \(Not a directory\)"):
        check_scratch({"RAY_TMPDIR": "/dev/null"})
