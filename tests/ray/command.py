"""``stdcl train`` and ``stdcl sweep`` as a user starts them, to be killed by tests; and what they leave compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml

from stdcl.training import checkpoint

ROOT = Path(__file__).resolve().parents[2]
HOLD = Path(__file__).parent / "hold"

STEPS, EPOCHS, INTERVAL = 5, 3, 2
"""Steps of an epoch, epochs, and steps between checkpoints."""

TIMES = {
    "seconds",
    "total_seconds",
    "train_seconds",
    "sequences_per_second",
    "peak_memory_mib",
    "contrast/share_of_step",
}
"""Numbers of a row that differ between any two runs."""

NOT_COMPARED = {"spent", "last_row", "config", "ranks"}
"""Of ``state.pt``: times, and where things lie. (The last row is compared as the history's.)"""


def run_file(data: Path) -> dict[str, Any]:
    """A run of 3 epochs of 5 steps (HCN on 16 frames) with checkpoints inside the epochs."""
    return {
        "recipe": "none",
        "data": {
            "dataset": "nw-ucla",
            "path": str(data),
            "frames": 16,
            "synthetic": {"sequences": 60, "seed": 5},
        },
        "encoder": {"name": "hcn", "hidden": 16, "dropout": 0.2},
        "contrast": {
            "strategy": "spatial+temporal",
            "embedding_dim": 16,
            "channel_reduction": 8,
            "hard_positives": 2,
            "hard_negatives": 8,
            "random_negatives": 8,
        },
        "training": {
            "epochs": EPOCHS,
            "batch_size": 8,
            "learning_rate": 0.01,
            "warmup_epochs": 1,
            "checkpoint_every_steps": INTERVAL,
        },
        "tracking": {"wandb": "disabled"},
    }


def wait_until(reached: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait for a condition; return the seconds that it took."""
    begin = time.monotonic()
    while not reached():
        if time.monotonic() - begin > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - begin


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Command:
    """A ``stdcl`` command line in a process group of its own, with all processes that Ray starts for it.

    Args:
        arguments: of ``stdcl``.
        hold: the folder for ``tests/ray/hold``; it also marks the command's processes.
        environment: further variables.
    """

    def __init__(self, arguments: Sequence[str], hold: Path, environment: dict[str, str] | None = None) -> None:
        self.arguments, self.hold = list(arguments), hold
        self.environment = environment or {}
        self.output = hold / "output.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; again, once it has ended."""
        if self.process is not None:
            self.process.wait()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "STDCL_", "WANDB_"))}
        path = os.pathsep.join([str(HOLD), str(ROOT)])
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stdcl", *self.arguments],
                cwd=ROOT,
                env={
                    **inherited,
                    "PYTHONPATH": path,
                    "OMP_NUM_THREADS": "1",
                    "HOLD_FOLDER": str(self.hold),
                    **self.environment,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A shell's background job ignores Ctrl-C, and would pass that on.
                preexec_fn=_heed_interrupts,
            )

    def finish(self, seconds: float = 300.0) -> int:
        """Wait for its end; return the exit code."""
        assert self.process is not None
        return self.process.wait(seconds)

    @property
    def text(self) -> str:
        """All that it has printed, in all its attempts."""
        return self.output.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Every process that lives and was started by it, Ray's own included."""
        mark = str(self.hold)
        return [p for p in psutil.process_iter() if _mark_of(p) == mark]

    def ranks(self) -> dict[int, int]:
        """Rank -> process id, of the training's processes that live."""
        found = [path.name.split("-")[1:] for path in self.hold.glob("rank-*")]
        return {int(rank): int(pid) for rank, pid in found if alive(int(pid))}

    def until_held(self) -> None:
        """Wait until the rank that the plan names has come to its place, and the others wait for it."""
        assert self.process is not None
        process = self.process
        wait_until(lambda: (self.hold / "held").exists() or process.poll() is not None, 300, "the place of the plan")
        assert (self.hold / "held").exists(), f"the command ended early:\n{self.text}"
        time.sleep(0.5)

    def end(self) -> None:
        """Kill whatever is left of it."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process is not None:
            self.process.wait()


def _mark_of(process: psutil.Process) -> str | None:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        mark: str | None = process.environ().get("HOLD_FOLDER")
        return mark
    except psutil.Error:
        return None


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def kill(*pids: int) -> None:
    """SIGKILL."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def steps_taken(hold: Path) -> list[tuple[int, int]]:
    """(epoch, step) of every step that rank 0 completed, repetitions included, in order."""
    lines = (hold / "steps-0").read_text().splitlines()
    return [(int(epoch), int(step)) for epoch, step in (line.split() for line in lines)]


def history_rows(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of the history file as they stand, without times."""
    rows = [json.loads(line) for line in (run_dir / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def last_checkpoint(run_dir: Path) -> dict[str, Any]:
    """Everything in the last checkpoint's files that does not depend on time or place."""
    folder = run_dir / "checkpoints" / checkpoint.Position(EPOCHS).name
    manifest = checkpoint.read_manifest(folder)
    content: dict[str, Any] = {"identity": manifest["identity"]}
    for file in sorted(folder.glob("*.pt")):
        content[file.name] = torch.load(file, weights_only=True)
    content["state.pt"] = {key: value for key, value in content["state.pt"].items() if key not in NOT_COMPARED}
    return content


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Yield the places where two nested values are not equal to the last bit."""
    if isinstance(one, torch.Tensor):
        if not isinstance(other, torch.Tensor) or one.dtype != other.dtype or not torch.equal(one, other):
            yield where
    elif isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key, value in one.items():
            yield from differences(value, other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{where}/{index}")
    elif one != other:
        yield f"{where}: {one!r} and {other!r}"


def assert_as_undisturbed(run_dir: Path, undisturbed: Path) -> None:
    """A run ended exactly as the undisturbed one: history, result, last checkpoint, and nothing left over."""
    rows = history_rows(run_dir)
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1)), "each epoch exactly once"
    assert rows == history_rows(undisturbed)
    assert list(differences(last_checkpoint(run_dir), last_checkpoint(undisturbed))) == []
    result = json.loads((run_dir / "result.json").read_text())
    assert result["status"] == "finished"
    row = {key: value for key, value in result["row"].items() if key not in TIMES}
    assert row == rows[-1]
    names = {path.name for path in run_dir.iterdir()}
    assert names == {
        "checkpoints",
        "config.yaml",
        "history.jsonl",
        "lock",
        "progress.json",
        "result.json",
        "scores.parquet",
    }
    assert all(checkpoint.position_of(path) for path in (run_dir / "checkpoints").iterdir())


def write_yaml(path: Path, content: dict[str, Any]) -> Path:
    """Write a configuration file."""
    path.write_text(yaml.safe_dump(content))
    return path
