"""What a training method is: loss terms beside cross-entropy, with the parameters and the state that they need.

The training loop knows this interface and no method. A method is built in two stages, so that everything wrong with it
is found before anything is launched: the constructor takes options and facts about the data, makes the head and raises
for what cannot work; ``start`` then places its state on a device and a set of ranks.

What a step needs travels in one direction: the encoder's outputs and taps (``Features``) go through ``embed``, inside
the data-parallel model, so that the head's gradients are averaged with the encoder's; what it returns goes to ``step``,
outside the model, where a method may communicate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stdcl.parallel.comm import Comm, CountingComm
from stdcl.skeleton import Skeleton


class Features(NamedTuple):
    """What an encoder gives for n sequences, in the precision of its parameters.

    Attributes:
        logits: (n, K).
        feature_map: (n, M, C, T, V), the last map before pooling.
        pooled: (n, C'), the vector that the classifier sees.
        present: (n, M) bool, which persons are in each sequence.
        taps: further outputs by name, those that the method asked for in ``taps``.
    """

    logits: Tensor
    feature_map: Tensor
    pooled: Tensor
    present: Tensor
    taps: Mapping[str, Tensor]


@dataclass(frozen=True)
class FeatureShapes:
    """The shapes of ``Features`` for one sequence.

    Attributes:
        feature_map: (M, C, T, V).
        pooled: C'.
        taps: the shape of each tap without its first axis.
    """

    feature_map: tuple[int, int, int, int]
    pooled: int
    taps: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Task:
    """What a method is built for: facts about the data and the run, equal on all ranks.

    Attributes:
        labels: (I,) int64, the class of each training item.
        num_clips: clips behind the items; item i shows clip ``i % num_clips``.
        classes: K names, in the order of labels.
        skeleton: the joint tree of the feature map's V axis.
        seed: the run's seed.
        batch_size: sequences of a full global batch.
        identity: content hash and split of the data; state saved for other data is refused.
    """

    labels: Tensor
    num_clips: int
    classes: tuple[str, ...]
    skeleton: Skeleton
    seed: int
    batch_size: int
    identity: str

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)


class Step(NamedTuple):
    """One step on this rank.

    Attributes:
        logits: (n, K), with their graph; a method that only looks at predictions detaches them.
        labels: (n,) int64.
        items: (n,) int64, the training item of each sequence.
        number: of the step since the start of training, from 0.
        epoch: from 0.
        global_size: sequences of this step over all ranks.
    """

    logits: Tensor
    labels: Tensor
    items: Tensor
    number: int
    epoch: int
    global_size: int


class EpochCost(NamedTuple):
    """What a method cost in an epoch: steps taken, seconds inside ``Method.step``, seconds of whole steps."""

    steps: int
    method_seconds: float
    step_seconds: float

    def shares(self, comm: CountingComm) -> dict[str, float]:
        """Return ``bytes_per_step`` that this rank sent through ``comm``, which starts anew, and ``share_of_step``, the
        method's share of the time."""
        sent = comm.bytes_sent / max(self.steps, 1)
        comm.reset()
        return {
            "bytes_per_step": sent,
            "share_of_step": self.method_seconds / self.step_seconds if self.step_seconds else 0.0,
        }


class Method:
    """Base class: cross-entropy alone. Every hook does nothing here.

    A subclass overrides what it needs. Order of calls: the constructor; ``start``; ``load`` when a run continues; then
    per step ``embed``, ``step`` and perhaps ``rollback``; per epoch ``report``; ``state`` and ``save_shard`` at each
    checkpoint. Every rank makes every call, also with no sequence of its own.

    Attributes:
        taps: names of the encoder outputs that ``embed`` reads beside the standard ones.
        head: trained parameters, part of the model and of its checkpoints (``head.*``); dropped after training.
        num_slots: bank slots, a part of a checkpoint's identity; 0 without banks.
        remarks: what a user should know about these data with these options, a sentence each.
    """

    taps: tuple[str, ...] = ()
    head: nn.Module | None = None
    num_slots: int = 0
    remarks: tuple[str, ...] = ()

    def start(self, comm: Comm, device: torch.device, dtype: torch.dtype) -> None:
        """Make this rank's state. The head is moved and averaged with the encoder, not here."""

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Map an encoder's outputs to named tensors with first axis n. Runs inside the data-parallel model."""
        return {}

    def step(self, embeddings: Mapping[str, Tensor], step: Step) -> dict[str, Tensor]:
        """Return the loss terms by name, unweighted: scalars over the global batch, equal on all ranks.

        The gradient of a term with respect to this rank's embeddings and logits is the exact gradient of the global
        value, so the caller multiplies by W before data parallelism averages over W ranks.
        """
        return {}

    def weights(self, epoch: int) -> Mapping[str, float]:
        """Return the weight of each term in an epoch; 0 keeps a term in the graph but out of the loss."""
        return {}

    def rollback(self) -> None:
        """Undo the last step's change of state, for an optimiser step that was skipped (float16 overflow)."""

    def report(self, cost: EpochCost) -> dict[str, float]:
        """Return the epoch's figures for the history, equal on all ranks except for times, and start anew."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return what is equal on all ranks, as plain values and tensors, for a checkpoint."""
        return {}

    def save_shard(self, folder: Path) -> None:
        """Write this rank's part of the sharded state into ``folder``. No communication."""

    def load(self, state: Mapping[str, Any], folder: Path) -> None:
        """Restore ``state`` and the shards in ``folder``, whatever the number of ranks that wrote them."""
