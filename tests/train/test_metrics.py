"""Memory and speed of one training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stdcl.parallel.comm import LocalComm
from stdcl.training.metrics import peak_memory, reset_peak_memory, steady_seconds

CPU = torch.device("cpu")


def test_the_peak_is_that_since_the_reset() -> None:
    if not reset_peak_memory(CPU):
        pytest.skip("this system does not let a process reset its peak (no /proc/self/clear_refs)")
    comm = LocalComm()
    before = peak_memory(comm, CPU)
    large = np.ones(2**25)  # 256 MiB, each page touched
    with_large = peak_memory(comm, CPU)
    assert with_large - before > 0.9 * large.nbytes / 2**20
    del large
    assert peak_memory(comm, CPU) == pytest.approx(with_large, abs=0.05 * with_large)
    reset_peak_memory(CPU)
    assert with_large - peak_memory(comm, CPU) > 128


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [([9.0, 2.0, 4.0], None), ([9.0, 5.0, 2.0, 3.0], 3.0), ([9.0, 5.0, 2.0, 3.0, 1.0, 1.0], 3.0), ([], None)],
)
def test_an_epochs_seconds_without_the_first(epochs: list[float], expected: float | None) -> None:
    assert steady_seconds(epochs) == expected
