from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stdcl.report.summary import paired_difference, student_t_quantile, summarise


@pytest.mark.parametrize(
    ("freedom", "expected"),
    # Two-sided 95 % points, as every printed table has them.
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (10, 2.228), (30, 2.042), (120, 1.980)],
)
def test_student_t_against_a_printed_table(freedom: int, expected: float) -> None:
    assert round(student_t_quantile(0.975, freedom), 3) == expected
    assert student_t_quantile(0.025, freedom) == -student_t_quantile(0.975, freedom)


@given(st.floats(0.51, 0.999), st.integers(1, 40))
def test_student_t_against_numerical_integration(probability: float, freedom: int) -> None:
    quantile = student_t_quantile(probability, freedom)
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    # Integrate over the angle, where the density is smooth and the range finite.
    end, steps = math.atan(quantile / math.sqrt(freedom)), 2000
    width = end / steps
    area = sum(math.cos((i + 0.5) * width) ** (freedom - 1) for i in range(steps)) * width
    assert 0.5 + scale * math.sqrt(freedom) * area == pytest.approx(probability, abs=1e-5)


def test_student_t_refuses_nonsense() -> None:
    for probability, freedom in ((0.0, 3), (1.0, 3), (0.9, 0)):
        with pytest.raises(ValueError, match="must lie between"):
            student_t_quantile(probability, freedom)


def test_three_seeds_by_hand() -> None:
    found = summarise([0.94, 0.95, 0.96], 464)
    assert found is not None
    assert found.n == 3
    assert found.mean == pytest.approx(0.95)
    assert found.std == pytest.approx(0.01)
    assert found.low == pytest.approx(0.95 - 4.30265 * 0.01 / math.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(0.95 + 4.30265 * 0.01 / math.sqrt(3), abs=1e-6)
    assert found.binomial_error == pytest.approx(math.sqrt(0.95 * 0.05 / 464))


def test_one_seed_has_no_spread_and_none_no_summary() -> None:
    found = summarise([0.9], None)
    assert found is not None
    assert (found.n, found.mean, found.std, found.low, found.high, found.binomial_error) == (
        1, 0.9, None, None, None, None,
    )  # fmt: skip
    assert summarise([]) is None
    certain = summarise([1.0, 1.0], 464)
    assert certain is not None
    assert (certain.std, certain.low, certain.high, certain.binomial_error) == (0.0, None, None, 0.0)


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
