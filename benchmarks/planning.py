"""Plans beside what trainings really took: the probe's epoch, and what operations say of settings that it did not see.

    python benchmarks/planning.py [--sequences N] [--epochs N]

Trains each setting in this process on a synthetic corpus, one worker without loader threads, and counts processor
seconds, which a busy machine disturbs less than the clock on the wall. The first epoch is not counted. ``scaled``: the
epoch as it would be forecast from all other settings' probes by the number of operations.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from stdcl.config import RunConfig
from stdcl.config.load import resolve
from stdcl.data.nw_ucla.synthetic import prepare_synthetic
from stdcl.parallel.comm import LocalComm
from stdcl.sweep.grounds import scaled
from stdcl.training.probe import Probe, operations, probe
from stdcl.training.trainer import training

FEW = {"hard_positives": 4, "hard_negatives": 32, "random_negatives": 32}
SETTINGS: dict[str, dict[str, Any]] = {
    "HCN": {"encoder": {"name": "hcn", "dropout": 0.2}, "contrast": {"strategy": "none"}},
    "HCN, STD-CL": {"encoder": {"name": "hcn", "dropout": 0.2}, "contrast": FEW},
    "HCN, 16 frames": {"encoder": {"name": "hcn", "dropout": 0.2}, "contrast": FEW, "data": {"frames": 16}},
    "HCN, batch 32": {"encoder": {"name": "hcn", "dropout": 0.2}, "contrast": FEW, "training": {"batch_size": 32}},
    "CTR-GCN": {"encoder": {"name": "ctrgcn"}, "contrast": {"strategy": "none"}},
    "CTR-GCN, STD-CL": {"encoder": {"name": "ctrgcn"}, "contrast": FEW},
    "2s-AGCN": {"encoder": {"name": "agcn"}, "contrast": FEW},
    "Hyperformer": {"encoder": {"name": "hyperformer"}, "contrast": FEW},
}


def configuration(store: Path, epochs: int, sections: dict[str, Any]) -> RunConfig:
    """Return a setting's configuration."""
    raw = {
        "recipe": "lite",
        "data": {"dataset": "nw-ucla", "path": str(store), "frames": 32, "repeat": 1} | sections.get("data", {}),
        "encoder": sections["encoder"],
        "contrast": sections["contrast"],
        "training": {"epochs": epochs, "batch_size": 16, "warmup_epochs": 1} | sections.get("training", {}),
        "resources": {"workers": 1, "loader_threads": 0},
        "tracking": {"wandb": "disabled"},
    }
    return resolve(raw, "benchmark")


def real_epoch(config: RunConfig) -> float:
    """Return the median processor seconds of the epochs after the first."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="stdcl-planning-") as folder:
        marks = []
        for _ in training(config, Path(folder), comm=LocalComm(), device=torch.device("cpu")):
            marks.append(time.process_time())
        return statistics.median(after - before for before, after in itertools.pairwise(marks))


def main() -> None:
    """Print a line per setting, then the median errors."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sequences", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stdcl-planning-") as folder:
        store = Path(folder) / "store"
        prepare_synthetic(store, options.sequences, 7)
        configs = {name: configuration(store, options.epochs, sections) for name, sections in SETTINGS.items()}
        probed: dict[str, Probe] = {}
        real: dict[str, float] = {}
        for name, config in configs.items():
            probed[name] = probe(config, time.process_time)
            real[name] = real_epoch(config)
            print(f"{name}: trained", file=sys.stderr, flush=True)
        work = {name: operations(config) for name, config in configs.items()}
    print(f"{'setting':<18} {'real':>7} {'probe':>7} {'error':>7} {'scaled':>7} {'error':>7}   (processor s/epoch)")
    errors: dict[str, list[float]] = {"probed": [], "scaled": []}
    for name, seconds in real.items():
        others = [(work[other], each) for other, each in probed.items() if other != name]
        by_work = scaled(work[name], others).epoch_seconds
        found = probed[name].epoch_seconds
        errors["probed"].append(abs(found / seconds - 1))
        errors["scaled"].append(abs(by_work / seconds - 1))
        print(
            f"{name:<18} {seconds:7.2f} {found:7.2f} {100 * (found / seconds - 1):+6.0f}% {by_work:7.2f} "
            f"{100 * (by_work / seconds - 1):+6.0f}%"
        )
    for what, each in errors.items():
        print(f"median error, {what}: {100 * statistics.median(each):.0f} %, largest {100 * max(each):.0f} %")


if __name__ == "__main__":
    main()
