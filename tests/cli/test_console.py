"""Standard streams whose reader goes away, whose descriptor is closed, whose encoding is poor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import sys
from stdcl.cli import command
def run(words):
    for n in range(3000):
        print(f"line {n} ± 1")
        if n % 100 == 0:
            print("note", file=sys.stderr)
            sys.stdout.flush()
    open(words[0], "w").write("done")
    return 0
command._run = run
sys.exit(command.main(sys.argv[1:]))
"""


def start(done: Path, **more: object) -> subprocess.Popen[bytes]:
    """Start work that prints for a while and then leaves a file."""
    return subprocess.Popen([sys.executable, "-c", WORK, str(done)], **more)  # type: ignore[call-overload, no-any-return]


def test_a_closed_pipe_does_not_end_the_work(tmp_path: Path) -> None:
    with start(tmp_path / "done", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as work:
        assert work.stdout is not None
        assert work.stderr is not None
        assert work.stdout.readline() == "line 0 ± 1\n".encode()
        work.stdout.close()
        assert set(work.stderr.read().split(b"\n")) == {b"note", b""}
    assert work.returncode == 0
    assert (tmp_path / "done").read_text() == "done"


def test_both_streams_of_a_dead_reader(tmp_path: Path) -> None:
    with start(tmp_path / "done", stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as work:
        assert work.stdout is not None
        work.stdout.close()
    assert work.returncode == 0
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors(tmp_path: Path, closed: str) -> None:
    (tmp_path / "work.py").write_text(WORK)
    command = f'exec "$0" "$1" "$2" {closed}'
    words = [sys.executable, str(tmp_path / "work.py"), str(tmp_path / "done")]
    assert subprocess.run(["/bin/sh", "-c", command, *words], capture_output=True).returncode == 0
    assert (tmp_path / "done").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_below_the_output_is_an_error(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        work = start(tmp_path / "done", stdout=full, stderr=subprocess.PIPE)
    assert b"error: standard output is incomplete: No space left on device" in work.communicate()[1]
    assert work.returncode == 1
    assert (tmp_path / "done").exists()


def test_signs_that_an_encoding_lacks(tmp_path: Path) -> None:
    work = start(tmp_path / "done", stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert work.communicate()[0].startswith(b"line 0 +/- 1\n")
    assert work.returncode == 0


def test_the_end_of_the_terminal_is_outlived_by_what_asks_for_it(tmp_path: Path) -> None:
    code = (
        "import os, signal, subprocess, sys\nfrom stdcl.cli.console import outlive_terminal\n"
        "outlive_terminal()\nos.kill(os.getpid(), signal.SIGHUP)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input(); print(1)'], stdin=-1, stdout=-1)\n"
        "child.send_signal(signal.SIGHUP)\n"
        "sys.exit(0 if child.communicate(b'x\\n')[0] == b'1\\n' else 1)\n"
    )
    reset = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)}
    assert subprocess.run([sys.executable, "-c", code], **reset).returncode == 0  # type: ignore[call-overload]


def test_a_handler_of_ones_own_stays() -> None:
    from stdcl.cli.console import outlive_terminal

    def own(number: int, frame: object) -> None:
        return None

    before = signal.signal(signal.SIGHUP, own)
    try:
        outlive_terminal()
        assert signal.getsignal(signal.SIGHUP) is own
    finally:
        signal.signal(signal.SIGHUP, before)


def test_prose_is_broken_at_words_and_goes_on_further_in() -> None:
    from stdcl.cli.console import wrapped

    text = "short\n\n  one two three four /a/path/that/is/longer/than/the/line"
    expected = ["short", "", "  one two", "    three", "    four", "    /a/path/that/is/longer/than/the/line"]
    assert wrapped(text, 10).splitlines() == expected
