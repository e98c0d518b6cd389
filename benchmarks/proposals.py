"""What a proposal of each sampler costs: ``python -m benchmarks.proposals``.

Seconds of one proposal (median of five) over six parameters, in studies of so many complete trials.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

import optuna
import yaml

from stdcl.config.sweep import load_sweep
from stdcl.sweep.sampling import study_space, suggest
from stdcl.sweep.study import open_study

SIZES = (20, 100, 500)
SHIPPED = Path(__file__).resolve().parents[1] / "sweeps" / "search_optuna.yaml"


def seconds(sampler: str, complete: int) -> float:
    """Return the seconds of a proposal."""
    content = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    content["optuna"] = {"sampler": sampler, "startup_trials": 5, "scheduler": "none"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "search.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        sweep = load_sweep(file)
        study, _ = open_study(sweep, Path(folder) / "study", 1)
        space = study_space(sweep.config.space)
        drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for number in range(complete):
            trial = drawn.ask()
            suggest(trial, space)
            value = number * 0.381 % 1
            frozen = optuna.trial.create_trial(
                params=trial.params, distributions=dict(space.distributions), value=value
            )
            study.add_trial(frozen)
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            suggest(study.ask(), space)
            times.append(time.perf_counter() - begin)
    return median(times)


def main() -> None:
    """Print the table."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print("| complete trials | " + " | ".join(map(str, SIZES)) + " |")
    print("|---" * (len(SIZES) + 1) + "|")
    for sampler in ("random", "tpe", "gp"):
        print(f"| {sampler} | " + " | ".join(f"{seconds(sampler, size):.3f}" for size in SIZES) + " |")


if __name__ == "__main__":
    main()
