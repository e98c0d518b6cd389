"""Seconds between two trainings of a sweep of two-worker trials, with the processes and the memory of the whole.

python -m benchmarks.trial_starts [--trials 4] [--epochs 3] [--workers 2]

A sweep of HCN on synthetic NW-UCLA sequences on a Ray of its own, one trial at a time. "gap": from the last row of one
training to the first of the next, as the driver hears of them; it holds the next one's first epoch, which is given
beside it (the median time between two rows of one training). "start": from the command to the first row. The last
losses tell two versions apart to the last bit.
"""

from __future__ import annotations

import argparse
import itertools
import re
import statistics
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

ROW = re.compile(r"\] (\S+)  epoch (\d+)/(\d+) ")


def sweep_file(folder: Path, trials: int, epochs: int, workers: int) -> Path:
    """A sweep over so many seeds."""
    content: dict[str, Any] = {
        "name": "starts",
        "question": "How long does a start take?",
        "base": {
            "recipe": "none",
            "data": {"dataset": "nw-ucla", "path": str(folder / "store"), "synthetic": {"sequences": 120}},
            "encoder": {"name": "hcn"},
            "contrast": {"hard_positives": 3, "hard_negatives": 8, "random_negatives": 8},
            "training": {"epochs": epochs, "batch_size": 16, "learning_rate": 0.1},
            "tracking": {"wandb": "disabled"},
        },
        "grid": {"contrast.temperature": [0.8]},
        "seeds": list(range(1, trials + 1)),
        "resources": {"workers": workers},
        "max_concurrent_trials": 1,
    }
    file = folder / "starts.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


class Watch:
    """Looks now and then at this process and all that it has started."""

    def __init__(self) -> None:
        self.processes: list[int] = []
        self.memory: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._ended.wait(2.0):
            family = [psutil.Process(), *psutil.Process().children(recursive=True)]
            memory = 0
            for process in family:
                with suppress(psutil.Error):
                    memory += process.memory_full_info().pss
            self.processes.append(len(family))
            self.memory.append(memory / 2**20)

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
        self._thread.join()


def main() -> None:
    """Print a line per training and one of the whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    from stdcl.results.history import read_history
    from stdcl.sweep.driver import run_sweep

    rows: list[tuple[str, int, float]] = []

    def say(text: str) -> None:
        if found := ROW.search(text):
            rows.append((found[1], int(found[2]), time.perf_counter()))

    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        file = sweep_file(Path(folder), asked.trials, asked.epochs, asked.workers)
        begin = time.perf_counter()
        code = run_sweep(file, storage=Path(folder) / "runs", say=say)
        histories = sorted((Path(folder) / "runs").glob("*/trials/*/history.jsonl"))
        losses = {path.parent.name: read_history(path)[-1]["loss"] for path in histories}
    watch.end()
    assert code == 0, f"the sweep ended with {code}"
    pairs = list(itertools.pairwise(rows))
    epoch = statistics.median(after[2] - before[2] for before, after in pairs if before[0] == after[0])
    gaps = [after[2] - before[2] for before, after in pairs if before[0] != after[0]]
    print(f"start {rows[0][2] - begin:.1f} s; gaps {', '.join(f'{gap:.1f}' for gap in gaps)} s; an epoch {epoch:.2f} s")
    print("last losses: " + ", ".join(f"{key} {loss!r}" for key, loss in losses.items()))
    print(f"at most {max(watch.processes)} processes, {max(watch.memory):,.0f} MiB (shared pages counted once)")


if __name__ == "__main__":
    main()
