"""Which results may be compared sequence by sequence: those of the same sequences of the same data.

Which *cells* of a sweep may be compared, before anything has run, is ``config.arms.setting``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np


class OfSequences(Protocol):
    """A result that says which sequences of which data it is of."""

    @property
    def ids(self) -> np.ndarray: ...

    @property
    def data_hash(self) -> str: ...


def same_sequences(results: Iterable[OfSequences]) -> bool:
    """Whether results are of equal data and list the same sequences in the same order (of one result, true)."""
    found = list(results)
    first = found[0] if found else None
    return all(
        first is not None and each.data_hash == first.data_hash and np.array_equal(each.ids, first.ids)
        for each in found
    )


def sequences_key(result: OfSequences) -> int:
    """Return a number that is equal, within a process, for results for which ``same_sequences`` holds."""
    ids = result.ids
    return hash((result.data_hash, tuple(ids) if ids.dtype == object else ids.tobytes()))
