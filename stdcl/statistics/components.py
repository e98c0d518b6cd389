"""Variance components of a difference between two arms: how much seeds, subjects and sequences each contribute.

The model is that of ``crossed.py``. Components say what a study of another size would see: the variance of a mean
difference over S seeds and N sequences of G clusters with shares w is

    V(S) = seed / S + (subject + seed_subject / S) sum w^2 + (sequence + rest / S) / N
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from stdcl.errors import UserError


@dataclass(frozen=True)
class Components:
    """Variances of single effects, as squared fractions (a standard deviation of 1 point is 1e-4).

    Attributes:
        seed: of a[s], training again, whatever the sequence.
        subject: of g[c], people on which the arms differ more or less.
        seed_subject: of ag[s, c].
        sequence: of b[n], sequences on which the arms differ in every training.
        rest: of e[s, n], answers that change from training to training.
    """

    seed: float
    subject: float
    seed_subject: float
    sequence: float
    rest: float

    def clipped(self) -> Components:
        """The same with negative estimates, which are chance, set to zero."""
        return Components(
            *(max(0.0, v) for v in (self.seed, self.subject, self.seed_subject, self.sequence, self.rest))
        )

    def limit(self, sequences: int, concentration: float) -> float:
        """Variance that remains with any number of seeds.

        Args:
            sequences: N.
            concentration: sum of squared shares of the clusters, 1 / G for equal ones; 1 / N without subjects.
        """
        return self.subject * concentration + self.sequence / sequences

    def per_seed(self, sequences: int, concentration: float) -> float:
        """Variance that S seeds divide by S."""
        return self.seed + self.seed_subject * concentration + self.rest / sequences


@dataclass(frozen=True)
class Assumption:
    """Components to plan with where the sweep itself has none yet.

    Attributes:
        components: of the difference of two arms.
        reason: where they come from, in one sentence.
    """

    components: Components
    reason: str


MEASURED: Mapping[str, Assumption] = MappingProxyType(
    {
        "nw-ucla": Assumption(
            Components(seed=0.0, subject=0.0, seed_subject=1.85e-3, sequence=0.0, rest=0.091),
            "measured: HCN, recipe lite, without and with STD-CL, three seeds; negative estimates are 0",
        ),
    }
)
"""By dataset, as in docs/results/statistics_simulation.md."""

ASSUMED = Assumption(
    Components(seed=4e-6, subject=1e-4, seed_subject=0.0, sequence=0.01, rest=0.09),
    "assumed: arms differ by 0.2 points from training to training and by 1 point from person to person, and 10 % of "
    "the answers of two runs differ, a tenth of them in every training",
)
"""Where nothing was measured."""


def default_components(dataset: str) -> Assumption:
    """Components to plan with on a dataset; results of one's own, by ``estimate_components``, are better."""
    return MEASURED.get(dataset, ASSUMED)


def estimate_components(values: np.ndarray, subjects: np.ndarray | None) -> Components:
    """Estimate components by the method of moments (analysis of variance, unequal cluster sizes).

    Args:
        values: (S, N) difference per seed and sequence, at least two seeds.
        subjects: (N,) indices 0 .. G - 1; None without subjects, whose components are then 0.

    Returns:
        Unbiased estimates, which may be negative; see ``Components.clipped``.

    Raises:
        UserError: one seed, or no subject with two sequences.
    """
    s, n = values.shape
    if s < 2:
        raise UserError("variance components: one seed; at least two are needed")
    clusters = np.zeros(n, dtype=np.int64) if subjects is None else subjects
    counts = np.bincount(clusters).astype(np.float64)
    g = len(counts)
    if n <= g:
        raise UserError(f"variance components: {n} sequences of {g} subjects; some subject needs two")
    mean = values.mean()
    per_seed = values.mean(axis=1)
    per_sequence = values.mean(axis=0)
    cell = np.stack([np.bincount(clusters, weights=row, minlength=g) for row in values]) / counts
    per_cluster = cell.mean(axis=0)
    within = values - cell[:, clusters] - per_sequence + per_cluster[clusters]
    rest = float((within**2).sum()) / ((s - 1) * (n - g))
    between_sequences = float(s * ((per_sequence - per_cluster[clusters]) ** 2).sum()) / (n - g)
    sequence = (between_sequences - rest) / s
    squares = float((counts**2).sum()) / n
    seed_subject = subject = 0.0
    if g > 1:
        inner = cell - per_seed[:, None] - per_cluster + mean
        seed_subject = (float((counts * inner**2).sum()) / (s - 1) - (g - 1) * rest) / (n - squares)
        between = float((s * counts * (per_cluster - mean) ** 2).sum()) - (g - 1) * between_sequences
        subject = (between / (n - squares) - seed_subject) / s
    between_seeds = float((n * (per_seed - mean) ** 2).sum()) / (s - 1)
    seed = (between_seeds - rest - squares * seed_subject) / n
    return Components(seed, subject, seed_subject, sequence, rest)
