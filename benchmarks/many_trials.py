"""What a sweep of so many trials costs beside training: driver, continuing, status, table, memory; samplers apart.

python -m benchmarks.many_trials [--trials 100 1000 5000] [--search random tpe] [--proposals 100 1000] [--wandb 20]

The trials do nothing (``tests.ray.stub``, one epoch), one worker each, one at a time, on a Ray of their own. Each size
runs in fresh processes, so that memory is its own. ``--search`` names samplers: a study of so many trials beside the
grid. ``--proposals`` times a proposal alone, without Ray, in a study that holds so many trials. ``--wandb`` opens,
writes and closes so many offline W&B runs of ten epochs in one process, as trials of one worker do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
EDGE = 50
"""Trials at the beginning and at the end whose pace is compared."""


def sweep_file(folder: Path, trials: int, kind: str) -> Path:
    """A sweep over so many temperatures, or a search of so many trials."""
    content: dict[str, Any] = {
        "name": "many",
        "question": "How long does it take?",
        "base": {
            "recipe": "none",
            "data": {"dataset": "nw-ucla", "path": str(folder / "nothing")},
            "encoder": {"name": "hcn"},
            "training": {"epochs": 1, "batch_size": 16, "learning_rate": 0.1},
            "tracking": {"wandb": "disabled"},
        },
        "resources": {"workers": 1},
        "max_concurrent_trials": 1,
    }
    if kind == "grid":
        content["grid"] = {"contrast.temperature": [round(0.2 + 0.0002 * trial, 4) for trial in range(trials)]}
    else:
        content["search"] = "optuna"
        content["space"] = {
            "contrast.temperature": {"type": "float", "low": 0.2, "high": 2.0},
            "contrast.channel_reduction": {"type": "choices", "values": [4, 8, 16]},
        }
        startup = trials if kind == "random" else 10
        content["optuna"] = {"trials": trials, "startup_trials": startup, "scheduler": "none"}
    file = folder / f"{kind}.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def memory() -> float:
    """MiB that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def run(file: Path, storage: Path) -> dict[str, float]:
    """Run a sweep once; return seconds and memory."""
    from stdcl.sweep.driver import run_sweep
    from tests.ray.stub import Stub

    begin = time.perf_counter()
    first = 0.0
    ends: list[tuple[float, float]] = []

    def say(text: str) -> None:
        nonlocal first
        now = time.perf_counter() - begin
        if "  started" in text:
            first = first or now
        elif "  finished  " in text:
            ends.append((now, memory()))

    code = run_sweep(file, storage=storage, loop=Stub(), check=lambda config: (), say=say)
    assert code == 0, f"the sweep ended with {code}"
    whole = time.perf_counter() - begin
    if not ends:
        return {"whole": whole}
    pace = [(after - before) / EDGE for (before, _), (after, _) in ((ends[0], ends[EDGE]), (ends[-EDGE - 1], ends[-1]))]
    return {
        "start": first,
        "each": (ends[-1][0] - ends[0][0]) / (len(ends) - 1),
        "first trials": pace[0],
        "last trials": pace[1],
        "end": whole - ends[-1][0],
        "memory": ends[EDGE][1],
        "memory at the end": ends[-1][1],
    }


def look(folder: Path) -> dict[str, float]:
    """Status and report of a sweep's folder, in seconds."""
    from stdcl.report.files import write_report
    from stdcl.report.operation import render_status
    from stdcl.report.table import sweep_table
    from stdcl.results.layout import SweepFolder
    from stdcl.results.status import sweep_status

    out = {}
    for name, work in (
        ("status", lambda: render_status(sweep_status(SweepFolder(folder)))),
        ("table", lambda: sweep_table(folder)),
        ("report", lambda: write_report(folder)),
    ):
        begin = time.perf_counter()
        work()
        out[name] = time.perf_counter() - begin
    return out


def propose(trials: int, kind: str) -> dict[str, float]:
    """Seconds of one proposal in a study of so many trials."""
    from stdcl.config.sweep import load_sweep
    from stdcl.sweep.sampling import study_space, suggest
    from stdcl.sweep.study import open_study

    with tempfile.TemporaryDirectory() as folder:
        sweep = load_sweep(sweep_file(Path(folder), trials, kind))
        study, _ = open_study(sweep, Path(folder) / "study", 1)
        import optuna

        space = study_space(sweep.config.space)
        for number in range(trials):
            parameters = {"contrast.temperature": 0.2 + 1.8 * (number * 0.618 % 1), "contrast.channel_reduction": 8}
            study.add_trial(
                optuna.trial.create_trial(
                    params=parameters, distributions=dict(space.distributions), value=number * 0.381 % 1
                )
            )
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            suggest(study.ask(), space)
            times.append(time.perf_counter() - begin)
    return {"proposal": min(times)}


def track(runs: int) -> dict[str, float]:
    """Seconds that W&B takes of a trial, offline: the first one's, the others' median, and of what comes last."""
    from stdcl.tracking.wandb_settings import WandbSettings
    from stdcl.tracking.wandb_sink import WandbSink

    times = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            place = Path(folder) / str(number)
            place.mkdir()
            begin = time.perf_counter()
            sink = WandbSink(
                WandbSettings("many", mode="offline"), sweep="many", key=f"trial {number}", directory=place
            )
            sink.start({"training": {"epochs": 10}}, {"seed": number})
            for epoch in range(1, 11):
                sink.log_epoch({"loss": 1.0 / epoch, "accuracy": 0.5}, epoch)
            sink.finish({"accuracy": 0.5}, "finished")
            times.append(time.perf_counter() - begin)
    return {"first": times[0], "others": statistics.median(times[1:]), "last ten": statistics.median(times[-10:])}


def in_a_process(*arguments: str) -> dict[str, float]:
    """Run one part of this file in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.many_trials", "--part", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def part(name: str, first: str, second: str = "") -> dict[str, float]:
    """What ``in_a_process`` asks for."""
    if name == "run":
        return run(Path(first), Path(second))
    if name == "wandb":
        return track(int(first))
    return look(Path(first)) if name == "look" else propose(int(first), second)


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="*", default=[100, 1000, 5000])
    parser.add_argument("--search", nargs="*", default=[], choices=["random", "tpe"])
    parser.add_argument("--proposals", type=int, nargs="*", default=[])
    parser.add_argument("--wandb", type=int, default=0)
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        print(json.dumps(part(*asked.part)))
        return
    for trials in asked.trials:
        for kind in ("grid", *asked.search):
            with tempfile.TemporaryDirectory() as folder:
                file, storage = sweep_file(Path(folder), trials, kind), Path(folder) / "runs"
                found = in_a_process("run", str(file), str(storage))
                again = in_a_process("run", str(file), str(storage))
                found |= {"continuing": again["whole"], **in_a_process("look", str(storage / "many"))}
            print(f"{kind}, {trials} trials: " + ", ".join(f"{k} {v:.3g}" for k, v in found.items()), flush=True)
    for trials in asked.proposals:
        for kind in ("random", "tpe"):
            found = in_a_process("propose", str(trials), kind)
            print(f"a proposal of {kind} after {trials} trials: {1000 * found['proposal']:.1f} ms", flush=True)
    if asked.wandb:
        found = in_a_process("wandb", str(asked.wandb))
        print(f"{asked.wandb} offline W&B runs: " + ", ".join(f"{k} {v:.3g} s" for k, v in found.items()))


if __name__ == "__main__":
    main()
