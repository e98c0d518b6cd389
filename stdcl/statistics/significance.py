"""Tests of one difference, and their correction over a family of questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from stdcl.errors import UserError
from stdcl.statistics.answers import checked_answers


@dataclass(frozen=True)
class McNemar:
    """Exact McNemar test of two trained models on the same sequences (McNemar 1947; binomial distribution).

    It takes sequences as independent, and says nothing about training again.

    Attributes:
        gained: sequences that only the arm classifies rightly.
        lost: sequences that only the baseline classifies rightly.
        p: two-sided; 1 where no answer differs.
    """

    gained: int
    lost: int
    p: float


def mcnemar(baseline: np.ndarray, arm: np.ndarray) -> McNemar:
    """Compare (N,) answers of two models.

    Raises:
        UserError: answers that are not 0 or 1, or of other sequences.
    """
    first, second = checked_answers(baseline, "baseline"), checked_answers(arm, "arm")
    if first.shape != second.shape or len(first) != 1:
        raise UserError(f"McNemar: answers of shapes {np.shape(baseline)} and {np.shape(arm)}; expected (N,) twice")
    gained, lost = int((second > first).sum()), int((first > second).sum())
    if gained + lost == 0:
        return McNemar(0, 0, 1.0)
    return McNemar(gained, lost, float(stats.binomtest(gained, gained + lost, 0.5).pvalue))


def two_sided_p(estimate: float, error: float, freedom: float) -> float:
    """p of "no difference" by Student's t; NaN without a standard error."""
    if math.isnan(error) or error <= 0.0:
        return float("nan")
    return float(2.0 * stats.t.sf(abs(estimate) / error, freedom))


def equivalence_p(estimate: float, error: float, freedom: float, margin: float) -> float:
    """p of "the difference is at least the margin", the larger of two one-sided tests (TOST; Schuirmann 1987).

    Args:
        estimate, error: difference and standard error.
        freedom: degrees of freedom.
        margin: above 0, in the unit of the estimate.
    """
    if not margin > 0.0:
        raise UserError(f"equivalence: margin {margin:g}; it must be above 0")
    if math.isnan(error) or error <= 0.0:
        return float("nan")
    return float(stats.t.sf((margin - abs(estimate)) / error, freedom))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjust p values for a family of questions (Holm 1979), in their order; at level alpha, claims are those <= alpha.

    NaN (a question without a test) stays NaN; it counts in the family, since it was asked.
    """
    from statsmodels.stats.multitest import multipletests  # slow to import

    if not p_values:
        return ()
    missing = np.isnan(p_values)
    adjusted = multipletests(np.where(missing, 1.0, p_values), method="holm")[1]
    return tuple(float(p) for p in np.where(missing, np.nan, adjusted))
