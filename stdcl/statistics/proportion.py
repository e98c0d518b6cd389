"""One arm's accuracy with intervals that hold near 0 and 100 %."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from stdcl.errors import UserError
from stdcl.statistics.answers import checked_answers, checked_subjects
from stdcl.statistics.crossed import cells_of, over_both, over_clusters, over_seeds, spread
from stdcl.statistics.difference import LEVEL, Interval, Population


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one arm over S seeds and N sequences.

    Attributes:
        mean: over seeds.
        per_seed: of each seed.
        deviation: sample standard deviation over seeds; None for one seed.
        interval: over seeds and subjects (or sequences); for one seed over subjects (or sequences).
        over_seeds: t interval over seeds on these sequences; None for one seed and where all seeds agree exactly.
        over_sequences: other people, or without subjects other sequences, for these trained models.
    """

    mean: float
    per_seed: tuple[float, ...]
    deviation: float | None
    interval: Interval
    over_seeds: Interval | None
    over_sequences: Interval


@lru_cache(maxsize=4096)  # a large table asks for the same counts again and again
def binomial_interval(right: float, total: float, level: float = LEVEL, method: str = "wilson") -> tuple[float, float]:
    """Interval of a proportion; it has a width also where all or no answers are right.

    Args:
        right, total: counts; effective counts need not be whole.
        level: confidence.
        method: ``wilson`` (Wilson 1927: right on average), or ``exact`` (Clopper and Pearson 1934: never too narrow).

    Raises:
        UserError: another method, or counts out of range.
    """
    from statsmodels.stats.proportion import proportion_confint  # slow to import

    if method not in ("wilson", "exact"):
        raise UserError(f"binomial interval: method '{method}'; allowed: wilson, exact")
    if not (total > 0 and 0 <= right <= total):
        raise UserError(f"binomial interval: {right:g} of {total:g}; expected 0 <= right <= total, and total above 0")
    low, high = proportion_confint(right, total, alpha=1.0 - level, method="wilson" if method == "wilson" else "beta")
    # At the ends Wilson's formula misses 0 and 1 by rounding.
    return 0.0 if right == 0 else max(0.0, float(low)), 1.0 if right == total else min(1.0, float(high))


def accuracy(answers: np.ndarray, subjects: np.ndarray | None = None, *, level: float = LEVEL) -> Accuracy:
    """Summarise one arm.

    The variance is that of ``crossed.py``; the interval is Clopper and Pearson's with the number of independent
    sequences that would have this variance (Korn and Graubard 1998), so that it stays between 0 and 1 and never closes.

    Args:
        answers: (S, N), 1 right and 0 wrong.
        subjects: (N,) subject per sequence; None where the data have none.
        level: of the intervals.
    """
    values = checked_answers(answers, "accuracy")
    s, n = values.shape
    who = checked_subjects(subjects, n)
    found = spread(cells_of(values, who, largest=0.0))
    mean = float(found.mean)
    per_seed = values.mean(axis=1)
    people = who is not None

    def interval(of: tuple[np.ndarray, np.ndarray], population: Population, trained_again: bool) -> Interval:
        variance, freedom = float(of[0]), float(of[1])
        binomial = mean * (1.0 - mean)
        # Where nothing varies the N sequences are what is known, whatever the number of seeds.
        size = float(n) if not variance > 0.0 or not binomial > 0.0 else min(s * n, binomial / variance)
        if size < n * s and freedom > 0:
            size *= float(stats.t.ppf(0.5 + level / 2, max(2, n - 1)) / stats.t.ppf(0.5 + level / 2, freedom)) ** 2
        low, high = binomial_interval(mean * size, size, level, "exact")
        return Interval(
            low, high, math.sqrt(max(variance, 0.0)) if variance > 0 else 0.0, freedom, level,
            population, trained_again, not people,
        )  # fmt: skip

    others = Population.OTHER_PEOPLE if people else Population.OTHER_SEQUENCES
    sequences = interval(over_clusters(found), others, False)
    both = interval(over_both(found), others if people else Population.THESE_SEQUENCES, True) if s > 1 else sequences
    seeds = None
    variance, freedom = (float(v) for v in over_seeds(found))
    if s > 1 and variance > 0.0:
        half = float(stats.t.ppf(0.5 + level / 2, freedom)) * math.sqrt(variance)
        seeds = Interval(
            max(0.0, mean - half), min(1.0, mean + half), math.sqrt(variance), freedom, level,
            Population.THESE_SEQUENCES, True,
        )  # fmt: skip
    deviation = float(per_seed.std(ddof=1)) if s > 1 else None
    return Accuracy(mean, tuple(float(v) for v in per_seed), deviation, both, seeds, sequences)
