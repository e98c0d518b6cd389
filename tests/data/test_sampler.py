"""The order of an epoch and its division."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stdcl.data import sampler
from stdcl.errors import UserError


def test_order_is_a_permutation_of_seed_and_epoch() -> None:
    orders = {(s, e): tuple(sampler.epoch_order(s, e, 200)) for s in (0, 1) for e in (0, 1)}
    assert len(set(orders.values())) == 4
    for order in orders.values():
        assert sorted(order) == list(range(200))
    assert tuple(sampler.epoch_order(1, 1, 200)) == orders[1, 1]


@given(items=st.integers(1, 200), batch=st.integers(1, 50), size=st.integers(1, 9), drop=st.booleans())
def test_parts_make_the_batches_and_batches_make_the_epoch(items: int, batch: int, size: int, drop: bool) -> None:
    order = sampler.epoch_order(3, 0, items)
    if drop and items < batch:
        with pytest.raises(UserError, match="not one complete batch"):
            sampler.global_batches(order, batch, drop)
        return
    batches = sampler.global_batches(order, batch, drop)
    assert len(batches) == sampler.num_batches(items, batch, drop)
    joined = np.concatenate(batches)
    np.testing.assert_array_equal(joined, order[: len(joined)])
    assert len(joined) == (items // batch * batch if drop else items)
    for one in batches:
        parts = [sampler.local_part(one, rank, size) for rank in range(size)]
        np.testing.assert_array_equal(np.concatenate(parts), one)
        lengths = [len(p) for p in parts]
        assert max(lengths) - min(lengths) <= 1
        assert lengths == sorted(lengths, reverse=True)
        stops = [sampler.local_bounds(len(one), rank, size) for rank in range(size)]
        assert stops[0][0] == 0
        assert stops[-1][1] == len(one)


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(UserError, match="at least 1"):
        sampler.global_batches(np.arange(4), 0, False)


def test_evaluation_counts_every_item_once_on_any_number_of_workers() -> None:
    for size in (1, 2, 3, 4, 8):
        seen = [
            item
            for batch in sampler.global_batches(np.arange(97), 16, drop_last=False)
            for rank in range(size)
            for item in sampler.local_part(batch, rank, size).tolist()
        ]
        assert seen == list(range(97))
