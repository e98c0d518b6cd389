"""Data parallelism: one model on every rank, gradients averaged over ranks."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from stdcl.parallel.comm import Comm, LocalComm


def replicate(model: nn.Module, comm: Comm, device: torch.device, *, share_buffers: bool) -> nn.Module:
    """Return ``model`` wrapped so that its backward pass averages gradients over the ranks of ``comm``.

    Args:
        model: the module; its parameters are set to rank 0's.
        comm: the ranks; with `LocalComm` the model itself is returned.
        device: where the model is.
        share_buffers: copy rank 0's buffers to all ranks at each step. Needed for local batch norm, whose running
            statistics differ between ranks; synchronised batch norm keeps them equal by itself.
    """
    if isinstance(comm, LocalComm):
        return model
    # Renamed in torch 2.13; the old name warns there, the new one is unknown before.
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {option: share_buffers, "gradient_as_bucket_view": True}
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None, **options)
