"""The variances over seeds and clusters, against loops, explicit matrices and the analysis of variance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stdcl.statistics.crossed import (
    KEEP_CLUSTERS,
    KEEP_SEEDS,
    TWO_SEEDS_FREEDOM,
    Cells,
    Spread,
    cells_of,
    freedom_of_clusters,
    over_both,
    over_clusters,
    over_seeds,
    spread,
)

COUNTS = np.array([4, 1, 7, 3, 5])
WHO = np.repeat(np.arange(5), COUNTS)


def differences(seeds: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, 2, (seeds, len(WHO))).astype(float)


def test_cells_are_sums_over_clusters_in_any_order() -> None:
    values = differences(3)
    order = np.random.default_rng(1).permutation(len(WHO))
    expected = [[row[c == WHO].sum() for c in range(5)] for row in values]
    for cells in (cells_of(values, WHO), cells_of(values[:, order], WHO[order])):
        np.testing.assert_allclose(cells.sums, expected)
        assert cells.counts.tolist() == COUNTS.tolist()
    assert (cells.seeds, cells.clusters, cells.sequences) == (3, 5, 20)


def test_variances_equal_loops() -> None:
    values = differences(3)
    s, n, g = 3, 20, 5
    w = [COUNTS[c] / n for c in range(g)]
    cell = [[np.mean([values[i, k] for k in range(n) if WHO[k] == c]) for c in range(g)] for i in range(s)]
    rows = [sum(w[c] * cell[i][c] for c in range(g)) for i in range(s)]
    columns = [np.mean([cell[i][c] for i in range(s)]) for c in range(g)]
    mean = np.mean(rows)
    found = spread(cells_of(values, WHO))
    assert float(found.mean) == pytest.approx(values.mean())
    assert float(found.seeds) == pytest.approx(sum((r - mean) ** 2 for r in rows) / (s * (s - 1)))
    assert float(found.clusters) == pytest.approx(
        sum(w[c] ** 2 / (1 - w[c]) * (columns[c] - mean) ** 2 for c in range(g))
    )
    assert float(found.interaction) == pytest.approx(
        sum(
            w[c] ** 2 / (1 - w[c]) * (cell[i][c] - rows[i] - columns[c] + mean) ** 2 for i in range(s) for c in range(g)
        )
        / (s * (s - 1))
    )


def test_equal_clusters_are_the_two_way_analysis_of_variance() -> None:
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    s, n = 4, 12
    values = np.random.default_rng(3).normal(size=(s, n)) + np.linspace(0, 2, s)[:, None] + np.linspace(0, 3, n)
    frame = pd.DataFrame(
        {"d": values.ravel(), "seed": np.repeat(np.arange(s), n), "sequence": np.tile(np.arange(n), s)}
    )
    table = anova_lm(ols("d ~ C(seed) + C(sequence)", data=frame).fit())
    squares = table["sum_sq"] / table["df"]
    found = spread(cells_of(values, None))
    assert float(found.seeds) == pytest.approx(squares["C(seed)"] / (s * n))
    assert float(found.clusters) == pytest.approx(squares["C(sequence)"] / (s * n))
    assert float(found.interaction) == pytest.approx(squares["Residual"] / (s * n))
    assert found.freedom_clusters == n - 1
    variance, freedom = over_both(found)
    mean_squares = squares["C(seed)"] + squares["C(sequence)"] - squares["Residual"]
    assert float(variance - found.floor) == pytest.approx(mean_squares / (s * n))
    by_hand = mean_squares**2 / sum(squares[k] ** 2 / table["df"][k] for k in squares.index)
    assert float(freedom) == pytest.approx(by_hand)


def test_batches_are_single_studies() -> None:
    batch = np.stack([differences(3, seed) for seed in range(6)]).reshape(2, 3, 3, 20)
    variance, freedom = over_both(spread(cells_of(batch, WHO)))
    assert variance.shape == freedom.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            one, nu = over_both(spread(cells_of(batch[i, j], WHO)))
            assert variance[i, j] == pytest.approx(float(one))
            assert freedom[i, j] == pytest.approx(float(nu))


def test_freedom_equals_explicit_matrices() -> None:
    def by_matrices(omega: np.ndarray) -> float:
        w = COUNTS / COUNTS.sum()
        centre = np.eye(5) - np.outer(np.ones(5), w)
        form = np.diag(w**2 / (1 - w)) @ centre @ np.diag(omega) @ centre.T
        return float(np.trace(form) ** 2 / np.trace(form @ form))

    assert freedom_of_clusters(COUNTS.astype(float)) == pytest.approx(
        min(by_matrices(np.ones(5)), by_matrices(1.0 / COUNTS))
    )
    assert freedom_of_clusters(np.full(10, 7.0)) == 9.0
    assert np.isnan(freedom_of_clusters(np.array([7.0])))


def test_variance_of_clusters_is_unbiased_for_independent_sequences() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(40_000, 1, 20))
    found = spread(cells_of(values, WHO))
    # Each V_C has a relative standard deviation of sqrt(2 / freedom).
    allowed = 4 * np.sqrt(2 / found.freedom_clusters / 40_000)
    assert float(found.clusters.mean()) == pytest.approx(1 / 20, rel=allowed)


def test_sum_is_unbiased_for_crossed_effects() -> None:
    rng = np.random.default_rng(6)
    count, s, g = 20_000, 4, 6
    values = rng.normal(size=(count, s, 1)) + 2 * rng.normal(size=(count, 1, g)) + rng.normal(size=(count, s, g))
    found = spread(cells_of(values, None))
    total = found.seeds + found.clusters - found.interaction
    expected = 1 / s + 4 / g + 1 / (s * g)
    assert float(total.mean()) == pytest.approx(expected, abs=4 * float(total.std()) / np.sqrt(count))


def test_an_effect_without_evidence_is_pooled() -> None:
    def study(seeds: float, clusters: float) -> Spread:
        values = (np.array([v]) for v in (0.0, seeds, clusters, 1.0))
        return Spread(*values, floor=np.zeros(1), num_seeds=3, freedom_clusters=9.0)

    above_s = float(stats.f.ppf(KEEP_SEEDS, 2, 18)) * 1.001
    above_c = float(stats.f.ppf(KEEP_CLUSTERS, 9, 18)) * 1.001
    for seeds, clusters, variance in (
        (above_s, above_c, above_s + above_c - 1),
        (above_s, 1.0, above_s),
        (0.5, above_c, above_c),
        (0.5, 1.0, (2 * 0.5 + 9 + 18) / 29),
    ):
        assert over_both(study(seeds, clusters))[0][0] == pytest.approx(variance)


def test_two_seeds_add_what_exceeds_the_interaction() -> None:
    def study(seeds: float, clusters: float) -> Spread:
        values = (np.array([v]) for v in (0.0, seeds, clusters, 1.0))
        return Spread(*values, floor=np.zeros(1), num_seeds=2, freedom_clusters=9.0)

    above_c = float(stats.f.ppf(KEEP_CLUSTERS, 9, 9)) * 1.001
    for seeds, clusters, variance in (
        (3.0, above_c, above_c + 2.0),
        (0.5, above_c, above_c),
        (3.0, 0.8, 3.0),
        (0.5, 0.8, 0.9),
    ):
        assert over_both(study(seeds, clusters))[0][0] == pytest.approx(variance)
    assert over_both(study(1e6, 1.0))[1][0] == pytest.approx(1.0, abs=1e-3), "seeds alone: one degree of freedom"
    assert over_both(study(0.5, 1.0))[1][0] == TWO_SEEDS_FREEDOM


def test_two_seeds_have_few_degrees_of_freedom() -> None:
    values = np.random.default_rng(7).normal(size=(2, 500))
    values -= values.mean(axis=1, keepdims=True)
    assert float(over_both(spread(cells_of(values, None)))[1]) == TWO_SEEDS_FREEDOM


def test_one_seed_and_one_cluster_have_no_sum() -> None:
    one_seed = spread(cells_of(differences(1), WHO))
    assert np.isnan(over_both(one_seed)[0])
    assert np.isnan(over_seeds(one_seed)[0])
    assert float(over_clusters(one_seed)[0]) > 0
    one_cluster = spread(Cells(np.ones((3, 1)), np.array([20.0])))
    assert np.isnan(over_both(one_cluster)[0])


def test_equal_answers_leave_the_width_of_two_sequences() -> None:
    found = spread(cells_of(np.zeros((3, 400)), None))
    variance, freedom = over_both(found)
    assert float(variance) == pytest.approx(2 / 400**2)
    assert float(freedom) == 399


def test_the_floor_shrinks_where_each_seed_differs_elsewhere() -> None:
    same = np.zeros((4, 40))
    same[:, :3] = 1
    elsewhere = np.zeros((4, 40))
    for seed in range(4):
        elsewhere[seed, 3 * seed : 3 * seed + 3] = 1
    assert float(spread(cells_of(same, None)).floor) == pytest.approx(2 / 40**2)
    assert float(spread(cells_of(elsewhere, None)).floor) == pytest.approx(2 / 40**2 / 4)


def test_a_few_persistent_differences_are_judged_as_by_exact_mcnemar() -> None:
    for lost_none in range(3, 9):
        values = np.zeros((3, 464))
        values[:, :lost_none] = 1
        variance, freedom = over_both(spread(cells_of(values, None)))
        p = 2 * stats.t.sf(lost_none / 464 / np.sqrt(variance), freedom)
        exact = stats.binomtest(lost_none, lost_none).pvalue
        assert float(p) == pytest.approx(exact, rel=0.5), "without the floor p is 0.083 for three, where 0.25 is exact"


def test_pigeonhole_bootstrap_is_slightly_wider() -> None:
    """Owen (2007): resampling seeds and clusters independently counts the interaction up to three times."""
    rng = np.random.default_rng(8)
    s, n = 6, 30
    values = rng.normal(size=(s, 1)) + rng.normal(size=(1, n)) + rng.normal(size=(s, n))
    means = np.array([values[rng.integers(0, s, s)][:, rng.integers(0, n, n)].mean() for _ in range(20_000)])
    found = spread(cells_of(values, None))
    # Exactly: (S - 1)/S V_S + (N - 1)/N V_C + (S - 1)(N - 1)/(S N) V_I.
    expected = (s - 1) / s * found.seeds + (n - 1) / n * found.clusters
    expected = expected + (s - 1) * (n - 1) / (s * n) * found.interaction
    assert float(means.var()) == pytest.approx(float(expected), rel=4 * np.sqrt(2 / 20_000))
    assert float(expected) > float(found.seeds + found.clusters - found.interaction) * 0.9
