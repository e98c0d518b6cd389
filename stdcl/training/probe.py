"""A training's speed and memory, measured in seconds on this machine: some steps and some evaluated sequences."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from stdcl.config import RunConfig
from stdcl.data.loader import prefetch
from stdcl.data.sampler import epoch_order, global_batches, local_part
from stdcl.parallel.comm import LocalComm
from stdcl.training.components import new_encoder, open_data
from stdcl.training.metrics import peak_memory
from stdcl.training.trainer import Trainer

STEPS = 6
"""Measured at most; the first one before them is not counted."""
SECONDS = 6.0
"""After which no further step is measured, once there are two."""
EVALUATED = 64
"""Sequences that are scored: one batch."""


@dataclass(frozen=True)
class Probe:
    """What was measured.

    Attributes:
        epoch_seconds: of one epoch with its evaluation.
        memory_mib: the process's peak.
    """

    epoch_seconds: float
    memory_mib: float


def operations(config: RunConfig) -> float:
    """Return the multiply-adds of an epoch's forward passes, for a comparison of settings that were not measured.

    Raises:
        UserError: the configuration does not fit its data.
    """
    data = open_data(config)
    encoder = new_encoder(config, data.layout).eval()
    x = data.test.batch(0, np.arange(1)).x
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        encoder(x)
    return float(counter.get_total_flops()) * (3 * data.train.num_items + data.test.num_items)


def probe(config: RunConfig, clock: Callable[[], float] = time.perf_counter) -> Probe:
    """Measure one worker's part of a training on the CPU; nothing is kept.

    Of several workers one rank's part of each batch is trained, without what they send to each other.

    Args:
        config: the resolved configuration.
        clock: seconds.

    Raises:
        UserError: the configuration does not fit its data.
    """
    settings, workers = config.training, config.resources.workers
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, int(config.resources.cpus_per_worker)))
    try:
        with tempfile.TemporaryDirectory(prefix="stdcl-probe-") as folder:
            trainer = Trainer(config, Path(folder), LocalComm(), torch.device("cpu"))
            train, test = trainer.parts.data.train, trainer.parts.data.test
            batches = global_batches(epoch_order(settings.seed, 0, train.num_items), settings.batch_size, True)
            batches = batches or [np.arange(train.num_items)]
            chosen = [local_part(batches[i % len(batches)], 0, workers) for i in range(STEPS + 1)]
            trainer.model.train()
            marks = [clock()]
            for number, batch in enumerate(prefetch(train, 0, chosen, threads=config.resources.loader_threads)):
                trainer.step(batch, 0, number, len(batch.items), len(batches))
                marks.append(clock())
                if number >= 2 and marks[-1] - marks[1] > SECONDS:
                    break
            step = median(after - start for start, after in pairwise(marks[1:]))
            scored = np.arange(min(EVALUATED, test.num_items))
            encoder = trainer.parts.model.encoder.eval()
            begin = clock()
            with torch.inference_mode():
                encoder(test.batch(0, scored).x.to(next(encoder.parameters()).dtype))
            scoring = (clock() - begin) / len(scored) * test.num_items / workers
            memory = peak_memory(LocalComm(), torch.device("cpu"))
            return Probe(step * len(batches) + scoring / settings.evaluate_every, memory)
    finally:
        torch.set_num_threads(before)
