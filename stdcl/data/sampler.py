"""The order of the items: a function of (seed, epoch), cut into global batches, cut into ranks' parts.

A rank never draws anything: it takes its contiguous part of the global batch, so the union over ranks is the
same for any number of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stdcl.errors import UserError
from stdcl.seeding import generator

IntArray = NDArray[np.int64]


def epoch_order(seed: int, epoch: int, num_items: int) -> IntArray:
    """Return the permutation (num_items,) in which an epoch visits the items."""
    return generator(seed, "order", epoch).permutation(num_items).astype(np.int64)


def num_batches(num_items: int, batch_size: int, drop_last: bool) -> int:
    """Return the number of global batches of an epoch."""
    return num_items // batch_size if drop_last else -(-num_items // batch_size)


def global_batches(order: IntArray, batch_size: int, drop_last: bool) -> list[IntArray]:
    """Cut an order into global batches.

    Args:
        order: (num_items,) item numbers.
        batch_size: items of a global batch.
        drop_last: leave out the last batch if it is incomplete.

    Raises:
        UserError: no batch would be left.
    """
    if batch_size < 1:
        raise UserError(f"training.batch_size is {batch_size}; it must be at least 1")
    count = num_batches(len(order), batch_size, drop_last)
    if count == 0:
        raise UserError(
            f"training.batch_size is {batch_size}, but there are {len(order)} training items:"
            " not one complete batch; make it smaller, raise data.repeat or set training.drop_last: false"
        )
    return [order[i * batch_size : (i + 1) * batch_size] for i in range(count)]


def local_bounds(batch_size: int, rank: int, size: int) -> tuple[int, int]:
    """Return (start, stop) of a rank's contiguous part of a batch; the first ranks take the remainder."""
    share, rest = divmod(batch_size, size)
    start = rank * share + min(rank, rest)
    return start, start + share + (rank < rest)


def local_part(batch: IntArray, rank: int, size: int) -> IntArray:
    """Return a rank's part of a global batch; the parts in rank order make the batch. It may be empty."""
    start, stop = local_bounds(len(batch), rank, size)
    return batch[start:stop]
