"""Sweeps of one trial, small enough for machines that share two cores: the real training, and the stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.machines import PORT, Machine
from tests.ray.command import EPOCHS, INTERVAL, history_rows, run_file
from tests.sweep.conftest import GRID

NAME = "tiny"

ONE_TRIAL = {**GRID, "grid": {"contrast.temperature": [0.5]}, "baseline": False, "seeds": [1]}
"""For the stand-in."""


def tiny_sweep(data: Path, epochs: int = EPOCHS, interval: int | None = INTERVAL, **resources: Any) -> dict[str, Any]:
    """A sweep file of one cell and one seed; ``interval``: steps between checkpoints, None for none within an epoch."""
    base = run_file(data)
    base["training"] |= {"epochs": epochs, "checkpoint_every_steps": interval}
    return {
        "name": NAME,
        "question": "Does it run on several machines?",
        "base": base,
        "grid": {"contrast.temperature": [0.5]},
        "baseline": False,
        "seeds": [1],
        "resources": resources,
        "checkpoints": {"keep": "all"},  # they are compared
    }


def start_stub(
    machine: Machine, head: Machine, storage: Path, resources: dict[str, Any], **stub: Any
) -> subprocess.Popen[bytes]:
    """Start a sweep of one trial with the stand-in loop; its output goes to ``output.txt`` beside the storage.

    Args:
        machine: where its driver runs.
        head: of the cluster.
        storage: folder of all results.
        resources: of the trial; ``retries`` is the sweep's.
        stub: settings of the stand-in.
    """
    more = {key: resources.pop(key) for key in ("retries",) if key in resources}
    file = write_sweep(storage.parent / "sweep.yaml", {**ONE_TRIAL, **more, "resources": resources})
    return machine.start(
        "env", f"RAY_ADDRESS={head.address}:{PORT}", sys.executable, "-m", "tests.ray.run", "sweep", str(file),
        str(storage), json.dumps(stub), output=storage.parent / "output.txt",
    )  # fmt: skip


def write_sweep(file: Path, content: dict[str, Any]) -> Path:
    """Write a sweep file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content))
    return file


def stdcl(machine: Machine, *words: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run the command on a machine; return its exit code and all that it printed."""
    pairs = [f"{key}={value}" for key, value in (environment or {}).items()]
    done = machine.run("env", *pairs, "stdcl", *words, check=False)
    return done.returncode, done.stdout


def the_run(storage: Path) -> Path:
    """The folder of the only trial."""
    (folder,) = (storage / NAME / "trials").iterdir()
    return folder


def epochs_of(storage: Path) -> list[int]:
    """The epochs in the history of the only trial; none before it has begun."""
    return [
        row["epoch"] for file in storage.glob(f"{NAME}/trials/*/history.jsonl") for row in history_rows(file.parent)
    ]
