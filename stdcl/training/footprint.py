"""How many bytes a training's checkpoints will take, found without training."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from stdcl.config import RunConfig, to_yaml
from stdcl.parallel.comm import LocalComm
from stdcl.training.checkpoint import Position, weights_of
from stdcl.training.components import build_components
from stdcl.training.metrics import Sums
from stdcl.training.optim import build_optimizer
from stdcl.training.state import TrainState

MARGIN = 0.01
"""Of the measured bytes, for what varies: alignment in files, numbers that grow by digits."""
_SMALL_FILES = 64 * 1024
"""Manifest, configuration, the last row."""
_PER_WORKER = 64 * 1024
"""Of a worker's bank file, beside its rows."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that one checkpoint takes at the most.

    Attributes:
        whole: of a training under way, all workers together.
        weights: of one that is reduced to its weights.
    """

    whole: int
    weights: int


def footprint(config: RunConfig) -> Footprint:
    """Return the sizes of a configuration's checkpoints; those that differ in seed and numbers alone share the work.

    Raises:
        UserError: the configuration does not fit its data.
    """
    return _measured(_Shape(_shape_of(config.model_dump(mode="json")), config))


@dataclass(frozen=True)
class _Shape:
    key: str
    config: RunConfig = field(compare=False)


def _shape_of(value: Any) -> str:
    """A configuration without what has no size: fractions, seeds, epochs."""
    if isinstance(value, Mapping):
        parts = (f"{k}: {_shape_of(v)}" for k, v in sorted(value.items()) if k not in _WITHOUT_SIZE)
        return "{" + ", ".join(parts) + "}"
    return "" if isinstance(value, float) else repr(value)


_WITHOUT_SIZE = frozenset({"seed", "epochs", "tracking", "checkpoints", "milestones"})


@lru_cache(maxsize=256)
def _measured(shape: _Shape) -> Footprint:
    config, cpu = shape.config, torch.device("cpu")
    comm = LocalComm()
    parts = build_components(config, comm, cpu)
    optimizer = build_optimizer(config.training, parts.model.parameters())
    for parameter in parts.model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()  # makes its state
    state = TrainState(
        model=parts.model,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        method=parts.method,
        sums=Sums(cpu),
    )
    content = {**state.state_dict(Position(0), {}), "config": to_yaml(config)}
    with tempfile.TemporaryDirectory(prefix="stdcl-footprint-") as name:
        parts.method.save_shard(Path(name))
        banks = sum(path.stat().st_size for path in Path(name).iterdir())
    small = _SMALL_FILES + config.resources.workers * _PER_WORKER
    whole = (_saved(content) + banks) * (1 + MARGIN) + small
    return Footprint(int(whole), int(_saved(weights_of(content)) * (1 + MARGIN) + _SMALL_FILES))


class _Counter(io.RawIOBase):
    """Counts what is written to it."""

    def __init__(self) -> None:
        self.total = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.total += size
        return size


def _saved(content: Mapping[str, Any]) -> int:
    counter = _Counter()
    with io.BufferedWriter(counter) as stream:
        torch.save(dict(content), stream)
    return counter.total
