"""How fast a configuration trains on all its ranks together, measured in some steps; nothing is kept."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch

from stdcl.config import RunConfig
from stdcl.data.dataset import SkeletonDataset
from stdcl.data.loader import prefetch
from stdcl.data.sampler import epoch_order, global_batches, local_part
from stdcl.parallel.comm import Comm
from stdcl.parallel.trial import finish
from stdcl.training.components import open_data
from stdcl.training.metrics import peak_memory
from stdcl.training.trainer import Trainer

LOADER_SECONDS = 2.0
"""For which batches are prepared and thrown away."""


@dataclass(frozen=True)
class Rates:
    """What was measured, equal on every rank.

    Attributes:
        loader: sequences per second that a rank's loader prepares, with no training beside it; the slowest rank's.
        training: sequences per second that a rank trains, its batches ready; the slowest rank's.
        epoch_seconds: of one epoch with its evaluation, all ranks together, if the loader keeps up.
        memory_mib: the largest peak of a rank: GPU memory on CUDA, resident memory elsewhere.
    """

    loader: float
    training: float
    epoch_seconds: float
    memory_mib: float


def measure_rates(
    config: RunConfig, comm: Comm, device: torch.device, *, steps: int, clock: Callable[[], float] = time.perf_counter
) -> Rates:
    """Measure; every rank calls this.

    Args:
        config: the resolved configuration.
        comm: the ranks.
        device: where this rank computes.
        steps: that are timed, after one that is not.
        clock: seconds.

    Raises:
        UserError: the configuration does not fit its data.
    """
    settings = config.training
    with tempfile.TemporaryDirectory(prefix="stdcl-rates-") as folder:
        trainer = Trainer(config, Path(folder), comm, device)
        train, test = trainer.parts.data.train, trainer.parts.data.test
        batches = _batches(config, train)
        parts = [local_part(batch, comm.rank, comm.size) for batch in batches]
        loader = loader_rate(config, train, parts, pin_memory=device.type == "cuda", clock=clock)
        ready = [train.batch(0, parts[number % len(parts)]).to(device) for number in range(steps + 1)]
        trainer.model.train()
        marks = []
        for number, batch in enumerate(ready):
            finish(device)
            marks.append(clock())
            trainer.step(batch, 0, number, len(batches[number % len(batches)]), len(batches))
        finish(device)
        marks.append(clock())
        step = median(after - before for before, after in pairwise(marks[1:]))
        scoring = _scoring_seconds(trainer, test, device, clock) / comm.size
        slowest = comm.all_reduce(torch.tensor([-loader, step, scoring], dtype=torch.float64, device=device), "max")
        rate, step, scoring = slowest.tolist()
        return Rates(
            loader=-rate,
            training=len(parts[0]) / step,
            epoch_seconds=step * len(batches) + scoring / settings.evaluate_every,
            memory_mib=peak_memory(comm, device),
        )


def _batches(config: RunConfig, train: SkeletonDataset) -> list[np.ndarray]:
    settings = config.training
    batches = global_batches(epoch_order(settings.seed, 0, train.num_items), settings.batch_size, True)
    return batches or [np.arange(train.num_items)]


def loader_rate_here(config: RunConfig) -> float:
    """Return ``loader_rate`` of a training of one rank on this machine.

    Raises:
        UserError: the configuration does not fit its data.
    """
    train = open_data(config).train
    return loader_rate(config, train, _batches(config, train))


def loader_rate(
    config: RunConfig,
    train: SkeletonDataset,
    parts: Sequence[np.ndarray],
    *,
    pin_memory: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the sequences per second that this process's loader prepares, with no training beside it.

    Args:
        config: says how many threads prepare batches.
        train: the training items.
        parts: item numbers of each batch, this rank's part.
        pin_memory: as a training on CUDA has it.
        clock: seconds.
    """
    stream = prefetch(train, 0, parts, threads=config.resources.loader_threads, pin_memory=pin_memory)
    done, begin = 0, clock()
    for batch in stream:
        done += len(batch.items)
        if clock() - begin > LOADER_SECONDS:
            break
    seconds = clock() - begin
    stream.close()  # type: ignore[attr-defined]
    return done / max(seconds, 1e-9)


def _scoring_seconds(
    trainer: Trainer, test: SkeletonDataset, device: torch.device, clock: Callable[[], float]
) -> float:
    """Seconds of scoring all evaluated sequences on one rank, from one batch of them."""
    scored = np.arange(min(trainer.config.training.batch_size, test.num_items))
    encoder = trainer.parts.model.encoder.eval()
    x = test.batch(0, scored).x.to(device=device, dtype=next(encoder.parameters()).dtype)
    with torch.inference_mode():
        encoder(x)
        finish(device)
        begin = clock()
        encoder(x)
        finish(device)
    return (clock() - begin) / len(scored) * test.num_items
