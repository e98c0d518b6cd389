from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stdcl.hashing import mix64
from stdcl.methods.stdcl.random_negatives import anchor_keys, draw_without_replacement

GOLDEN = -7046029254386353131  # 2**64 over the golden ratio, as a signed number


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6), k=st.integers(0, 40), seed=st.integers(0, 10_000))
def test_different_numbers_within_the_size(sizes: list[int], k: int, seed: int) -> None:
    keys = anchor_keys(seed, 0, 0, torch.arange(len(sizes)))
    drawn = draw_without_replacement(keys, torch.tensor(sizes), k)
    for row, size in zip(drawn.tolist(), sizes, strict=True):
        real = row[: min(size, k)]
        assert len(set(real)) == len(real)
        assert all(0 <= x < size for x in real)
        assert row[len(real) :] == [-1] * (k - len(real))
    anyhow = draw_without_replacement(keys, torch.tensor(sizes), k, in_turn=False)
    for row, other, size in zip(drawn.tolist(), anyhow.tolist(), sizes, strict=True):
        assert sorted(row[:size]) == sorted(other[:size])
        assert other[size:] == [-1] * max(k - size, 0)


def test_equal_to_a_shuffle_of_real_cards() -> None:
    """The same exchanges, carried out one by one on a list."""
    keys = anchor_keys(3, 1, 4, torch.arange(8))
    for size, k in ((5, 5), (40, 40), (41, 17), (20_000, 100)):
        drawn = draw_without_replacement(keys, torch.full((8,), size), k)
        for key, row in zip(keys, drawn.tolist(), strict=True):
            cards = list(range(size))
            for i in range(k):
                bits = int(mix64(key + torch.tensor(i + 1) * GOLDEN)) & 0x3FFFFFFFFFFFFFFF
                j = i + bits % (size - i)
                cards[i], cards[j] = cards[j], cards[i]
            assert row == cards[:k]


def _chi_square(counts: np.ndarray) -> float:
    """Standard deviations of the chi-square statistic from its mean, for equal expected counts."""
    expected = counts.sum() / counts.size
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = counts.size - 1
    return float((statistic - freedom) / np.sqrt(2 * freedom))


def test_every_order_of_a_small_domain_is_equally_likely() -> None:
    for size, k in ((2, 1), (3, 2), (4, 4), (6, 3)):
        keys = anchor_keys(0, size, k, torch.arange(60_000))
        drawn = draw_without_replacement(keys, torch.full((60_000,), size), k).numpy()
        code = (drawn * size ** np.arange(k)).sum(axis=1)
        orders = [sum(x * size**i for i, x in enumerate(p)) for p in itertools.permutations(range(size), k)]
        counts = np.array([(code == order).sum() for order in orders])
        assert counts.sum() == 60_000
        assert abs(_chi_square(counts)) < 4


@pytest.mark.parametrize("by", ["slot", "step", "seed"])
def test_numbers_and_pairs_of_a_large_domain_are_equally_likely(by: str) -> None:
    size, k, draws = (64, 16, 20_000) if by == "slot" else (16, 12, 2_000)
    if by == "slot":
        keys = anchor_keys(1, 2, 0, torch.arange(draws))
    elif by == "step":
        keys = torch.cat([anchor_keys(1, step, 0, torch.tensor([5])) for step in range(draws)])
    else:
        keys = torch.cat([anchor_keys(seed, 2, 0, torch.tensor([5])) for seed in range(draws)])
    drawn = draw_without_replacement(keys, torch.full((draws,), size), k).numpy()
    for place in range(k):
        assert abs(_chi_square(np.bincount(drawn[:, place], minlength=size))) < 4.5
    pairs = drawn[:, 3] * size + drawn[:, 11]
    counts = np.bincount(pairs, minlength=size * size).reshape(size, size)
    assert np.diag(counts).sum() == 0
    assert abs(_chi_square(counts[~np.eye(size, dtype=bool)])) < 4.5


def test_the_draw_is_pinned() -> None:
    """A changed draw would change every published run: it must be a decision."""
    drawn = draw_without_replacement(anchor_keys(1, 2, 0, torch.tensor([0, 7])), torch.tensor([1000, 10]), 4)
    assert drawn.tolist() == [[318, 381, 595, 734], [7, 3, 2, 1]]
