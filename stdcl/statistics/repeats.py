"""Repeats over seeds: mean, spread, intervals, and differences paired by seed. All functions are pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from stdcl.statistics.proportion import binomial_interval

CONFIDENCE = 0.95
# Accuracies are counts over one number of sequences: what lies closer together than this is equal.
_RESOLUTION = 1e-9


@dataclass(frozen=True)
class Summary:
    """Repeats of one cell over seeds.

    Attributes:
        n: number of seeds.
        mean: their mean.
        std: sample standard deviation (divided by n - 1); None for one seed.
        low, high: interval of the mean over seeds, by Student's t with n - 1 degrees of freedom. It speaks of training
            again on the same data, not of other test sequences. None for one seed, and where all seeds agree: to see
            no spread is not to know that there is none.
        binomial_error: standard error of an accuracy on ``num_test`` sequences drawn at random, by Wilson's interval,
            so that it is not 0 where all answers are right or none is; it does not shrink with seeds, since all seeds
            are tested on the same sequences. None without ``num_test``.
    """

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None
    binomial_error: float | None


@dataclass(frozen=True)
class PairedDifference:
    """A cell minus its baseline, seed by seed, over the seeds that both have.

    Attributes:
        n: number of common seeds.
        mean: mean difference.
        std: sample standard deviation of the differences; None for one seed.
        low, high: t-interval of the mean difference; None for one seed and where all differences agree.
        better, equal, worse: seeds by the sign of the difference.
    """

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None
    better: int
    equal: int
    worse: int


def summarise(values: Sequence[float], num_test: int | None = None) -> Summary | None:
    """Summarise one accuracy (a fraction) per seed; None without any.

    Args:
        values: one per seed.
        num_test: number of test sequences.
    """
    if not values:
        return None
    mean, std, low, high = _mean_and_interval(values)
    error = None
    if num_test:
        lowest, highest = binomial_interval(min(1.0, mean) * num_test, num_test, CONFIDENCE)
        error = (highest - lowest) / 2.0 / float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
    return Summary(len(values), mean, std, low, high, error)


def paired_difference(cell: Mapping[int, float], baseline: Mapping[int, float]) -> PairedDifference | None:
    """Compare two arms over their common seeds; None where there are none.

    Args:
        cell: seed -> accuracy.
        baseline: seed -> accuracy.
    """
    differences = [cell[seed] - baseline[seed] for seed in sorted(cell.keys() & baseline.keys())]
    if not differences:
        return None
    mean, std, low, high = _mean_and_interval(differences)
    better = sum(each > _RESOLUTION for each in differences)
    worse = sum(each < -_RESOLUTION for each in differences)
    return PairedDifference(len(differences), mean, std, low, high, better, len(differences) - better - worse, worse)


def _mean_and_interval(values: Sequence[float]) -> tuple[float, float | None, float | None, float | None]:
    """Mean, sample standard deviation, and both ends of the t-interval."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return mean, None, None, None
    std = math.sqrt(math.fsum((each - mean) ** 2 for each in values) / (n - 1))
    if std < _RESOLUTION:
        return mean, 0.0, None, None
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * std / math.sqrt(n)
    return mean, std, mean - half, mean + half
