"""How long `stdcl status` takes of a sweep of so many trials, and reading all rows, in seconds of processor time.

python benchmarks/operating.py [--trials 100 1000 5000]

Every trial but ten is finished and has its row and run folder; five have failed, five run. Rows are read from a file
each, and from the copy that a driver makes at its start and end.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from stdcl.report.operation import render_status
from stdcl.results.history import HistoryFile
from stdcl.results.layout import SweepFolder
from stdcl.results.plan import Plan, PlannedTrial, write_plan
from stdcl.results.progress import RunProgress, write_progress
from stdcl.results.result import RunResult, write_result
from stdcl.results.status import read_attempts_once, sweep_status
from stdcl.results.store import TrialRow, append, pack


def make(folder: SweepFolder, trials: int) -> None:
    """A sweep's folder."""
    keys = [f"temperature={0.1 + trial / 1000:g},seed=1,{trial:08x}" for trial in range(trials)]
    planned = tuple(PlannedTrial(key, "grid", {"contrast.temperature": n}, 1) for n, key in enumerate(keys))
    write_plan(folder.plan, Plan("many", "How long?", "grid", ("contrast.temperature",), planned))
    now = time.time()
    for number, key in enumerate(keys):
        run, running = folder.run(key), number < 5
        failed = 5 <= number < 10
        HistoryFile(run.history).append({"epoch": 1, "accuracy": 0.5, "num_test": 464})
        if running:
            write_progress(run.progress, RunProgress("training", 1, 30, 3, 10, 100.0, 60.0, now, now, "node"))
            continue
        result = {"accuracy": 0.5, "num_test": 464, "epochs": 30, "total_seconds": 60.0}
        said = {"error": "ValueError: no"} if failed else result
        row = TrialRow(
            sweep="many", key=key, attempt=0, status="failed" if failed else "finished", arm="grid", seed=1,
            parameters={"contrast.temperature": number}, dataset="nw-ucla", protocol="cross-view",
            evaluated_on="test", stream="joint", encoder="hcn", strategy="spatial", **said,  # type: ignore[arg-type]
        )  # fmt: skip
        append(folder.results, row)
        if not failed:
            write_result(run.result, RunResult({"epoch": 30, "accuracy": 0.5, "num_test": 464, "total_seconds": 60.0}))


def seconds(work: Callable[[], object]) -> float:
    """The shortest of three."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="*", default=[100, 1000, 5000])
    print("trials  status [s]  rows, a file each [s]  rows, copied [s]")
    for trials in parser.parse_args().trials:
        with tempfile.TemporaryDirectory() as root:
            folder = SweepFolder(Path(root) / "many")
            make(folder, trials)
            status = seconds(lambda: render_status(sweep_status(folder)))  # noqa: B023 - called at once
            rows = seconds(lambda: read_attempts_once(folder.results))  # noqa: B023 - called at once
            pack(folder.results)
            packed = seconds(lambda: read_attempts_once(folder.results))  # noqa: B023 - called at once
            print(f"{trials:6d}  {status:10.2f}  {rows:21.2f}  {packed:16.2f}", flush=True)


if __name__ == "__main__":
    main()
