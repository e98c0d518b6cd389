from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stdcl.methods.stdcl.stable_topk import best, best_rows, group_size, sort_rows, sorted_best


@settings(max_examples=80, deadline=None)
@given(
    rows=st.integers(1, 3),
    count=st.integers(1, 30),
    values=st.integers(1, 30),
    double=st.booleans(),
    seed=st.integers(0, 10_000),
    data=st.data(),
)
def test_best_orders_by_score_then_id(
    rows: int, count: int, values: int, double: bool, seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, count))
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randn(values, generator=generator, dtype=torch.float64 if double else torch.float32)
    levels[0] = -torch.inf
    scores = levels[torch.randint(0, values, (rows, count), generator=generator)]
    ids = torch.stack([torch.randperm(5 * count, generator=generator)[:count] for _ in range(rows)])
    smallest = data.draw(st.booleans())
    found, found_ids = best(scores, ids, k, smallest=smallest)
    ordered, ordered_ids = sorted_best(scores, ids, k, smallest=smallest)
    for row in range(rows):
        pairs = list(zip(scores[row].tolist(), ids[row].tolist(), strict=True))
        pairs = sorted(pairs, key=lambda p: (p[0] if smallest else -p[0], p[1]))[:k]
        assert list(zip(ordered[row].tolist(), ordered_ids[row].tolist(), strict=True)) == pairs
        assert sorted(zip(found[row].tolist(), found_ids[row].tolist(), strict=True)) == sorted(pairs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 7, 128, 512, 2048])
@pytest.mark.parametrize("levels", [1, 2, 50, 100_000])
def test_best_rows_equals_a_full_sort(dtype: torch.dtype, k: int, levels: int) -> None:
    generator = torch.Generator().manual_seed(k + levels)
    scores = torch.randint(0, levels, (4096, 3), generator=generator).to(dtype) / levels - 0.3
    scores[torch.rand(4096, 3, generator=generator) < 0.4] = -torch.inf
    values, rows = best_rows(scores, k)
    order = scores.t().argsort(dim=1, descending=True, stable=True)[:, :k]
    assert torch.equal(values, scores.t().gather(1, rows))
    assert torch.equal(rows.sort(dim=1).values, order.sort(dim=1).values)


def test_big_ids_survive() -> None:
    scores = torch.tensor([[0.0, 0.0, -1.0, 0.0]])
    ids = torch.tensor([[2**32 - 1, 7, 0, 3_000_000_000]])
    for k in range(1, 5):
        _, chosen = best(scores, ids, k)
        assert set(chosen[0].tolist()) == set([7, 3_000_000_000, 2**32 - 1, 0][:k])


def test_sort_rows() -> None:
    keys = torch.randint(-(2**62), 2**62, (3, 700))
    assert torch.equal(sort_rows(keys.clone()), keys.sort(dim=1).values)


def test_group_size_divides_a_tile_and_grows_with_the_column() -> None:
    sizes = [group_size(length, 512) for length in (1024, 5120, 63_488, 10**6, 10**9)]
    assert sizes == sorted(sizes)
    assert all(1024 % size == 0 for size in sizes)
    assert sizes[:3] == [1, 1, 8]
    assert group_size(1024, 0) == 1
