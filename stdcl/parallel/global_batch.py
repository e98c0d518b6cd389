"""The global batch on every rank: rows of all ranks, of which this rank's own carry the gradient.

A loss that couples the sequences of a batch is computed by every rank from the same gathered rows. Autograd then gives
each rank the exact gradient of the global loss by its own rows, and backward needs no communication.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stdcl.parallel.comm import Comm


class GlobalBatch(NamedTuple):
    """The sequences of all ranks, in rank order.

    Attributes:
        rows: (B, D); the gradient flows to this rank's own rows alone.
        numbers: (B, k) int64.
    """

    rows: Tensor
    numbers: Tensor


def gather_batch(comm: Comm, rows: Tensor, numbers: Tensor, *, batch_size: int, size: int) -> GlobalBatch:
    """Gather the rows of all ranks with one collective, whose shape depends on ``batch_size`` alone.

    Nothing waits for the device: all shapes are known from the arguments.

    Args:
        comm: the ranks.
        rows: (n, D) float32 or float64 of this rank's sequences; n may differ between ranks and may be 0.
        numbers: (n, k) int64, each 0 to 2**24, which float32 holds exactly.
        batch_size: sequences of a full global batch; no rank brings more than ``ceil(batch_size / W)``.
        size: B, sequences of this global batch: the sum of n over ranks.

    Raises:
        ValueError: this rank brings more than its share, or not as many numbers as rows.
    """
    count, columns = numbers.shape
    share = -(-batch_size // comm.size)
    if count > share or len(rows) != count:
        raise ValueError(
            f"rank {comm.rank} brought {len(rows)} rows and {count} numbers; with batch_size {batch_size} on "
            f"{comm.size} ranks both must be the same number, at most {share}"
        )
    if comm.size == 1:
        return GlobalBatch(rows, numbers)
    mine = rows.new_full((share, columns + 1 + rows.shape[1]), -1.0)
    mine[:count, 0] = 0.0  # marks a row that is there
    mine[:count, 1 : columns + 1] = numbers.to(rows.dtype)
    mine[:count, columns + 1 :] = rows.detach()
    packed = comm.all_gather(mine).flatten(0, 1)
    filled = packed[:, 0] >= 0
    torch._assert_async(filled.sum() == size, "the ranks' sequences are not those of the global batch")
    order = filled.logical_not().to(torch.int8).argsort(stable=True)[:size]
    own = filled[: comm.rank * share].sum() + torch.arange(count, device=rows.device)
    packed = packed[order]
    gathered = packed[:, columns + 1 :].index_copy(0, own, rows)
    return GlobalBatch(gathered, packed[:, 1 : columns + 1].to(torch.int64))
