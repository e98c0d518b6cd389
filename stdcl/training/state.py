"""What a training is at one moment: everything that a checkpoint holds beside the sharded state of the method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stdcl.methods.base import Method
from stdcl.parallel.comm import Comm
from stdcl.results.row import EpochRow, from_file, to_file
from stdcl.training.checkpoint import Position
from stdcl.training.metrics import Sums
from stdcl.training.objective import upgraded_sums


@dataclass
class Best:
    """The epoch with the highest accuracy so far, and its checkpoint's name; epoch -1 before the first evaluation."""

    accuracy: float = -1.0
    epoch: int = -1
    checkpoint: str = ""


def last_row(state: Mapping[str, Any]) -> EpochRow:
    """Return the last complete epoch's row of a checkpoint's state; empty if there is none."""
    content = json.loads(state["last_row"])
    return from_file(content) if content else {}


@dataclass
class TrainState:
    """The state of one rank.

    Attributes:
        model: encoder and head, not wrapped.
        optimizer: of the model's parameters.
        scaler: of float16's gradients.
        method: whose common state is part of this; its shards are files beside it.
        sums: of the epoch under way.
        position: the next epoch and step.
        global_step: steps since the start of training.
        best: see :class:`Best`.
        last_row: of the last finished epoch.
        training_seconds: in all attempts.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    method: Method
    sums: Sums
    position: Position = field(default_factory=lambda: Position(0, 0))
    global_step: int = 0
    best: Best = field(default_factory=Best)
    last_row: EpochRow = field(default_factory=EpochRow)
    training_seconds: float = 0.0

    def state_dict(self, position: Position, sums: Mapping[str, Any]) -> dict[str, Any]:
        """Return plain values and tensors for a checkpoint at ``position``; ``sums`` as ``Sums.state`` gave them."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "position": [position.epoch, position.step],
            "global_step": self.global_step,
            "best": [self.best.accuracy, self.best.epoch, self.best.checkpoint],
            "last_row": json.dumps(to_file(self.last_row) if self.last_row else {}),
            "sums": dict(sums),
            "method": self.method.state(),
            "spent": self.training_seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any], folder: Path, comm: Comm) -> None:
        """Restore what :meth:`state_dict` gave, and the method's shards in ``folder``, on any number of ranks."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.position = Position(*state["position"])
        self.global_step = state["global_step"]
        self.best = Best(*state["best"])
        self.last_row = last_row(state)
        self.training_seconds = state["spent"]
        self.sums.load(upgraded_sums(state["sums"]), comm)
        # Release 0.1 kept the only method's sums under a name of their own.
        self.method.load(state.get("method", {"statistics": state.get("contrast_sums")}), folder)
