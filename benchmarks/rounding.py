"""How far float32 runs of one configuration differ with workers, threads and exchange, beside the spread over seeds.

    python benchmarks/rounding.py STORE [--seeds 3] [--epochs 8] [--encoder hcn] [--limit SECONDS]

STORE is a prepared NW-UCLA. Each seed is trained in every variant (its ranks are gloo processes on this machine); runs
are compared by accuracy and by the number of test sequences that one classifies rightly and the other does not. Prints
a line per run, then two lines: pairs of one seed in two variants, and pairs of two seeds in one variant.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from stdcl.config.load import merge, resolve
from stdcl.parallel.comm import LocalComm, ProcessGroupComm
from stdcl.results.layout import RunFolder
from stdcl.results.scores import read_answers
from stdcl.training.processor import processor_name
from stdcl.training.trainer import training

VARIANTS: dict[str, dict[str, Any]] = {
    "1 worker": {},
    "2 workers": {"workers": 2},
    "4 workers": {"workers": 4},
    "1 worker, 2 threads": {"threads": 2},
    "2 workers, allgather": {"workers": 2, "exchange": "allgather"},
}


def rank_main(rank: int, raw: dict[str, Any], folder: str, workers: int, threads: int, rendezvous: str) -> None:
    """Train one rank."""
    torch.set_num_threads(threads)
    config = resolve(raw, "benchmark")
    if workers > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=workers, timeout=timedelta(minutes=5)
        )
    comm = ProcessGroupComm() if workers > 1 else LocalComm()
    for _ in training(config, Path(folder), comm=comm, device=torch.device("cpu")):
        pass
    if workers > 1:
        dist.destroy_process_group()


def train(store: Path, folder: Path, seed: int, variant: dict[str, Any], arguments: argparse.Namespace) -> np.ndarray:
    """Train one run; returns which test sequences it classifies rightly."""
    workers = variant.get("workers", 1)
    raw = {
        "recipe": "lite",
        "data": {"dataset": "nw-ucla", "path": str(store), "frames": 26, "repeat": 1},
        "encoder": {"name": arguments.encoder},
        "contrast": {
            "hard_positives": 32, "hard_negatives": 128, "random_negatives": 128,
            "exchange": variant.get("exchange", "candidates"),
        },
        "training": {"epochs": arguments.epochs, "evaluate_every": arguments.epochs, "seed": seed},
        "resources": {"workers": workers, "loader_threads": 0},
        "tracking": {"wandb": "disabled"},
    }  # fmt: skip
    call = (merge({}, raw), str(folder), workers, variant.get("threads", 1), str(folder) + ".rendezvous")
    multiprocessing.start_processes(rank_main, args=call, nprocs=workers, start_method="spawn")
    return read_answers(RunFolder(folder).scores()).right


def compared(pairs: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """How far pairs of runs differ."""
    points = [100 * abs(float(one.mean() - other.mean())) for one, other in pairs]
    answers = [int((one != other).sum()) for one, other in pairs]
    return (
        f"{len(pairs)} pairs; accuracy differs by {statistics.mean(points):.2f} points on average (at most "
        f"{max(points):.2f}), answers by {statistics.mean(answers):.1f} sequences (at most {max(answers)})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--encoder", default="hcn")
    parser.add_argument("--limit", type=float, default=float("inf"), help="start no further seed after so many seconds")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    arguments = parser.parse_args()
    variants = {name: VARIANTS[name] for name in arguments.variants}
    print(
        f"{processor_name(torch.device('cpu'))}, {os.cpu_count()} cores, torch {torch.__version__}, {arguments.encoder}"
    )
    begin = time.perf_counter()
    found: dict[tuple[str, int], np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, arguments.seeds + 1):
            if time.perf_counter() - begin > arguments.limit:
                print(f"stopped before seed {seed}: --limit")
                break
            for name, variant in variants.items():
                right = train(arguments.store.absolute(), Path(folder) / f"{seed}-{name}", seed, variant, arguments)
                found[name, seed] = right
                seconds = time.perf_counter() - begin
                print(f"seed {seed}, {name:20}  {100 * right.mean():.2f} %  ({seconds:.0f} s)", flush=True)
    seeds = sorted({seed for _, seed in found})
    same = [
        (found[one, seed], found[other, seed]) for seed in seeds for one, other in itertools.combinations(variants, 2)
    ]
    other = [(found[name, one], found[name, two]) for name in variants for one, two in itertools.combinations(seeds, 2)]
    print(f"one seed, other workers, threads or exchange: {compared(same)}")
    if other:
        print(f"other seeds, everything else equal: {compared(other)}")


if __name__ == "__main__":
    main()
