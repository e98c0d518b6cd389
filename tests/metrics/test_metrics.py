"""Metrics by hand, and their way from an evaluation to the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stdcl import specs
from stdcl.cli import main
from stdcl.errors import UserError
from stdcl.metrics.mean_class_accuracy import mean_class_accuracy
from stdcl.metrics.top5 import top5
from stdcl.report.formats import csv
from stdcl.report.table import sweep_table
from stdcl.results.measures import METRIC_PREFIX, measure
from stdcl.results.scores import Scores, per_class_accuracy
from tests.report.sweeps import Sweep


def test_a_rare_class_counts_as_much_as_a_frequent_one() -> None:
    labels = np.array([0, 0, 0, 0, 3])
    logits = np.eye(5)[[0, 0, 0, 1, 3]]  # three of four, and one of one; classes 1, 2 and 4 do not occur
    assert mean_class_accuracy(logits, labels) == pytest.approx((0.75 + 1.0) / 2)
    ids = np.array([str(i) for i in range(5)], dtype=object)
    scores = Scores(ids, labels, logits.astype(np.float32), "d", "p", "h", "joint", "e")
    assert mean_class_accuracy(logits, labels) == pytest.approx(np.nanmean(per_class_accuracy(scores)))


def test_top_5_counts_ranks_and_of_equal_scores_the_first() -> None:
    logits = np.arange(8.0)[::-1][None].repeat(8, axis=0)  # class 0 is the highest, class 7 the lowest
    assert [top5(logits[:1], np.array([label])) for label in range(8)] == [1.0] * 5 + [0.0] * 3
    equal = np.zeros((7, 7))
    assert top5(equal, np.arange(7)) == pytest.approx(5 / 7)
    assert top5(np.zeros((2, 3)), np.array([0, 2])) == 1.0


def test_every_metric_is_found_by_its_name() -> None:
    assert {"mean_class_accuracy", "top5"} <= set(specs.metrics())
    labels, logits = np.array([0, 1]), np.eye(2)
    assert measure(logits, labels) == {METRIC_PREFIX + name: 1.0 for name in specs.metrics()}
    with pytest.raises(UserError, match=r"unknown metric 'top_5' \(did you mean 'top5'\?\)"):
        measure(logits, labels, ["top_5"])


TAU = "contrast.temperature"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two classes in turn; the second is never right in the first seed's run, and always in the second's."""
    made = Sweep(tmp_path / "tau", (TAU,))
    labels = np.arange(20) % 2
    made.add({TAU: 0.5}, 1, right=(labels == 0) | (np.arange(20) < 4))
    made.add({TAU: 0.5}, 2, right=np.ones(20, dtype=bool))
    made.add({TAU: 0.8}, 1, correct=300)
    return made.save()


def test_a_table_shows_a_metric_of_the_trials_scores(sweep: Path) -> None:
    table = sweep_table(sweep, ["mean_class_accuracy"])
    first, second = table.cells
    found = first.metrics["mean_class_accuracy"]
    assert found is not None
    assert (found.n, found.mean) == (2, pytest.approx((1.0 + 0.2 + 2.0) / 4))
    assert second.metrics == {"mean_class_accuracy": None}  # no scores, and none recorded
    assert "mean_class_accuracy_mean,mean_class_accuracy_std" in csv.render(table)


def test_the_command_shows_it_and_refuses_an_unknown_one(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(sweep), "--metric", "mean_class_accuracy"]) == 1, "a trial has no scores"
    said = capsys.readouterr().out
    assert "80.00" in said
    assert "! no file of scores: grid,temperature=0.8,seed=1" in said
    assert main(["table", str(sweep), "--metric", "mean"]) == 2
    assert "unknown metric 'mean'" in capsys.readouterr().err
