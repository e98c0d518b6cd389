"""Variance of a mean over two crossed kinds of chance: seeds (training again) and clusters of test sequences.

Each of S seeds is tested on the same N sequences of G clusters (subjects; or every sequence by itself), so that the
value d[s, n] of seed s on sequence n follows

    d[s, n] = delta + a[s] + g[c(n)] + ag[s, c(n)] + b[n] + e[s, n]

with independent effects of mean zero: seed, cluster, their interaction, sequence, and the rest. With the weights
w[c] = n[c] / N, the cell means D[s, c] and T[s] = sum_c w[c] D[s, c], three sums of squares estimate the variance of
the mean d = mean_s T[s]:

    V_S = sum_s (T[s] - d)^2 / (S (S - 1))                            seeds alone
    V_C = sum_c w[c]^2 / (1 - w[c]) (D[., c] - d)^2                   clusters alone
    V_I = sum_sc w[c]^2 / (1 - w[c]) I[s, c]^2 / (S (S - 1))          both contain this part: I is D without its margins

V_S + V_C - V_I is the variance over both (for equal clusters exactly the two-way analysis of variance; Cameron, Gelbach
and Miller 2011 for clusters of any size). 1 / (1 - w[c]) is the correction CR2 of Bell and McCaffrey (2002) for a mean.
Degrees of freedom are Satterthwaite's (1946). All functions take leading batch axes and cost O(S N).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

KEEP_SEEDS = 0.5
"""A seed effect is kept where V_S / V_I exceeds this quantile of its distribution without one, else pooled."""
KEEP_CLUSTERS = 0.75
"""The same for the cluster effect; 0.75 is the usual level of a preliminary test (Bancroft 1944)."""
TWO_SEEDS_FREEDOM = 3.0
"""Two seeds give their spread one degree of freedom, and often too small a value: the sum counts at most this many."""


@dataclass(frozen=True)
class Cells:
    """Sums of d over the sequences of each cluster, all that the variances need.

    Attributes:
        sums: (..., S, G).
        counts: (G,) sequences per cluster.
        largest: largest possible absolute value of d; 1 for a difference of two arms.
        persistence: (...) sum over sequences of the squared mean over seeds, per mean over seeds of the sum of squares:
            1 where every seed has the same d, 1 / S where each seed differs on other sequences, and never less than
            that; 1 if not known.
    """

    sums: np.ndarray
    counts: np.ndarray
    largest: float = 1.0
    persistence: np.ndarray | float = 1.0

    @property
    def seeds(self) -> int:
        """S."""
        return int(self.sums.shape[-2])

    @property
    def clusters(self) -> int:
        """G."""
        return int(self.sums.shape[-1])

    @property
    def sequences(self) -> int:
        """N."""
        return int(self.counts.sum())


@dataclass(frozen=True)
class Spread:
    """The three estimates of the module's head, with their degrees of freedom; NaN where they do not exist.

    Attributes:
        mean: (...) mean of d over seeds and sequences.
        seeds, clusters, interaction: (...) V_S, V_C, V_I. V_S and V_I need two seeds, V_C and V_I two clusters.
        floor: (...) variance that N sequences cannot exclude whatever was seen: that of two further sequences with
            opposite values of the largest size (Bonett and Price 2012, for paired proportions), times the persistence.
            It matters where few answers differ, and keeps an interval from having no width where none does.
        num_seeds: S.
        freedom_clusters: degrees of freedom of V_C; S - 1 times it are those of V_I.
    """

    mean: np.ndarray
    seeds: np.ndarray
    clusters: np.ndarray
    interaction: np.ndarray
    floor: np.ndarray
    num_seeds: int
    freedom_clusters: float


def cells_of(values: np.ndarray, clusters: np.ndarray | None, largest: float = 1.0) -> Cells:
    """Sum (..., S, N) values over clusters.

    Args:
        values: d of the module's head.
        clusters: (N,) indices 0 .. G - 1, each in use; None takes every sequence as its own cluster.
        largest: see ``Cells``.
    """
    n = values.shape[-1]
    squares = np.square(values, dtype=np.float64).sum(axis=(-2, -1)) * values.shape[-2]
    of_means = np.square(values.sum(axis=-2, dtype=np.float64)).sum(axis=-1)
    persistence = np.divide(of_means, squares, out=np.ones_like(squares), where=squares > 0)
    persistence = np.maximum(persistence, 1.0 / values.shape[-2])
    if clusters is None:
        return Cells(np.asarray(values, dtype=np.float64), np.ones(n), largest, persistence)
    order = np.argsort(clusters, kind="stable")
    counts = np.bincount(clusters)
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    sums = np.add.reduceat(values[..., order], starts, axis=-1, dtype=np.float64)
    return Cells(sums, counts.astype(np.float64), largest, persistence)


def spread(cells: Cells) -> Spread:
    """Estimate V_S, V_C and V_I."""
    s, g = cells.seeds, cells.clusters
    weights = cells.counts / cells.sequences
    means = cells.sums / cells.counts
    per_seed = cells.sums.sum(axis=-1) / cells.sequences
    per_cluster = means.mean(axis=-2)
    mean = per_seed.mean(axis=-1)
    nothing = np.full(mean.shape, np.nan)
    v_seeds = v_clusters = v_interaction = nothing
    seed_effect = per_seed - mean[..., None]
    cluster_effect = per_cluster - mean[..., None]
    if s > 1:
        v_seeds = (seed_effect**2).sum(axis=-1) / (s * (s - 1))
    if g > 1:
        a = weights**2 / (1.0 - weights)
        v_clusters = (a * cluster_effect**2).sum(axis=-1)
        if s > 1:
            rest = means - mean[..., None, None] - seed_effect[..., :, None] - cluster_effect[..., None, :]
            v_interaction = (a * rest**2).sum(axis=(-2, -1)) / (s * (s - 1))
    floor = np.broadcast_to(2.0 * (cells.largest / cells.sequences) ** 2 * cells.persistence, mean.shape)
    return Spread(mean, v_seeds, v_clusters, v_interaction, floor, s, freedom_of_clusters(cells.counts))


def over_both(found: Spread) -> tuple[np.ndarray, np.ndarray]:
    """Variance of the mean over seeds and clusters, and its degrees of freedom.

    An effect without evidence is pooled with the interaction ("sometimes pooling"): without this, each estimate that is
    negative by chance would have to be cut at zero, and the sum would be too large; its error rates are in
    ``docs/results/statistics_simulation.md``. With two seeds, a choice between pooling and a single degree of freedom
    would make half of all intervals useless: there, what V_S exceeds the interaction by is added as it is, and the
    degrees of freedom are at most ``TWO_SEEDS_FREEDOM``.

    Returns:
        variance and degrees of freedom, both of the spread's batch shape; NaN for one seed or one cluster.
    """
    if found.num_seeds < 2 or not found.freedom_clusters > 0:
        return np.full(found.mean.shape, np.nan), np.full(found.mean.shape, np.nan)
    nu_s, nu_c = found.num_seeds - 1.0, found.freedom_clusters
    nu_i = nu_s * nu_c
    v_s, v_c, v_i = found.seeds, found.clusters, found.interaction
    clusters = v_c > _quantile(KEEP_CLUSTERS, nu_c, nu_i) * v_i
    if found.num_seeds == 2:
        inner = (v_c + v_i) / 2.0  # equal degrees of freedom
        cluster, nu = np.where(clusters, v_c, inner), np.where(clusters, nu_c, 2.0 * nu_c)
        excess = np.maximum(0.0, v_s - np.where(clusters, v_i, inner))
        squares = cluster**2 / nu + excess**2
        return _finished(found, cluster + excess, squares, TWO_SEEDS_FREEDOM)
    seeds = v_s > _quantile(KEEP_SEEDS, nu_s, nu_i) * v_i
    cases = [seeds & clusters, seeds & ~clusters, ~seeds & clusters]
    pooled = (nu_s * v_s + nu_c * v_c + nu_i * v_i) / (nu_s + nu_c + nu_i)
    variance = np.select(cases, [v_s + v_c - v_i, v_s, v_c], pooled)
    squares = np.select(
        cases,
        [v_s**2 / nu_s + v_c**2 / nu_c + v_i**2 / nu_i, v_s**2 / nu_s, v_c**2 / nu_c],
        pooled**2 / (nu_s + nu_c + nu_i),
    )
    return _finished(found, variance, squares, np.inf)


def _finished(found: Spread, variance: np.ndarray, squares: np.ndarray, most: float) -> tuple[np.ndarray, np.ndarray]:
    """Variance with its floor, and Satterthwaite's degrees of freedom between 1 and ``most``."""
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(squares > 0, variance**2 / squares, found.freedom_clusters)
    return variance + found.floor, np.clip(freedom, 1.0, most)


def over_clusters(found: Spread) -> tuple[np.ndarray, np.ndarray]:
    """Variance over clusters of the mean of these S trained models, and its degrees of freedom."""
    return found.clusters + found.floor, np.full(found.mean.shape, found.freedom_clusters)


def over_seeds(found: Spread) -> tuple[np.ndarray, np.ndarray]:
    """Variance over seeds of the mean on these N sequences, and its degrees of freedom."""
    return found.seeds, np.full(found.mean.shape, found.num_seeds - 1.0 if found.num_seeds > 1 else np.nan)


def freedom_of_clusters(counts: np.ndarray) -> float:
    """Degrees of freedom of V_C: G - 1 for equal clusters, fewer where some hold most of the sequences.

    (trace M)^2 / trace M^2 of the quadratic form (Bell and McCaffrey 2002; Imbens and Kolesár 2016), the smaller of two
    working models: cluster means of equal variance, and of variance 1 / count.

    Args:
        counts: (G,) sequences per cluster.

    Returns:
        NaN for one cluster.
    """
    if len(counts) < 2:
        return float("nan")
    if np.all(counts == counts[0]):
        return float(len(counts) - 1)
    w = counts / counts.sum()
    a = w**2 / (1.0 - w)
    return min(_freedom(a, w, omega) for omega in (np.ones(len(w)), 1.0 / counts))


def _freedom(a: np.ndarray, w: np.ndarray, omega: np.ndarray) -> float:
    """(trace AK)^2 / trace (AK)^2, K the covariance of the residuals of cluster means of variances ``omega``.

    K[g, h] = [g = h] omega[g] + q - x[g] - x[h] with x = w omega and q = sum w x; expanded, so
    that no G x G matrix is made.
    """
    x = w * omega
    q = float((w * x).sum())
    a0, a1, a2 = float(a.sum()), float((a * x).sum()), float((a * x**2).sum())
    off = a0 * a0 * q * q + 2.0 * a0 * a2 - 4.0 * q * a0 * a1 + 2.0 * a1 * a1
    diagonal = float((a**2 * ((omega + q - 2.0 * x) ** 2 - (q - 2.0 * x) ** 2)).sum())
    trace = float((a * (omega + q - 2.0 * x)).sum())
    return trace * trace / (off + diagonal)


@lru_cache(maxsize=256)
def _quantile(probability: float, first: float, second: float) -> float:
    return float(stats.f.ppf(probability, first, second))
