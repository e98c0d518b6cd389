from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stdcl.statistics.repeats import paired_difference, summarise


def test_three_seeds_by_hand() -> None:
    found = summarise([0.94, 0.95, 0.96], 464)
    assert found is not None
    assert found.n == 3
    assert found.mean == pytest.approx(0.95)
    assert found.std == pytest.approx(0.01)
    assert found.low == pytest.approx(0.95 - 4.30265 * 0.01 / math.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(0.95 + 4.30265 * 0.01 / math.sqrt(3), abs=1e-6)
    # Wilson's interval at 95 %: wider than the plain error by less than its own square.
    assert found.binomial_error == pytest.approx(math.sqrt(0.95 * 0.05 / 464), rel=0.02)


def test_one_seed_has_no_spread_and_none_no_summary() -> None:
    found = summarise([0.9], None)
    assert found is not None
    assert (found.n, found.mean, found.std, found.low, found.high, found.binomial_error) == (
        1, 0.9, None, None, None, None,
    )  # fmt: skip
    assert summarise([]) is None
    certain = summarise([1.0, 1.0], 464)
    assert certain is not None
    assert (certain.std, certain.low, certain.high) == (0.0, None, None)


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_nothing_is_certain_where_all_answers_are_equal(mean: float) -> None:
    """By Wilson: z^2 / (n + z^2) wide from the end, half of which over z is an error of z / (2 (n + z^2))."""
    found = summarise([mean], 464)
    assert found is not None
    z = 1.959963985
    assert found.binomial_error == pytest.approx(z / 2 / (464 + z**2), rel=1e-6)


@given(st.lists(st.integers(0, 464), min_size=2, max_size=12))
def test_against_the_standard_library(counts: list[int]) -> None:
    values = [count / 464 for count in counts]
    found = summarise(values)
    assert found is not None
    assert found.std is not None
    assert found.mean == pytest.approx(statistics.mean(values))
    assert found.std == pytest.approx(statistics.stdev(values), abs=1e-12)


def test_pairs_are_made_by_seed() -> None:
    found = paired_difference({1: 0.95, 2: 0.96, 3: 0.90, 9: 0.1}, {3: 0.90, 2: 0.95, 1: 0.96, 7: 0.99})
    assert found is not None
    assert (found.n, found.better, found.equal, found.worse) == (3, 1, 1, 1)
    assert found.mean == pytest.approx(0.0)
    assert found.std == pytest.approx(0.01)
    assert paired_difference({1: 0.9}, {2: 0.9}) is None
    single = paired_difference({1: 0.9}, {1: 0.8})
    assert single is not None
    assert (single.n, single.std, single.low, single.better) == (1, None, None, 1)


def test_pairing_removes_what_the_seeds_share() -> None:
    shared = {seed: 0.90 + 0.01 * seed for seed in range(5)}
    found = paired_difference({seed: value + 0.002 for seed, value in shared.items()}, shared)
    assert found is not None
    assert found.std == pytest.approx(0.0, abs=1e-12)
    assert found.better == 5
