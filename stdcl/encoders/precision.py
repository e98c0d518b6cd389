"""Parts of encoders that keep the precision of their tensors, whatever autocast is set to."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def own_precision(x: Tensor) -> AbstractContextManager[object]:
    """Switch autocast off for the device of ``x``, where it is on.

    Where it is off nothing is entered: ``torch.export`` records each region as an operation, and some of these cannot
    be loaded again.
    """
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
