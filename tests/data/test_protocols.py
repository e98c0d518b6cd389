"""Splits: official rules, rules of one's own, and the validation split of the training subjects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stdcl import specs
from stdcl.data.protocols import (
    SplitRule,
    class_counts,
    official_rules,
    rule_from_json,
    split,
    validation_split,
)
from stdcl.data.store import SequenceStore
from stdcl.errors import UserError


@dataclass
class Table:
    ids: list[str]
    labels: NDArray[np.int64]
    numbers: dict[str, NDArray[np.int64]]

    def column(self, name: str) -> NDArray[np.int64]:
        return self.numbers[name]


def table(count: int = 300, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    numbers = {
        "subject": rng.integers(1, 107, count),
        "view": rng.integers(1, 4, count),
        "setup": rng.integers(1, 33, count),
        "replication": rng.integers(1, 3, count),
    }
    ids = [f"c{i:05d}" for i in rng.permutation(count)]
    return Table(ids, rng.integers(0, 5, count), numbers)


def test_official_rules() -> None:
    sixty, more = official_rules("ntu60")["x-sub"].train, official_rules("ntu120")["x-sub"].train
    assert sorted(sixty) == [1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38]
    assert len(more) == 53
    assert sixty < more
    assert official_rules("ntu60")["x-view"].to_json() == {"column": "view", "train": [2, 3], "test": [1]}
    assert official_rules("ntu120")["x-set"].train == frozenset(range(2, 33, 2))
    for spec in specs.datasets().values():
        assert len({part.num_train + part.num_test for part in spec.protocols.values()}) <= 1


@pytest.mark.parametrize(
    ("dataset", "protocol"), [(name, p) for name, spec in specs.datasets().items() for p in spec.protocols]
)
def test_parts_are_disjoint_whole_and_sorted_by_id(dataset: str, protocol: str) -> None:
    columns = table()
    parts = split(columns, official_rules(dataset), protocol, dataset)
    both = np.concatenate([parts.train, parts.test])
    assert sorted(both) == list(range(300))
    for rows in (parts.train, parts.test):
        ids = [columns.ids[r] for r in rows]
        assert ids == sorted(ids)
    rule = official_rules(dataset)[protocol]
    assert set(columns.numbers[rule.column][parts.train]) <= set(rule.train)
    counts = class_counts(columns, rule, 5)
    assert counts["train"] == np.bincount(columns.labels[parts.train], minlength=5).tolist()
    assert sum(counts["test"]) == len(parts.test)


def test_order_does_not_depend_on_the_order_of_the_rows() -> None:
    columns = table()
    shuffled = np.random.default_rng(5).permutation(300)
    other = Table(
        [columns.ids[i] for i in shuffled],
        columns.labels[shuffled],
        {k: v[shuffled] for k, v in columns.numbers.items()},
    )
    one, two = (split(t, official_rules("ntu60"), "x-view", "ntu60") for t in (columns, other))
    assert [columns.ids[r] for r in one.train] == [other.ids[r] for r in two.train]


def test_rules_of_ones_own() -> None:
    columns = table()
    rule = SplitRule("id", frozenset({"c00003", "c00001"}), frozenset({"c00002"}))
    assert rule_from_json(rule.to_json()) == rule
    parts = split(columns, {"mine": rule}, "mine", "mine")
    assert [columns.ids[r] for r in parts.train] == ["c00001", "c00003"]
    assert [columns.ids[r] for r in parts.test] == ["c00002"]


def test_mistakes_are_refused() -> None:
    columns = table()
    with pytest.raises(UserError, match=r"no protocol 'x-veiw' \(did you mean 'x-view'\?\); allowed are x-sub, x-view"):
        split(columns, official_rules("ntu60"), "x-veiw", "ntu60")
    with pytest.raises(UserError, match="test part has no sequence"):
        split(columns, {"p": SplitRule("view", frozenset({1, 2, 3}))}, "p", "mine")
    with pytest.raises(UserError, match="training part has no sequence"):
        split(columns, {"p": SplitRule("view", frozenset({9}))}, "p", "mine")
    with pytest.raises(UserError, match=r"column 'veiw'.*did you mean 'view'"):
        SplitRule("veiw", frozenset({1}))
    with pytest.raises(UserError, match="both the training and the test part"):
        SplitRule("view", frozenset({1, 2}), frozenset({2}))
    with pytest.raises(UserError, match="no training value"):
        SplitRule("view", frozenset())


def test_validation_split_holds_out_whole_training_subjects() -> None:
    columns = table(2000)
    parts = split(columns, official_rules("ntu120"), "x-sub", "ntu120")
    owner = columns.column("subject")
    known = np.unique(owner[parts.train])
    got = validation_split(columns, parts.train, fraction=0.2, seed=0)
    assert len(got.subjects) == round(0.2 * len(known))
    assert set(owner[got.test]) == set(got.subjects)
    assert not set(owner[got.train]) & set(got.subjects)
    assert sorted([*got.train, *got.test]) == sorted(parts.train)
    assert not set(got.test) & set(parts.test)
    for rows in (got.train, got.test):
        ids = [columns.ids[r] for r in rows]
        assert ids == sorted(ids)
    again = validation_split(columns, parts.train, fraction=0.2, seed=0)
    np.testing.assert_array_equal(got.test, again.test)
    assert validation_split(columns, parts.train, fraction=0.2, seed=1).subjects != got.subjects


def test_validation_split_by_named_subjects_and_its_limits() -> None:
    columns = table(200)
    columns.numbers["subject"] = np.arange(200) % 3 + 1
    rows = np.arange(200)
    assert set(columns.column("subject")[validation_split(columns, rows, subjects=[2]).test]) == {2}
    assert len(validation_split(columns, rows, fraction=0.01).subjects) == 1
    assert len(validation_split(columns, rows, fraction=0.99).subjects) == 2
    with pytest.raises(UserError, match=r"subjects \[7\] are not among the training subjects \[1, 2, 3\]"):
        validation_split(columns, rows, subjects=[2, 7])
    with pytest.raises(UserError, match="3 of 3"):
        validation_split(columns, rows, subjects=[1, 2, 3])
    with pytest.raises(UserError, match="between 0 and 1"):
        validation_split(columns, rows, fraction=1.0)
    with pytest.raises(UserError, match="at least 2 are needed"):
        validation_split(columns, np.flatnonzero(columns.column("subject") == 1))


def test_nw_ucla_cross_view(nw_ucla_store: Path) -> None:
    store = SequenceStore.open(nw_ucla_store)
    parts = split(store, store.rules, "cross-view", "nw-ucla")
    assert (len(parts.train), len(parts.test)) == (1020, 464)
    held = validation_split(store, parts.train, fraction=0.2)
    assert len(held.subjects) == 2
    assert set(store.column("view")[held.test]) == {1, 2}
