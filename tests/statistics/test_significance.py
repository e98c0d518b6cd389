"""Tests of one difference against SciPy and statsmodels, and Holm's correction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.weightstats import DescrStatsW

from stdcl.errors import UserError
from stdcl.statistics.significance import equivalence_p, holm, mcnemar, two_sided_p


@pytest.mark.parametrize(("gained", "lost"), [(7, 1), (3, 3), (0, 5), (40, 61)])
def test_mcnemar_equals_statsmodels(gained: int, lost: int) -> None:
    baseline = np.array([0] * gained + [1] * lost + [1] * 50 + [0] * 10)
    arm = np.array([1] * gained + [0] * lost + [1] * 50 + [0] * 10)
    found = mcnemar(baseline, arm)
    assert (found.gained, found.lost) == (gained, lost)
    assert found.p == pytest.approx(reference_mcnemar([[50, lost], [gained, 10]], exact=True).pvalue)


def test_mcnemar_of_equal_answers_is_one() -> None:
    assert mcnemar(np.ones(5), np.ones(5)).p == 1.0
    with pytest.raises(UserError, match=r"expected \(N,\) twice"):
        mcnemar(np.ones(5), np.ones(6))


def test_t_and_equivalence_equal_statsmodels() -> None:
    values = np.array([0.4, 1.1, -0.3, 0.8, 0.6, 0.2])
    error = values.std(ddof=1) / np.sqrt(6)
    assert two_sided_p(values.mean(), error, 5) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    reference = DescrStatsW(values).ttost_mean(-0.9, 0.9)[0]
    assert equivalence_p(values.mean(), error, 5, 0.9) == pytest.approx(reference)


def test_without_an_error_there_is_no_p() -> None:
    assert np.isnan(two_sided_p(0.1, float("nan"), 3))
    assert np.isnan(two_sided_p(0.1, 0.0, 3))
    assert np.isnan(equivalence_p(0.1, 0.0, 3, 1.0))
    with pytest.raises(UserError, match="above 0"):
        equivalence_p(0.1, 1.0, 3, 0.0)


def test_holm_by_hand() -> None:
    assert holm([0.03, 0.01, 0.04]) == pytest.approx((0.06, 0.03, 0.06))
    assert holm([0.5, 0.9]) == pytest.approx((1.0, 1.0))
    assert holm([]) == ()


def test_a_question_without_a_test_counts() -> None:
    first, missing = holm([0.03, float("nan")])
    assert first == pytest.approx(0.06)
    assert np.isnan(missing)
