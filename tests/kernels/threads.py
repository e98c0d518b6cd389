"""Results with several numbers of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def assert_same_bits(run: Callable[[], Iterable[Tensor]]) -> None:
    """Assert that what ``run`` returns has the same bits with 1, 2, 3 and 7 threads."""
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append(list(run()))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
