"""Optimiser and learning rate, as the published recipes define them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from stdcl.config.model import TrainingConfig


def build_optimizer(config: TrainingConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return SGD with momentum, or Adam; weight decay acts on every parameter, as in the reference trainers."""
    trained = [p for p in parameters if p.requires_grad]
    # fused: one call for all parameters; a loop over some hundred small ones takes several times as long.
    if config.optimizer == "adam":
        return torch.optim.Adam(trained, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    return torch.optim.SGD(
        trained,
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=True,
    )


def learning_rate(config: TrainingConfig, epoch: int, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step.

    Warm-up is linear over epochs and constant within one (e < warm-up: base (e+1)/warm-up). After it: ``step``
    multiplies by ``decay`` at each milestone passed, ``exponential`` by ``decay`` each epoch, ``cosine`` falls to zero
    step by step.

    Args:
        config: the recipe.
        epoch: from 0.
        step: within the epoch, from 0.
        steps_per_epoch: steps of an epoch.
    """
    base = config.learning_rate
    if epoch < config.warmup_epochs:
        return base * (epoch + 1) / config.warmup_epochs
    if config.schedule == "step":
        return base * config.decay ** sum(milestone <= epoch for milestone in config.milestones)
    if config.schedule == "exponential":
        return base * config.decay**epoch
    start = config.warmup_epochs * steps_per_epoch
    total = config.epochs * steps_per_epoch - start
    return base * 0.5 * (1.0 + math.cos(math.pi * (epoch * steps_per_epoch + step - start) / total))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = value
