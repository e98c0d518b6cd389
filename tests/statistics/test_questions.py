"""Questions as contrasts of arms."""

from __future__ import annotations

import numpy as np
import pytest

from stdcl.errors import UserError
from stdcl.statistics.difference import contrast
from stdcl.statistics.questions import Scale, to_baseline, to_value, trend


def test_to_baseline_is_many_to_one() -> None:
    found = to_baseline(["none", "tau 0.5", "tau 0.8"], "none")
    assert [dict(q.coefficients) for q in found] == [{"none": -1.0, "tau 0.5": 1.0}, {"none": -1.0, "tau 0.8": 1.0}]
    with pytest.raises(UserError, match="did you mean 'none'"):
        to_baseline(["none", "x"], "nne")
    with pytest.raises(UserError, match="only arm"):
        to_baseline(["none"], "none")


def test_to_value() -> None:
    found = to_value({4: "r=4", 8: "r=8", 16: "r=16"}, 8)
    assert [q.name for q in found] == ["r=4 - r=8", "r=16 - r=8"]
    with pytest.raises(UserError, match="values are 4, 8"):
        to_value({4: "r=4", 8: "r=8"}, 2)


@pytest.mark.parametrize("scale", list(Scale))
def test_trend_is_the_fitted_difference_of_the_ends(scale: Scale) -> None:
    values = [2.0, 4.0, 8.0, 32.0]
    places = {Scale.RANK: [0, 1, 2, 3], Scale.LOG: np.log(values), Scale.LINEAR: values}[scale]
    accuracies = np.array([0.5, 0.6, 0.55, 0.8])
    question = trend({v: f"r={v:g}" for v in values}, scale)
    slope = np.polyfit(places, accuracies, 1)[0]
    got = sum(question.coefficients[f"r={v:g}"] * a for v, a in zip(values, accuracies, strict=True))
    assert got == pytest.approx(slope * (places[-1] - places[0]))
    assert sum(question.coefficients.values()) == pytest.approx(0, abs=1e-12)


def test_trend_runs_through_contrast() -> None:
    rng = np.random.default_rng(0)
    arms = {f"r={k}": (rng.random((3, 400)) < 0.5 + 0.1 * k).astype(int) for k in (1, 2, 3, 4)}
    question = trend({k: f"r={k}" for k in (1, 2, 3, 4)})
    found = contrast(arms, question.coefficients)
    assert found.estimate == pytest.approx(sum(c * arms[a].mean() for a, c in question.coefficients.items()))
    assert found.p < 0.05


def test_trend_refusals() -> None:
    with pytest.raises(UserError, match="at least three"):
        trend({1: "a", 2: "b"})
    with pytest.raises(UserError, match="no logarithm"):
        trend({0: "a", 1: "b", 2: "c"}, Scale.LOG)
