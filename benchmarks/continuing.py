"""Continue a sweep whose trials are finished, and list one with thousands of cells: seconds, without Ray.

python benchmarks/continuing.py [--finished 100 300 1000] [--cells 500 2000]

Both are what `stdcl sweep` does before Ray starts. The finished runs are made up, and not checked against data; the
cells to do are checked against a small synthetic corpus (HCN with its head is built for each).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from stdcl.config import RunConfig, to_yaml
from stdcl.config.sweep import Sweep, load_sweep
from stdcl.data.synthetic import ensure_data
from stdcl.results.layout import SweepFolder
from stdcl.results.result import RunResult, write_result
from stdcl.sweep.driver import Check, run_sweep


def write_sweep(folder: Path, cells: int, seeds: int) -> Path:
    """A sweep file over so many temperatures."""
    content: dict[str, Any] = {
        "name": "many",
        "question": "How long does it take?",
        "base": {
            "recipe": "none",
            "data": {"dataset": "nw-ucla", "path": str(folder / "store"), "synthetic": {"sequences": 60}},
            "encoder": {"name": "hcn"},
            "contrast": {"hard_positives": 3, "hard_negatives": 8, "random_negatives": 8},
            "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.1},
            "tracking": {"wandb": "disabled"},
        },
        "grid": {"contrast.temperature": [round(0.1 + 0.001 * cell, 3) for cell in range(cells)]},
        "seeds": list(range(1, seeds + 1)),
    }
    file = folder / "many.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def finish(sweep: Sweep, folder: SweepFolder) -> int:
    """Give every trial the result of a finished run."""
    trials = sweep.trials()
    for trial in trials:
        run = folder.run(trial.key)
        run.root.mkdir(parents=True)
        run.config.write_text(to_yaml(trial.config))
        write_result(run.result, RunResult({"epoch": 2, "accuracy": 0.5, "num_test": 464}, trial.fingerprint))
    return len(trials)


def timed(file: Path, storage: Path, *, dry_run: bool, check: Check | None = None) -> tuple[float, float]:
    """Seconds of one invocation: on the clock, and of the processor."""
    begin = time.perf_counter(), time.process_time()
    run_sweep(file, dry_run=dry_run, storage=storage, check=check, loop=_no_loop, say=lambda text: None)
    return time.perf_counter() - begin[0], time.process_time() - begin[1]


def unchecked(config: RunConfig) -> list[str]:
    """Take the place of the check against data."""
    return []


def _no_loop(*args: Any, **more: Any) -> Any:
    raise AssertionError("every trial is finished")


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finished", type=int, nargs="*", default=[100, 300, 1000], help="trials, in tens")
    parser.add_argument("--cells", type=int, nargs="*", default=[500, 2000])
    sizes = parser.parse_args()
    print(f"{'':24s} {'first [s]':>10s} {'again [s]':>10s} {'dry run [s]':>12s} {'processor [s]':>14s}")
    for number in sizes.finished:
        with tempfile.TemporaryDirectory() as folder:
            file = write_sweep(Path(folder), number // 10, 10)
            storage = Path(folder) / "runs"
            finish(load_sweep(file), SweepFolder(storage / "many"))
            first, again = (timed(file, storage, dry_run=False, check=unchecked)[0] for _ in range(2))
            dry, processor = timed(file, storage, dry_run=True, check=unchecked)
            print(f"{number:6d} finished trials   {first:10.2f} {again:10.2f} {dry:12.2f} {processor:14.2f}")
    for cells in sizes.cells:
        with tempfile.TemporaryDirectory() as folder:
            file = write_sweep(Path(folder), cells, 1)
            ensure_data(load_sweep(file).trials()[0].config)
            timed(write_sweep(Path(folder), 2, 1), Path(folder) / "runs", dry_run=True)  # imports what checks
            dry, processor = timed(write_sweep(Path(folder), cells, 1), Path(folder) / "runs", dry_run=True)
            print(f"{cells:6d} cells to do        {'':>10s} {'':>10s} {dry:12.2f} {processor:14.2f}")


if __name__ == "__main__":
    main()
