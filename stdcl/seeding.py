"""Independent random streams, each a pure function of (seed, purpose, key).

A key is what the randomness belongs to - epoch, step, item - and never a rank, a worker or a process, so results cannot
depend on how the work was divided.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from stdcl.hashing import GOLDEN, mix64

_MASK = (1 << 64) - 1


def _entropy(seed: int, purpose: str, key: tuple[int, ...]) -> list[int]:
    return [seed & _MASK, crc32(purpose.encode("utf-8")), len(key), *(k & _MASK for k in key)]


def generator(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """Return a counter-based (Philox) generator that depends on its arguments alone.

    Args:
        seed: the run's seed.
        purpose: what the numbers are for, for example ``"augment"``; two purposes never share a stream.
        key: what they belong to, for example ``(epoch, item)``.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(_entropy(seed, purpose, key))))


def torch_seed(seed: int, purpose: str, *key: int) -> int:
    """Return a 63-bit seed for a torch generator, a pure function of the arguments."""
    state = np.random.SeedSequence(_entropy(seed, purpose, key)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def item_keys(seed: int, purpose: str, epoch: int, items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a 64-bit key for each item of an epoch, a pure function of (seed, purpose, epoch, item).

    Args:
        seed: the run's seed.
        purpose: see :func:`generator`.
        epoch: from 0.
        items: (n,) item numbers.
    """
    base = np.random.SeedSequence(_entropy(seed, purpose, (epoch,))).generate_state(1, np.uint64)[0]
    # Neighbouring items get unrelated keys.
    keys: NDArray[np.int64] = mix64(base.astype(np.int64) + (items + 1) * GOLDEN)
    return keys
