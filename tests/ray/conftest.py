"""Runs a driver in a process of its own, on a Ray that lives and dies with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

Start = Callable[..., "subprocess.Popen[str]"]


def bare_environment() -> dict[str, str]:
    """The variables of a driver's process: this one's, without what would lead it to another cluster or folder."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "STDCL_", "WANDB_", "CUDA_"))}
    return {**inherited, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start ``tests.ray.run``; whatever still runs at the end of the test is killed.

    Its current folder holds modules that must not be imported by anything: trials run the driver's package.
    """
    started: list[subprocess.Popen[str]] = []
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "stdcl").mkdir(parents=True)
    for module in ("stdcl/__init__.py", "statistics.py", "random.py"):
        (elsewhere / module).write_text("raise ImportError('a module of the current folder was imported')\n")

    def begin(
        kind: str, content: dict[str, Any], folder: Path, *overrides: str, environment: dict[str, str] | None = None,
        **stub: Any,
    ) -> subprocess.Popen[str]:  # fmt: skip
        file = tmp_path / f"{kind}.yaml"
        file.write_text(yaml.safe_dump(content))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.ray.run", kind, str(file), str(folder), json.dumps(stub), *overrides],
            cwd=elsewhere,
            env={**bare_environment(), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end; return the exit code and all that was printed."""
    text, _ = process.communicate()
    return process.returncode, text


def read_until(process: subprocess.Popen[str], mark: str) -> str:
    """Read the output up to the line that contains ``mark``."""
    assert process.stdout is not None
    seen: list[str] = []
    for line in process.stdout:
        seen.append(line)
        if mark in line:
            return "".join(seen)
    raise AssertionError(f"'{mark}' was never printed:\n{''.join(seen)}")


def history(run_dir: Path) -> list[dict[str, Any]]:
    """The rows that the stub wrote."""
    return [json.loads(line) for line in (run_dir / "history.jsonl").read_text().splitlines()]
