"""What is minimised: cross-entropy, the encoder's own terms, and those of a method.

A rank's total is W times its share of the global loss, so that data parallelism's average over W ranks is the gradient
of the global loss, whatever the number of ranks and however uneven their parts (paper, eq. 10).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stdcl.config import TrainingConfig
from stdcl.data.dataset import Batch
from stdcl.methods.base import EpochCost, Method, Step
from stdcl.parallel.comm import Comm
from stdcl.training.metrics import Stopwatch
from stdcl.training.model import ModelOutput

_OWN = "own/"
_TERM = "term/"


@dataclass
class LossTerms:
    """The loss of one step on one rank.

    Attributes:
        total: what is differentiated.
        local: this rank's shares of sums over the global batch.
        common: values that every rank has equally.
    """

    total: Tensor
    local: dict[str, Tensor | float] = field(default_factory=dict)
    common: dict[str, Tensor | float] = field(default_factory=dict)


class Objective:
    """Turns a model's output into loss terms, and an epoch's sums of them into a row.

    Args:
        settings: of the training.
        method: what is trained with beside cross-entropy.
        comm: the ranks.
        device: of the model.
    """

    def __init__(self, settings: TrainingConfig, method: Method, comm: Comm, device: torch.device) -> None:
        self._smoothing = settings.label_smoothing
        self._ranks = comm.size
        self.method = method
        self._watch = Stopwatch(device)

    def __call__(self, output: ModelOutput, batch: Batch, *, number: int, epoch: int, global_size: int) -> LossTerms:
        """Return the loss of one step.

        Args:
            output: the model's, of this rank's n sequences.
            batch: those sequences.
            number: of the step since the start of training.
            epoch: from 0.
            global_size: sequences of this step over all ranks.
        """
        n = len(batch.labels)
        ce = functional.cross_entropy(output.logits, batch.labels, reduction="sum", label_smoothing=self._smoothing)
        terms = LossTerms(ce / global_size)
        terms.local = {
            "ce": ce,
            "items": float(n),
            "correct": (output.logits.detach().argmax(1) == batch.labels).sum(),
        }
        for name, term in output.own_losses.items():
            share = term * (n / global_size)
            terms.local[f"{_OWN}{name}"] = share
            terms.total = terms.total + share
        weights = self.method.weights(epoch)
        with self._watch.running():
            found = self.method.step(
                output.embeddings, Step(output.logits, batch.labels, batch.items, number, epoch, global_size)
            )
        for name, loss in found.items():
            terms.common[f"{_TERM}{name}"] = loss
            # A term of weight 0 stays in the graph: every parameter then has a gradient on every rank.
            terms.total = terms.total + weights[name] * loss
        terms.total = terms.total * self._ranks
        return terms

    def epoch_losses(self, sums: Mapping[str, float], epoch: int) -> dict[str, Any]:
        """Return an epoch's mean losses and training accuracy from its sums over steps and ranks.

        ``loss`` is the weighted total, ``ce`` cross-entropy, ``loss_<term>`` the unweighted terms of the method, and an
        encoder's own terms have their own names.
        """
        steps, items = sums["steps"], sums["items"]
        row: dict[str, Any] = {
            "ce": sums["ce"] / items,
            "train_accuracy": sums["correct"] / items,
            "learning_rate": sums["lr"] / steps,
        }
        total = row["ce"]
        weights = self.method.weights(epoch)
        for name, value in sums.items():
            if name.startswith(_OWN):
                row[name] = value / steps
                total += row[name]
            if name.startswith(_TERM):
                term = name.removeprefix(_TERM)
                row[f"loss_{term}"] = value / steps
                if weights[term]:
                    total += weights[term] * row[f"loss_{term}"]
        row["loss"] = total
        return row

    def epoch_report(self, steps: int, step_seconds: float) -> dict[str, float]:
        """Return the method's own figures of an epoch of ``steps`` steps that took ``step_seconds``."""
        return self.method.report(EpochCost(steps, self._watch.take(), step_seconds))


def upgraded_sums(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return saved sums with today's names; release 0.1 called a method's terms ``contrast/...``."""
    return {
        kind: {
            f"{_TERM}{name.removeprefix('contrast/')}" if name.startswith("contrast/") else name: value
            for name, value in named.items()
        }
        for kind, named in state.items()
    }
