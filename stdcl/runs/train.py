"""``stdcl train`` as a person sees it: where the run lies, a line an epoch, what came out."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from stdcl.config import RunConfig, fingerprint
from stdcl.config.paths import data_path, storage_path
from stdcl.data.synthetic import ensure_data
from stdcl.errors import UserError
from stdcl.launch.worker_group import TrainingFailed, is_divergence, launch
from stdcl.results.row import EpochRow, terms
from stdcl.tracking import wandb_settings
from stdcl.train.checkpoint import load_state
from stdcl.train.components import check
from stdcl.train.optim import learning_rate
from stdcl.train.start_from import settled, source_checkpoint

GROUP = "train"
"""Folder and W&B group of the runs that belong to no sweep."""


def describe(row: EpochRow) -> str:
    """Return an epoch's row as one line, with every loss term."""
    parts = [f"epoch {row['epoch']:>3}", f"loss {row['loss']:.4f}", f"ce {row['ce']:.4f}"]
    parts += [f"{name} {value:.3f}" for name, value in terms(row).items()]
    parts.append(f"train {100 * float(row['train_accuracy']):.1f} %")
    if "accuracy" in row:
        parts.append(f"accuracy {100 * float(row['accuracy']):.2f} %")
    active = dict(row).get("contrast/active_share")
    if isinstance(active, float):
        parts.append(f"active {100 * active:.0f} %")
    parts.append(f"{float(row['seconds']):.0f} s")
    return "  ".join(parts)


def _show(row: EpochRow) -> None:
    for notice in row.get("notices", ()):
        print(f"note: {notice}", file=sys.stderr, flush=True)
    print(describe(row), flush=True)


def _what_starts(config: RunConfig) -> str:
    init, training = config.init_from, config.training
    if init is None or init.what == "encoder":
        return "its encoder's weights; optimiser, banks and schedule begin anew"
    state = load_state(source_checkpoint(Path(init.run)), torch.device("cpu"))
    first = int(state["position"][0])
    rate = learning_rate(training, first, 0, 1)
    return (
        f"its training after {first} epochs; epochs {first + 1} to {training.epochs} follow this file's schedule, "
        f"learning rate {rate:g} at first"
    )


def train_file(config: RunConfig, file: Path, out: Path | None) -> int:
    """Train a run file's configuration and show its progress; return the exit code.

    Args:
        config: the resolved configuration.
        file: the run file, which names the run.
        out: the run folder; None: under the storage folder, named after file and configuration.
    """
    # Settled here: a worker's current folder can be another.
    data_section = config.data.model_copy(update={"path": str(data_path(config.data.path))})
    config = config.model_copy(update={"data": data_section})
    if config.init_from is not None:
        init = settled(config.init_from, (Path.cwd(), storage_path()))
        config = config.model_copy(update={"init_from": init})
    run_dir = (out or storage_path() / GROUP / f"{file.stem}-{fingerprint(config)[:8]}").absolute()
    if ensure_data(config):
        print("made the synthetic data", file=sys.stderr)
    try:
        data = check(config)
    except UserError as error:
        raise UserError("\n".join(f"{file}: {line}" for line in str(error).splitlines())) from None
    wandb_settings.check(wandb_settings.settings_of(config.tracking))
    print(f"run     {run_dir}")
    print(f"data    {data.split}: {data.train.num_items:,} training items, {data.test.num_items:,} test sequences")
    if config.init_from is not None:
        print(f"from    {config.init_from.run} ({_what_starts(config)})")
    print(f"workers {config.resources.workers}, fingerprint {fingerprint(config)}", flush=True)
    try:
        last = launch(
            config,
            run_dir,
            sweep=GROUP,
            trial=run_dir.name,
            on_row=_show,
            on_event=lambda text: print(
                f"workers lost, starting again from the last checkpoint ({text})", file=sys.stderr, flush=True
            ),
        )
    except Exception as error:
        if not isinstance(error, TrainingFailed) and not is_divergence(error):
            raise
        print(f"failed: {error}", file=sys.stderr)
        if not is_divergence(error):
            print("the same command goes on from the last checkpoint", file=sys.stderr)
        return 1
    print(
        f"accuracy {100 * float(last['accuracy']):.2f} % after the last epoch on {int(last['num_test'])} sequences; "
        f"best epoch {last['best_epoch']} (chosen on these sequences): "
        f"{100 * float(last['best_accuracy']):.2f} %"
    )
    print(f"next: stdcl evaluate {run_dir}")
    return 0
