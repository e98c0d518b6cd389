"""One driver a sweep, one writer a run folder."""

from __future__ import annotations

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
