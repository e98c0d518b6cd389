"""What a study can show: power, smallest difference, and the seeds that a fresh study needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats

from stdcl.errors import UserError
from stdcl.statistics.components import Components
from stdcl.statistics.crossed import Spread, freedom_of_clusters, over_both, over_clusters
from stdcl.statistics.difference import Difference

ALPHA = 0.05
POWER = 0.8
"""Chance of showing a difference of the stated size; the usual convention (Cohen 1988)."""
MANY_SEEDS = 1000
"""A study that would need more seeds than this is limited by its sequences for all purposes."""
_DRAWS = 256
"""Likely estimates of the variances over which the power of a study is averaged; evenly spread, not random."""


def power_of(difference: float, error: float, freedom: float, alpha: float = ALPHA) -> float:
    """Chance that a two-sided t test rejects "no difference" when the true one is ``difference``.

    The tails of the noncentral t distribution, as the mean over the estimated standard deviation of those of a normal:
    ``scipy.stats.nct`` returns NaN where the difference is ten standard errors.
    """
    threshold = float(stats.t.ppf(1.0 - alpha / 2.0, freedom))
    shift = abs(difference) / error
    deviations, weights = _deviations(freedom)
    tails = special.ndtr(shift - threshold * deviations) + special.ndtr(-shift - threshold * deviations)
    return float((weights * tails).sum())


def smallest_difference(error: float, freedom: float, alpha: float = ALPHA, power: float = POWER) -> float:
    """Smallest true difference that a two-sided t test shows with the given chance.

    Args:
        error: standard error of the difference, above 0.
        freedom: degrees of freedom.
        alpha: level of the test; divide it by the number of questions of the family.
        power: chance of rejecting.
    """
    if not error > 0.0 or not 0.0 < alpha < power < 1.0:
        raise UserError(
            f"smallest difference: error {error:g}, alpha {alpha:g}, power {power:g}; 0 < alpha < power < 1"
        )
    high = float(stats.t.ppf(1.0 - alpha / 2.0, freedom) + stats.t.ppf(power, freedom)) * error
    while power_of(high, error, freedom, alpha) < power:
        high *= 1.5
    return float(optimize.brentq(lambda d: power_of(d, error, freedom, alpha) - power, 0.0, high, xtol=1e-9))


@dataclass(frozen=True)
class Study:
    """A comparison of two arms that is planned, or could be repeated.

    Its power is that of the test in ``crossed.py`` itself, with its pooling and degrees of freedom.

    Attributes:
        components: assumed variance components.
        sequences: N.
        clusters: sequences per subject; None without subjects.
    """

    components: Components
    sequences: int
    clusters: tuple[int, ...] | None = None

    def error(self, seeds: int) -> float:
        """True standard error of the difference with S seeds; with one, for these trained models only."""
        seed, cluster, inner = self._parts(seeds)
        return math.sqrt(seed + cluster + inner)

    def smallest_difference(self, seeds: int, alpha: float = ALPHA, power: float = POWER) -> float:
        """Smallest true difference that S seeds show with the given chance."""
        _check(alpha, power)
        error, thresholds = self.error(seeds), self._thresholds(seeds, alpha)
        if not error > 0.0:
            return float(thresholds.max())
        high = float(thresholds.max()) + 10.0 * error
        return float(optimize.brentq(lambda d: _rejected(d, error, thresholds) - power, 0.0, high, xtol=1e-9))

    def power(self, difference: float, seeds: int, alpha: float = ALPHA) -> float:
        """Chance that S seeds show a true difference."""
        error, thresholds = self.error(seeds), self._thresholds(seeds, alpha)
        if not error > 0.0:
            return float((abs(difference) >= thresholds).mean())
        return _rejected(difference, error, thresholds)

    def seeds_needed(self, difference: float, alpha: float = ALPHA, power: float = POWER) -> float:
        """Fewest seeds, at least two, that show a true difference with the given chance; inf where sequences limit."""
        if not difference > 0.0:
            raise UserError(f"seeds needed: difference {difference:g}; it must be above 0")
        if self.power(difference, MANY_SEEDS, alpha) < power:
            return math.inf
        low, high = 1, MANY_SEEDS  # power grows with seeds: bisection
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.power(difference, middle, alpha) >= power else (middle, high)
        return float(high)

    def _parts(self, seeds: int) -> tuple[float, float, float]:
        """Variance due to seeds, to clusters, and to what differs in every cell."""
        if seeds < 1:
            raise UserError(f"study: {seeds} seeds; at least 1")
        parts = self.components.clipped()
        counts = self._counts()
        shares = float(((counts / counts.sum()) ** 2).sum())
        inner = (parts.seed_subject * shares + parts.rest / self.sequences) / seeds
        return (parts.seed / seeds if seeds > 1 else 0.0), parts.limit(self.sequences, shares), inner

    def _counts(self) -> np.ndarray:
        return np.ones(self.sequences) if self.clusters is None else np.asarray(self.clusters, dtype=np.float64)

    def _thresholds(self, seeds: int, alpha: float) -> np.ndarray:
        """Estimates that the test of ``crossed.py`` just calls a difference, over likely estimates of the variances."""
        seed, cluster, inner = self._parts(seeds)
        nu_s, nu_c = seeds - 1.0, freedom_of_clusters(self._counts())
        u = _evenly(_DRAWS)
        parts = self.components.clipped()
        lasting = parts.subject + parts.sequence
        changing = parts.seed + parts.seed_subject + parts.rest
        total = lasting + changing
        persistence = (lasting + changing / seeds) / total if total > 0 else 1.0
        floor = np.full(_DRAWS, 2.0 * persistence / self.sequences**2)
        v_c = (cluster + inner) * stats.chi2.ppf(u[0], nu_c) / nu_c
        if seeds == 1:
            found = Spread(np.zeros(_DRAWS), np.full(_DRAWS, np.nan), v_c, np.full(_DRAWS, np.nan), floor, 1, nu_c)
            variance, freedom = over_clusters(found)
        else:
            v_s = (seed + inner) * stats.chi2.ppf(u[1], nu_s) / nu_s
            v_i = inner * stats.chi2.ppf(u[2], nu_s * nu_c) / (nu_s * nu_c)
            variance, freedom = over_both(Spread(np.zeros(_DRAWS), v_s, v_c, v_i, floor, seeds, nu_c))
        thresholds: np.ndarray = stats.t.ppf(1.0 - alpha / 2.0, freedom) * np.sqrt(variance)
        return thresholds


@dataclass(frozen=True)
class Plan:
    """What planned seeds could show, before anything runs.

    Attributes:
        seeds: S as planned.
        smallest: smallest true difference that they show with ``power``, a fraction.
        one_sequence: 1 / N, the resolution of a single run.
        by_seeds: smallest difference for other numbers of seeds.
        limit: smallest difference with any number of seeds on these sequences.
        trained_again: False for one seed, whose claims are about these trained models only.
        alpha, power, questions: level of the family, chance, and number of questions that share the level.
    """

    seeds: int
    smallest: float
    one_sequence: float
    by_seeds: tuple[tuple[int, float], ...]
    limit: float
    trained_again: bool
    alpha: float
    power: float
    questions: int


def plan(
    study: Study,
    seeds: int,
    questions: int = 1,
    *,
    others: Sequence[int] = (1, 2, 3, 5, 10),
    alpha: float = ALPHA,
    power: float = POWER,
) -> Plan:
    """Say what difference S planned seeds could show.

    Args:
        study: assumed components, and the shape of the test set.
        seeds: S.
        questions: size of the family; the first step of Holm's correction tests at alpha / questions.
        others: further numbers of seeds, for comparison.
    """
    if seeds < 1 or questions < 1:
        raise UserError(f"plan: {seeds} seeds, {questions} questions; at least 1 of each")
    level = alpha / questions
    return Plan(
        seeds=seeds,
        smallest=study.smallest_difference(seeds, level, power),
        one_sequence=1.0 / study.sequences,
        by_seeds=tuple((s, study.smallest_difference(s, level, power)) for s in others),
        limit=study.smallest_difference(MANY_SEEDS, level, power),
        trained_again=seeds > 1,
        alpha=alpha,
        power=power,
        questions=questions,
    )


def study_of(difference: Difference) -> Study | None:
    """The study that a finished comparison was, with its own variance components; None for one seed."""
    if difference.components is None:
        return None
    return Study(difference.components, difference.sequences, difference.clusters)


@lru_cache(maxsize=256)
def _deviations(freedom: float) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of an estimated standard deviation of 1, with weights that sum to 1 (Gauss-Legendre)."""
    nodes, weights = np.polynomial.legendre.leggauss(256)
    return np.sqrt(stats.chi2.ppf((nodes + 1.0) / 2.0, freedom) / freedom), weights / 2.0


def _rejected(difference: float, error: float, thresholds: np.ndarray) -> float:
    tails = special.ndtr((difference - thresholds) / error) + special.ndtr((-difference - thresholds) / error)
    return float(tails.mean())


def _evenly(count: int) -> np.ndarray:
    """(3, count) points that fill the unit cube evenly: multiples of an irrational vector, modulo 1 (Roberts 2018)."""
    root = 1.2207440846057596  # of x^4 = x + 1
    steps = root ** -np.arange(1.0, 4.0)
    points: np.ndarray = (0.5 + steps[:, None] * np.arange(1, count + 1)) % 1.0
    return points


def _check(alpha: float, power: float) -> None:
    if not 0.0 < alpha < power < 1.0:
        raise UserError(f"power: alpha {alpha:g}, power {power:g}; expected 0 < alpha < power < 1")
