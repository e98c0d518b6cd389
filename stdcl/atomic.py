"""Files and folders that are written whole or not at all.

Everything is staged beside its destination, flushed to the disk, and renamed: a reader, a kill or a full disk sees
the old content or the new one, never a part.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_LONGEST = 60  # characters, of at most four bytes: file systems take 255 bytes


def sync_directory(path: Path) -> None:
    """Flush a directory's entries, so that a rename in it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Flush a file's content to the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _beside(final: Path, suffix: str) -> Path:
    """A hidden name beside ``final`` that nobody else has; shortened where ``final`` has a long one."""
    return final.with_name(f".{final.name[:_LONGEST]}.{secrets.token_hex(4)}.{suffix}")


@contextmanager
def staging_file(final: Path) -> Iterator[Path]:
    """Give a path beside ``final`` to write to; on success it becomes ``final``, on an error it is removed."""
    final.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(final, "part")
    # Not tempfile's 0600: what becomes of the rights is the umask's to say.
    os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield part
        sync_file(part)
        part.replace(final)
        sync_directory(final.parent)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``, atomically."""
    with staging_file(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by UTF-8 ``text``, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by ``value`` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def append_line(path: Path, line: bytes) -> None:
    """Append one line and flush it to the disk; a last line that an earlier write left incomplete is cut off first.

    Args:
        path: the file; it and its folder are made when they are not there.
        line: without its line feed.

    Raises:
        OSError: the line could not be written whole; nothing of it is left.
    """
    created = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        end = _end_of_whole_lines(descriptor)
        os.ftruncate(descriptor, end)
        os.lseek(descriptor, end, os.SEEK_SET)
        try:
            _write_all(descriptor, line + b"\n")
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, end)
            raise
    finally:
        os.close(descriptor)
    if created:
        sync_directory(path.parent)


def is_incomplete(path: Path) -> bool:
    """Whether a file's last line has no line feed: its write was cut off, or is going on."""
    try:
        with path.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            return end > 0 and os.pread(stream.fileno(), 1, end - 1) != b"\n"
    except FileNotFoundError:
        return False


def cut_incomplete_line(path: Path) -> Path | None:
    """Cut off a last line whose write was cut off, and keep it beside the file; return where, None if there is none."""
    if not is_incomplete(path):
        return None
    descriptor = os.open(path, os.O_RDWR)
    try:
        end = _end_of_whole_lines(descriptor)
        part = os.pread(descriptor, os.fstat(descriptor).st_size - end, end)
        number = 1
        while (kept := path.with_name(f"{path.name}.cut-{number}")).exists():
            number += 1
        write_bytes(kept, part)
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return kept


def _end_of_whole_lines(descriptor: int) -> int:
    """Length of the file without a last line that was cut off."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def replace_dir(staged: Path, final: Path) -> None:
    """Make the folder ``staged`` become ``final`` (same file system); an existing ``final`` is replaced."""
    for folder, _, files in os.walk(staged):
        for name in files:
            sync_file(Path(folder) / name)
        sync_directory(Path(folder))
    if final.exists():
        old = _beside(final, "old")
        final.rename(old)
        staged.rename(final)
        shutil.rmtree(old)
    else:
        staged.rename(final)
    sync_directory(final.parent)


@contextmanager
def staging_dir(final: Path) -> Iterator[Path]:
    """Give a folder beside ``final`` to fill; on success it becomes ``final``, on an error it is removed."""
    final.parent.mkdir(parents=True, exist_ok=True)
    staged = _beside(final, "part")
    staged.mkdir()
    try:
        yield staged
        replace_dir(staged, final)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
