"""Accounts of their own on a test's machine, for programs that several users start there."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.machines import Machine


def add_accounts(machine: Machine, accounts: Mapping[str, int]) -> None:
    """Give a machine accounts (name -> number), and let them run this Python, wherever it is installed."""
    users = [f"{name}:x:{number}:{number}::{machine.home}/{name}:/bin/bash\n" for name, number in accounts.items()]
    groups = [f"{name}:x:{number}:\n" for name, number in accounts.items()]
    for file, lines in (("passwd", users), ("group", groups)):
        known = machine.home / file
        known.write_text(Path("/etc", file).read_text() + "".join(lines))
        machine.run("mount", "--bind", str(known), f"/etc/{file}")
    for name, number in accounts.items():
        home = machine.home / name
        home.mkdir()
        os.chown(home, number, number)
    machine.home.parent.chmod(0o755)
    (machine.home / "ray").chmod(0o1777)
    _open(machine, Path(sys.base_prefix))


def _open(machine: Machine, path: Path) -> None:
    """Let everybody reach a folder whose parents are closed: an empty folder that holds it alone covers them."""
    closed = next((parent for parent in reversed(path.parents) if not parent.stat().st_mode & 0o001), None)
    if closed is None:
        return
    beside = machine.home / "opened"
    beside.mkdir()
    words = {"path": shlex.quote(str(path)), "closed": shlex.quote(str(closed)), "beside": shlex.quote(str(beside))}
    script = (
        "set -e; mount --bind {path} {beside}; mount -t tmpfs -o mode=755 tmpfs {closed}; mkdir -p {path}; "
        "mount --bind {beside} {path}"
    )
    machine.run("sh", "-c", script.format(**words))
