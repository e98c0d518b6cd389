"""``stdcl status --watch`` on a terminal: drawn in place, at its width, until Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

from stdcl.results.layout import SweepFolder
from stdcl.results.plan import Plan, PlannedTrial, write_plan
from stdcl.results.store import TrialRow, append

COLUMNS, LINES = 80, 8


def _sweep(folder: SweepFolder, trials: int) -> None:
    keys = [f"temperature=0.{number:03d},seed=1,{number:08x}" for number in range(trials)]
    planned = tuple(PlannedTrial(key, "grid", {"contrast.temperature": key}, 1) for key in keys)
    write_plan(folder.plan, Plan("tau", "Which?", "grid", ("contrast.temperature",), planned))
    for key in keys[: trials - 1]:
        append(
            folder.results,
            TrialRow(
                sweep="tau", key=key, attempt=0, status="failed", arm="grid", seed=1, parameters={}, dataset="nw-ucla",
                protocol="cross-view", evaluated_on="test", stream="joint", encoder="hcn", strategy="spatial",
                error="ValueError: " + "long " * 40,
            ),
        )  # fmt: skip


def test_the_watched_status_fits_the_terminal_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "tau")
    _sweep(folder, 12)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "stdcl", "status", str(folder.root), "--watch"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment, "TERM": "xterm"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    seen = b""
    try:
        while b"0000000a" not in seen:
            seen += os.read(master, 4096)
        os.write(master, b"\x03")
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
        os.close(master)
    drawn = [line.rstrip("\r") for line in seen.decode().split("\033[K", 1)[1].split("\033")[0].split("\n")]
    assert drawn[0].startswith("tau: 11 failed, 1 not started; no driver runs")
    assert len(drawn) < LINES, "nothing scrolls"
    assert max(map(len, drawn)) < COLUMNS
    assert drawn[-1].startswith("failed")
