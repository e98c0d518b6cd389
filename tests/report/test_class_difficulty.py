"""Hard, medium and easy classes: bounds, both groupings, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stdcl.cli import main
from stdcl.errors import UserError
from stdcl.report.class_difficulty import difficulty, level_of
from stdcl.results.scores import Scores, write_scores


def scores(right: list[int], *, per_class: int = 10, **facts: str) -> Scores:
    """Scores with ``right[k]`` of ``per_class`` sequences of class k classified rightly."""
    classes = len(right)
    labels = np.repeat(np.arange(classes), per_class)
    said = np.array([k if i < right[k] else (k + 1) % classes for k in range(classes) for i in range(per_class)])
    known = {"dataset": "nw-ucla", "protocol": "cross-view", "data_hash": "h", "stream": "joint", "encoder": "ctrgcn"}
    return Scores(
        ids=np.array([f"s{i}" for i in range(len(labels))], dtype=object),
        labels=labels,
        logits=np.eye(classes, dtype=np.float32)[said],
        **{**known, **facts},
    )


def test_the_bounds_themselves_are_medium() -> None:
    assert level_of(np.array([0.79, 0.8, 0.85, 0.9, 0.91, np.nan])).tolist() == [0, 1, 1, 1, 2, -1]


def test_both_groupings_stand_in_the_table() -> None:
    # Class 0 is hard for the baseline and medium with contrast; nobody has another hard class.
    shown = difficulty([scores([7, 8, 9, 10])], [scores([9, 8, 10, 10])])
    assert [row[:6] for row in shown.rows] == [
        ("baseline's", "Hard", "1", "70.00", "90.00", "+20.00"),
        ("baseline's", "Medium", "2", "85.00", "90.00", "+5.00"),
        ("baseline's", "Easy", "1", "100.00", "100.00", "+0.00"),
        ("each arm's own", "Hard", "1 / 0", "70.00", "no class", "–"),
        ("each arm's own", "Medium", "2 / 2", "85.00", "85.00", "–"),
        ("each arm's own", "Easy", "1 / 2", "100.00", "100.00", "–"),
    ]


def test_seeds_are_averaged_before_classes_are_grouped() -> None:
    shown = difficulty([scores([6, 10]), scores([10, 10])], [scores([8, 10])])
    assert shown.rows[1][1:4] == ("Medium", "1", "80.00")
    assert "2 run(s) without and 1 with" in " ".join(shown.notes)


def test_the_papers_numbers_stand_beside_the_benchmark_alone() -> None:
    ntu = {"dataset": "ntu120", "protocol": "x-sub"}
    small = difficulty([scores([7, 8], **ntu)], [scores([7, 8], **ntu)])
    assert {row[6] for row in small.rows} == {"–"}
    sizes = {"per_class": 50_919 // 3}  # 3 x 16,973 sequences, as many as X-Sub has
    whole = difficulty([scores([7, 8, 9], **sizes, **ntu)], [scores([7, 8, 9], **sizes, **ntu)])
    assert whole.rows[0][6:] == ("65.9", "66.1")


def test_runs_of_different_kinds_are_refused() -> None:
    with pytest.raises(UserError, match="of agcn, ctrgcn"):
        difficulty([scores([7, 8])], [scores([7, 8], encoder="agcn")])
    with pytest.raises(UserError, match="protocol differ"):
        difficulty([scores([7, 8])], [scores([7, 8], protocol="x-sub")])


def test_the_command_prints_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, right in (("plain", [7, 9]), ("ours", [8, 9])):
        (tmp_path / name).mkdir()
        write_scores(tmp_path / name / "scores.parquet", scores(right))
    runs = ["--baseline", str(tmp_path / "plain"), "--contrast", str(tmp_path / "ours")]
    assert main(["levels", *runs, "--out", str(tmp_path / "out")]) == 0
    assert "+10.00" in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"levels.txt", "levels.md", "levels.tex"}
    assert main(["levels", "--baseline", str(tmp_path / "absent"), "--contrast", str(tmp_path / "ours")]) == 2
