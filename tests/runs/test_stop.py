"""``stdcl train`` that is asked to end, and the terminal that goes away."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from stdcl.cli import INTERRUPTED
from stdcl.results.progress import read_progress
from stdcl.training import checkpoint
from tests.train.conftest import small_raw


def _heed_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def long_run(store: Path, folder: Path, **more: object) -> Iterator[subprocess.Popen[str]]:
    """A run of many steps that is under way; killed at the end if it is still there."""
    file = folder / "a run.yaml"
    file.write_text(yaml.safe_dump(small_raw(store, data={"repeat": 5000}, training={"epochs": 2})))
    command = [sys.executable, "-m", "stdcl", "train", str(file), "--out", str(folder / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, text=True, preexec_fn=_heed_signals, start_new_session=True, **more  # type: ignore[call-overload]
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while True:
            found = read_progress(folder / "run" / "progress.json")
            if found is not None and found.phase == "training" and found.done >= 2:
                break
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no step was taken"
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_under_way_and_says_how_to_resume(
    small_store: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with long_run(small_store, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.send_signal(number)
        out, err = process.communicate()
        assert process.returncode == INTERRUPTED, err
    assert "Traceback" not in err
    assert f"{number.name}: leaving after this step" in err
    resume = err.partition("to resume: ")[2].strip()
    assert shlex.split(resume) == ["stdcl", "train", str(tmp_path / "a run.yaml"), "--out", str(tmp_path / "run")]
    newest = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert newest is not None
    assert f"stopped after step {int(newest.name.rpartition('-')[2])} of " in err
    assert "data    nw-ucla/cross-view: " in out
    progress = read_progress(tmp_path / "run" / "progress.json")
    assert progress is not None
    assert progress.phase == "interrupted"


def test_a_run_outlives_its_terminal(small_store: Path, tmp_path: Path) -> None:
    with long_run(small_store, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        before = read_progress(tmp_path / "run" / "progress.json")
        process.send_signal(signal.SIGHUP)
        assert process.stdout is not None
        process.stdout.close()
        deadline = time.monotonic() + 300
        while (now := read_progress(tmp_path / "run" / "progress.json")) == before:
            assert time.monotonic() < deadline, "no further step was taken"
            time.sleep(0.05)
        assert now is not None
        assert now.phase == "training"
        process.terminate()
        assert process.wait() == INTERRUPTED
