"""Files and folders that are written whole: their rights are the umask's, their names may be long, nothing is left."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from stdcl import atomic
from stdcl.errors import UserError
from stdcl.locks import exclusive


@pytest.fixture(params=[0o002, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_rights_are_those_of_the_umask(tmp_path: Path, umask: int) -> None:
    atomic.write_text(tmp_path / "new" / "file", "x")
    atomic.append_line(tmp_path / "lines", b"x")
    with atomic.staging_dir(tmp_path / "folder") as staged:
        atomic.write_bytes(staged / "inside", b"x")
    with exclusive(tmp_path / "locked" / "lock", "it"):
        pass
    for file in ("new/file", "lines", "folder/inside", "locked/lock"):
        assert rights(tmp_path / file) == 0o666 & ~umask, file
    for folder in ("new", "folder", "locked"):
        assert rights(tmp_path / folder) == 0o777 & ~umask, folder


def test_a_folder_that_cannot_be_replaced_leaves_no_staging_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "store"
    final.mkdir()
    (final / "theirs").touch()
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self == final:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError), atomic.staging_dir(final) as staged:
        (staged / "mine").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert (final / "theirs").exists()


def test_a_name_of_255_bytes_is_written(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / ("n" * 255), "x")
    with atomic.staging_dir(tmp_path / ("é" * 127)) as staged:
        (staged / "x").touch()
    with pytest.raises(UserError, match="choose a shorter name"), exclusive(tmp_path / ("n" * 256) / "lock", "it"):
        pass


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(UserError, match="a file is in the way"), exclusive(tmp_path / "runs" / "s" / "lock", "it"):
        pass
