"""Classes by difficulty: the gain that choosing groups makes by itself is gone."""

from __future__ import annotations

import numpy as np
import pytest

from stdcl.errors import UserError
from stdcl.statistics.difference import Population
from stdcl.statistics.difficulty import NAMES, by_difficulty, level_of

CLASSES, CLIPS = 10, 30
LABELS = np.repeat(np.arange(CLASSES), CLIPS)


def per_class(answers: np.ndarray) -> np.ndarray:
    return np.stack([answers[..., c == LABELS].mean(axis=-1) for c in range(CLASSES)], axis=-1)


def studies(seeds: int, count: int, weak: float = 0.0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Studies without any effect. ``weak``: how much arms differ on single classes in every training, either way."""
    rng = np.random.default_rng(seeds)
    out = []
    for _ in range(count):
        chance = rng.uniform(0.7, 1.0, CLASSES)
        shifts = rng.uniform(-weak, weak, (2, CLASSES))
        out.append(
            tuple((rng.random((seeds, len(LABELS))) < np.clip(chance + s, 0, 1)[LABELS]).astype(int) for s in shifts)
        )
    return out


def gains(seeds: int, weak: float = 0.0) -> tuple[dict[str, np.ndarray], float]:
    """Differences per level over studies, and the mean gain of hard classes grouped by the compared baseline itself."""
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    naive = []
    for baseline, arm in studies(seeds, 300, weak):
        for row in by_difficulty(baseline, arm, LABELS):
            if row.difference is not None:
                found[row.name].append(row.difference)
        own = level_of(per_class(baseline.mean(axis=0))) == 0
        if own.any():
            naive.append((per_class(arm.mean(axis=0)) - per_class(baseline.mean(axis=0)))[own].mean())
    return {name: np.array(values) for name, values in found.items()}, float(np.mean(naive))


@pytest.mark.parametrize("seeds", [1, 3])
def test_no_effect_shows_no_gain(seeds: int) -> None:
    found, naive = gains(seeds)
    assert naive > 0.01, "grouped by the runs that are compared, hard classes gain by themselves"
    for name, values in found.items():
        error = values.std() / np.sqrt(len(values))
        assert abs(values.mean()) <= 4 * error, name
        assert abs(values.mean()) < naive / 2, name


def test_arms_that_differ_on_single_classes_show_no_gain_either() -> None:
    found, naive = gains(3, weak=0.08)
    assert naive > 0.02
    for name, values in found.items():
        assert abs(values.mean()) <= 4 * values.std() / np.sqrt(len(values)), name


def test_a_planted_gain_of_hard_classes_is_found() -> None:
    rng = np.random.default_rng(0)
    chance = np.where(np.arange(CLASSES) < 4, 0.5, 0.97)
    labels = np.repeat(np.arange(CLASSES), 200)
    baseline = (rng.random((4, len(labels))) < chance[labels]).astype(int)
    arm = (rng.random((4, len(labels))) < np.where(chance < 0.8, chance + 0.1, chance)[labels]).astype(int)
    hard, medium, easy = by_difficulty(baseline, arm, labels, np.arange(len(labels)) % 12)
    assert (hard.classes, medium.classes, easy.classes) == (4.0, 0.0, 6.0)
    assert (medium.difference, medium.interval) == (None, None)
    assert hard.interval is not None
    assert easy.interval is not None
    assert hard.interval.low < 0.1 < hard.interval.high
    assert hard.interval.low > 0.03
    assert easy.interval.low < 0.0 < easy.interval.high
    assert hard.interval.population is Population.OTHER_PEOPLE
    assert hard.difference == pytest.approx(per_class_difference(baseline, arm, labels, range(4)))


def per_class_difference(baseline: np.ndarray, arm: np.ndarray, labels: np.ndarray, classes: range) -> float:
    return float(np.mean([arm[:, labels == c].mean() - baseline[:, labels == c].mean() for c in classes]))


def test_intervals_cover() -> None:
    missed = total = 0
    for baseline, arm in studies(3, 400):
        for row in by_difficulty(baseline, arm, LABELS):
            if row.interval is not None:
                total += 1
                missed += not row.interval.low <= 0.0 <= row.interval.high
    assert missed / total <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)


def test_levels_of_single_seeds_by_loops() -> None:
    (baseline, arm) = studies(3, 1)[0]
    differences: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for seed in range(3):
        others = [s for s in range(3) if s != seed]
        groups = level_of(per_class((baseline[others] + arm[others]).mean(axis=0) / 2))
        for level in differences:
            if (groups == level).any():
                each = per_class(arm[seed]) - per_class(baseline[seed])
                differences[level].append(each[groups == level].mean())
    for level, row in enumerate(by_difficulty(baseline, arm, LABELS)):
        assert row.difference == pytest.approx(np.mean(differences[level]))


def test_bounds_are_medium_and_empty_classes_nowhere() -> None:
    assert level_of(np.array([0.79, 0.8, 0.9, 0.91, np.nan])).tolist() == [0, 1, 1, 2, -1]
    assert level_of(np.array([24 / 30])).tolist() == [1]


def test_refusals() -> None:
    ones = np.ones((2, 4))
    with pytest.raises(UserError, match="one label per sequence"):
        by_difficulty(ones, ones, [0, 1])
    with pytest.raises(UserError, match="ascending"):
        by_difficulty(ones, ones, [0, 1, 2, 3], bounds=(0.9, 0.8))
