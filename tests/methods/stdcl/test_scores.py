from __future__ import annotations

import pytest
import torch

from stdcl.methods.stdcl.scores import TILE, score_buffer, score_rows
from tests.rounding import assert_within, gamma

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("batch", "dim"), [(1, 4), (5, 8), (16, 256), (17, 64), (64, 256), (100, 300)])
def test_a_score_does_not_depend_on_shard_place_or_threads(dtype: torch.dtype, batch: int, dim: int) -> None:
    """The same row against the same anchor gives the same bits in any shard, at any row, on any number of threads."""
    generator = torch.Generator().manual_seed(batch * dim)
    vectors = torch.nn.functional.normalize(torch.randn(7, dim, generator=generator, dtype=dtype), dim=1)
    anchors = torch.nn.functional.normalize(torch.randn(batch, dim, generator=generator, dtype=dtype), dim=1)
    reference = None
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for rows in (1, 2, 13, 1023, 1024, 2500):
                which = torch.arange(rows + 1) % 7
                hidden = torch.zeros(-(-(rows + 1) // TILE) * TILE, 1, dtype=dtype)
                out = score_buffer(rows, batch, CPU, dtype)
                scores = score_rows(vectors[which], hidden, anchors, out)
                if reference is None:
                    reference = score_rows(vectors, hidden[:TILE], anchors, torch.empty_like(out)).clone()
                assert torch.equal(scores[: rows + 1], reference[which])
    finally:
        torch.set_num_threads(threads)
    assert reference is not None
    exact = vectors.double() @ anchors.double().t()
    assert_within(reference[:7], exact, gamma(dim, dtype) * (vectors.abs() @ anchors.abs().t()).double())


def test_hidden_rows_score_minus_infinity() -> None:
    hidden = torch.zeros(TILE, 1)
    hidden[1] = -torch.inf
    scores = score_rows(torch.eye(4), hidden, torch.eye(4), score_buffer(3, 4, CPU, torch.float32))
    assert scores[:4].tolist() == [[1, 0, 0, 0], [-torch.inf] * 4, [0, 0, 1, 0], [0, 0, 0, 1]]


def test_a_zero_is_positive() -> None:
    """The order of scores tells the two zeros apart."""
    rows, anchors = torch.tensor([[-0.0, 1.0, 0.0, 0.0]]), torch.tensor([[1.0, -0.0, -0.0, 0.0]])
    scores = score_rows(rows, torch.zeros(TILE, 1), anchors, score_buffer(1, 1, CPU, torch.float32))
    assert not scores.signbit().any()
