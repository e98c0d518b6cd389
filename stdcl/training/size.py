"""Whether a model can be held at all, known before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import torch
from torch import nn

from stdcl.errors import UserError


def check_size(section: str, build: Callable[[], nn.Module]) -> None:
    """Refuse a module whose parameters alone exceed this machine's memory, which has to hold it for the dry run.

    It is built on the meta device, where tensors have no memory. What cannot be built there is not checked.

    Args:
        section: of the configuration, for the message.
        build: makes the module.

    Raises:
        UserError: with the need, and what the machine has.
    """
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            numbers = sum(parameter.numel() for parameter in build().parameters())
    except (RuntimeError, TypeError):  # it looks at numbers, which the meta device does not have
        return
    need, memory = 4 * numbers, psutil.virtual_memory().total
    if need > memory:
        raise UserError(
            f"{section}: its {numbers:,} parameters take {need / 2**30:,.1f} GiB, gradients and optimiser not counted; "
            f"this machine has {memory / 2**30:,.1f} GiB"
        )
