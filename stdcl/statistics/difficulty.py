"""Differences on hard, medium and easy classes, without the gain that choosing the groups makes by itself.

A class that looks hard in the very runs that are compared is partly unlucky in them, and luck does not repeat: hard
classes then gain, and easy ones lose, without any effect. Here no answer takes part in choosing the group that it is
counted in:

- with two seeds or more, the groups of a seed come from the other seeds;
- with one seed, the groups of one half of each class's sequences come from the other half, and the reverse.

Both arms choose the groups together. Chosen by the baseline alone, classes on which the baseline is weak in every
training would gain, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from stdcl.errors import UserError
from stdcl.statistics.answers import checked_answers, checked_subjects
from stdcl.statistics.crossed import Cells, over_both, over_clusters, spread
from stdcl.statistics.difference import LEVEL, Interval, Population

NAMES = ("Hard", "Medium", "Easy")
BOUNDS = (0.8, 0.9)
"""Accuracies below the first are hard, above the second easy; both bounds themselves are medium."""


@dataclass(frozen=True)
class LevelDifference:
    """Both arms on the classes of one level.

    Attributes:
        name: of the level.
        classes: number of classes in it, the mean over folds, since folds may choose different ones.
        baseline, arm: means of class accuracies.
        difference: arm minus baseline.
        interval: of the difference, as in ``difference.Difference``; None where no class is in the level.
    """

    name: str
    classes: float
    baseline: float | None
    arm: float | None
    difference: float | None
    interval: Interval | None


def level_of(accuracies: np.ndarray, bounds: tuple[float, float] = BOUNDS) -> np.ndarray:
    """Indices into ``NAMES`` of (..., K) class accuracies; -1 for a class without sequences (NaN)."""
    low, high = bounds
    # Accuracies are counts over counts: a bound that is met exactly must not be missed by rounding.
    levels = np.where(accuracies < low - 1e-12, 0, np.where(accuracies > high + 1e-12, 2, 1))
    return np.where(np.isnan(accuracies), -1, levels)


def by_difficulty(
    baseline: np.ndarray,
    arm: np.ndarray,
    labels: np.ndarray | Sequence[int],
    subjects: np.ndarray | None = None,
    *,
    bounds: tuple[float, float] = BOUNDS,
    level: float = LEVEL,
) -> tuple[LevelDifference, ...]:
    """Compare two arms on hard, medium and easy classes.

    Args:
        baseline, arm: (S, N) answers over paired seeds, 1 right and 0 wrong.
        labels: (N,) class per sequence.
        subjects: (N,) subject per sequence; None where the data have none.
        bounds: of class accuracy, between hard and medium and between medium and easy.
        level: confidence of the intervals.

    Returns:
        One entry per name in ``NAMES``.

    Raises:
        UserError: shapes differ, or answers are not 0 or 1.
    """
    first, second = checked_answers(baseline, "baseline"), checked_answers(arm, "arm")
    classes = np.unique(np.asarray(labels), return_inverse=True)[1]
    if first.shape != second.shape or classes.shape != first.shape[1:]:
        raise UserError(
            f"classes by difficulty: answers of shapes {first.shape} and {second.shape} with {classes.size} labels; "
            "expected (seeds, sequences) twice and one label per sequence"
        )
    if not 0.0 <= bounds[0] <= bounds[1] <= 1.0:
        raise UserError(f"classes by difficulty: bounds {bounds}; expected two ascending fractions")
    who = checked_subjects(subjects, first.shape[1])
    groups, fold = _folds((first + second) / 2.0, classes, bounds)
    return tuple(
        _level(name, index, first, second, classes, who, groups, fold, level) for index, name in enumerate(NAMES)
    )


def _folds(pooled: np.ndarray, classes: np.ndarray, bounds: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Levels (F, K) per fold, and the fold (S, N) whose levels each answer is judged by."""
    s, n = pooled.shape
    if s > 1:
        held_out = (pooled.sum(axis=0) - pooled) / (s - 1)
        return level_of(_per_class(held_out, classes), bounds), np.repeat(np.arange(s)[:, None], n, axis=1)
    half = np.empty(n, dtype=np.int64)
    order = np.argsort(classes, kind="stable")
    counts = np.bincount(classes)
    half[order] = np.concatenate([np.arange(count) % 2 for count in counts])
    levels = [_per_class(pooled[:, half != each], classes[half != each], len(counts)) for each in (0, 1)]
    return level_of(np.concatenate(levels), bounds), half[None]


def _per_class(values: np.ndarray, classes: np.ndarray, count: int = 0) -> np.ndarray:
    totals = np.bincount(classes, minlength=count)
    with np.errstate(invalid="ignore"):
        return np.stack([np.bincount(classes, weights=row, minlength=count) for row in values]) / totals


def _level(
    name: str,
    index: int,
    baseline: np.ndarray,
    arm: np.ndarray,
    classes: np.ndarray,
    who: np.ndarray | None,
    groups: np.ndarray,
    fold: np.ndarray,
    level: float,
) -> LevelDifference:
    s, n = baseline.shape
    mine = groups[fold, classes] == index
    # Equal weight per class within a fold, equal weight per fold.
    counts = np.zeros(groups.shape)
    np.add.at(counts, (fold, np.broadcast_to(classes, fold.shape)), mine)
    weights = np.where(mine, 1.0 / np.maximum(counts[fold, classes], 1.0), 0.0)
    per_fold = np.bincount(fold.ravel(), weights=weights.ravel(), minlength=len(groups))
    number = float((counts > 0).sum(axis=1).mean())
    weights /= np.where(per_fold > 0, per_fold, 1.0)[fold]
    total = weights.sum()
    if total == 0.0:
        return LevelDifference(name, 0.0, None, None, None, None)
    weights *= s / total
    used = weights.any(axis=1)
    first, second = ((weights * each).sum() / s for each in (baseline, arm))
    difference = float(second - first)
    # What each sequence adds to the estimate, with the share of a cluster's weight in place of its share of sequences.
    parts = weights * (arm - baseline - difference) * n
    clusters = np.arange(n) if who is None else who
    shares = np.bincount(clusters, weights=weights.mean(axis=0)) * n
    kept = shares > 0
    sums = np.stack([np.bincount(clusters, weights=row, minlength=len(shares)) for row in parts])[:, kept]
    interval = None
    if kept.sum() > 1:
        found = spread(Cells(sums[used] * (used.sum() / s), shares[kept]))
        again = int(used.sum()) > 1
        variance, freedom = (float(v) for v in (over_both(found) if again else over_clusters(found)))
        half = float(stats.t.ppf(0.5 + level / 2.0, freedom)) * math.sqrt(variance)
        people = who is not None
        others = Population.OTHER_PEOPLE if people else Population.OTHER_SEQUENCES
        interval = Interval(
            max(-1.0, difference - half), min(1.0, difference + half), math.sqrt(variance), freedom, level,
            others if people or not again else Population.THESE_SEQUENCES, again, not people,
        )  # fmt: skip
    return LevelDifference(name, number, float(first), float(second), difference, interval)
