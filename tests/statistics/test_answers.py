"""What the statistics refuse, and how runs are paired."""

from __future__ import annotations

import numpy as np
import pytest

from stdcl.errors import UserError
from stdcl.statistics.answers import checked_answers, checked_subjects, common_seeds, without


def test_one_run_becomes_one_row() -> None:
    assert checked_answers(np.array([True, False]), "x").tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[1.0, float("nan")]], "1 answers are NaN"),
        ([[0.0, 0.5]], "an answer is 0.5"),
        ([[2, 1]], "an answer is 2"),
        ([[]], "shape"),
        ([[[1]]], "shape"),
    ],
)
def test_other_answers_are_refused(values: list, said: str) -> None:
    with pytest.raises(UserError, match=said):
        checked_answers(np.array(values), "arm b")


def test_subjects_become_indices() -> None:
    indices = checked_subjects(np.array(["s03", "s01", "s03"]), 3)
    assert indices is not None
    assert indices.tolist() == [1, 0, 1]
    assert checked_subjects(["s01", "s01"], 2) is None, "one person says nothing about other people"
    assert checked_subjects(None, 5) is None
    with pytest.raises(UserError, match="one subject per sequence"):
        checked_subjects([1, 2], 3)


def test_copies_are_left_out_by_id() -> None:
    assert without(["a", "b", "c"], ["c", "a"]).tolist() == [False, True, False]
    assert without(["a", "b"], []).tolist() == [True, True]
    with pytest.raises(UserError, match="'z'"):
        without(["a", "b"], ["z"])
    with pytest.raises(UserError, match="all 2"):
        without(["a", "b"], ["a", "b"])


def test_only_common_seeds_are_paired() -> None:
    right, wrong = np.ones(3), np.zeros(3)
    seeds, arms = common_seeds({"a": {1: right, 3: wrong, 2: right}, "b": {3: right, 2: wrong}})
    assert seeds == (2, 3)
    assert arms["a"].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert arms["b"].tolist() == [[0, 0, 0], [1, 1, 1]]
    with pytest.raises(UserError, match="a: 1; b: 2"):
        common_seeds({"a": {1: right}, "b": {2: right}})
    with pytest.raises(UserError, match="the same"):
        common_seeds({"a": {1: right}, "b": {1: np.ones(4)}})
    with pytest.raises(UserError, match="no arm"):
        common_seeds({})
