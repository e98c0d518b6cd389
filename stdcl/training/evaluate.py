"""Evaluation: the encoder alone, every test sequence exactly once, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stdcl.data.dataset import SkeletonDataset
from stdcl.data.sampler import local_bounds
from stdcl.encoders.base import Encoder, EncoderOutput
from stdcl.parallel.comm import Comm


@dataclass(frozen=True)
class Evaluation:
    """Scores of every sequence of a test part, in the order of its ids.

    Attributes:
        ids: sequence ids.
        labels: (num_test,) class indices.
        logits: (num_test, K) float32.
    """

    ids: list[str]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]

    @property
    def correct(self) -> int:
        """Sequences whose highest score is their class."""
        return int((self.logits.argmax(axis=1) == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, a fraction."""
        return self.correct / len(self.labels)


def evaluate(
    encoder: Encoder,
    dataset: SkeletonDataset,
    comm: Comm,
    device: torch.device,
    *,
    batch_size: int = 64,
    autocast: torch.dtype | None = None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    on_output: Callable[[EncoderOutput], None] = lambda output: None,
) -> Evaluation:
    """Score every item of ``dataset`` once; each rank takes a contiguous part, and all get the whole.

    Args:
        encoder: put in evaluation mode for the call, and back afterwards.
        dataset: the test part.
        comm: the ranks.
        device: where the encoder is.
        batch_size: sequences a forward pass.
        autocast: precision of the products; None: the parameters' own.
        on_batch: called with this rank's sequences (done, total) after each forward pass.
        on_output: called with what each forward pass of this rank gives, in the order of its sequences.
    """
    total = dataset.num_items
    start, stop = local_bounds(total, comm.rank, comm.size)
    longest = -(-total // comm.size)
    parameter = next(encoder.parameters())
    was_training = encoder.training
    encoder.eval()
    parts: list[Tensor] = []
    try:
        with torch.inference_mode(), torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            for first in range(start, stop, batch_size):
                batch = dataset.batch(0, np.arange(first, min(first + batch_size, stop))).to(device)
                output = encoder(batch.x.to(parameter.dtype))
                parts.append(output.logits.float())
                on_output(output)
                on_batch(min(first + batch_size, stop) - start, stop - start)
    finally:
        encoder.train(was_training)
    classes = encoder.layout.num_classes
    own = torch.zeros((longest, classes), device=device)
    if parts:
        # A clone outside inference mode: collectives need ordinary tensors.
        own[: stop - start] = torch.cat(parts).clone()
    every = comm.all_gather(own).cpu().numpy()
    bounds = [local_bounds(total, rank, comm.size) for rank in range(comm.size)]
    logits = np.concatenate([every[rank, : b - a] for rank, (a, b) in enumerate(bounds)])
    return Evaluation(dataset.ids, dataset.labels, logits)
