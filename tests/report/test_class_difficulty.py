"""Hard, medium and easy classes: how runs are paired, what is printed, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stdcl.cli import main
from stdcl.config.fingerprint import flat_scientific
from stdcl.errors import UserError
from stdcl.report.class_difficulty import difficulty
from stdcl.results.scores import Scores, write_scores
from stdcl.statistics.difficulty import by_difficulty
from tests.report.sweeps import published


def scores(right: list[int], *, per_class: int = 10, seed: int | None = 1, **facts: Any) -> Scores:
    """Scores with ``right[k]`` of ``per_class`` sequences of class k right: the first and the last ones in turn."""
    classes = len(right)
    labels = np.repeat(np.arange(classes), per_class)
    order = [index // 2 if index % 2 == 0 else per_class - 1 - index // 2 for index in range(per_class)]
    hit = [{*order[: right[k]]} for k in range(classes)]
    said = np.array([k if i in hit[k] else (k + 1) % classes for k in range(classes) for i in range(per_class)])
    known = {"dataset": "nw-ucla", "protocol": "cross-view", "data_hash": "h", "stream": "joint", "encoder": "ctrgcn"}
    return Scores(
        ids=np.array([f"s{i:06d}" for i in range(len(labels))], dtype=object),
        labels=labels,
        logits=np.eye(classes, dtype=np.float32)[said],
        seed=seed,
        **{**known, **facts},
    )


def shuffled(run: Scores) -> Scores:
    order = np.random.default_rng(0).permutation(len(run.ids))
    return replace(run, ids=run.ids[order], labels=run.labels[order], logits=run.logits[order])


def test_runs_are_paired_by_seed_whatever_their_order() -> None:
    baseline = [scores([7, 8, 9], seed=2), scores([8, 8, 10], seed=1), scores([0, 0, 0], seed=9)]
    contrast = [shuffled(scores([9, 9, 10], seed=1)), scores([8, 9, 9], seed=2)]
    shown = difficulty(baseline, contrast)
    answers = [
        np.stack([run.correct for run in arm])
        for arm in ([baseline[1], baseline[0]], [scores([9, 9, 10]), contrast[1]])
    ]
    expected = by_difficulty(answers[0], answers[1], baseline[0].labels)
    for row, level in zip(shown.rows, expected, strict=True):
        assert row[0] == level.name
        if level.difference is not None:
            assert row[4].split("\n")[0] == f"{100 * level.difference:+.2f}"
    notes = " ".join(shown.notes)
    assert "seeds 1, 2; not in both arms and left out: 9" in notes
    assert "from the other seeds" in notes


def test_one_seed_is_cross_fitted() -> None:
    shown = difficulty([scores([5, 10])], [scores([5, 10])])
    assert "the other half of its class's sequences" in " ".join(shown.notes)
    assert shown.rows[0][4].startswith("+0.00")


def test_subjects_are_clusters() -> None:
    subjects = np.arange(20) % 4
    runs = [replace(scores([5, 10], seed=seed), subjects=subjects) for seed in (1, 2)]
    assert "other people" in " ".join(difficulty(runs, runs).notes)


NTU = {"dataset": "ntu120", "protocol": "x-sub", "per_class": 50_919 // 3}  # three classes, as many as X-Sub has


def of_settings(overrides: Mapping[str, Any], **facts: Any) -> Scores:
    settings = flat_scientific(published("ntu120", "x-sub", "joint", "ctrgcn", overrides))
    arm = str(settings["contrast.strategy"])
    return scores([11_000, 15_000, 16_900], settings=settings, arm=arm, **{**NTU, **facts})


def test_the_papers_grouping_is_beside_the_papers_numbers_alone() -> None:
    plain, ours = of_settings({"contrast.strategy": "none"}), of_settings({})
    shown = difficulty([plain], [ours])
    assert shown.columns[-1] == "paper"
    assert [row[-1] for row in shown.rows] == ["–", "–", "–", "65.9 / 66.1", "85.8 / 87", "95.4 / 95.9"]
    assert all(row[4] == "–" for row in shown.rows[3:])
    short = difficulty([plain], [of_settings({"training.epochs": 61})])
    assert "training.epochs 61 (65)" in " ".join(short.notes)
    for other in ({"contrast.channel_reduction": 16}, {"contrast.temperature": 0.3}):
        rows = difficulty([plain], [of_settings(other)]).rows
        assert [row[-1] for row in rows[3:]] == ["65.9 / –", "85.8 / –", "95.4 / –"]
    assert "paper" not in difficulty([scores([7, 8])], [scores([7, 8])]).columns
    small = [
        replace(each, ids=each.ids[:-1], labels=each.labels[:-1], logits=each.logits[:-1]) for each in (plain, ours)
    ]
    assert "paper" not in difficulty(small[:1], small[1:]).columns
    unknown = [replace(each, settings={}) for each in (plain, ours)]
    assert "paper" not in difficulty(unknown[:1], unknown[1:]).columns


def test_runs_of_different_kinds_are_refused() -> None:
    with pytest.raises(UserError, match="of agcn, ctrgcn"):
        difficulty([scores([7, 8])], [scores([7, 8], encoder="agcn")])
    with pytest.raises(UserError, match="protocol differ"):
        difficulty([scores([7, 8])], [scores([7, 8], protocol="x-sub")])
    with pytest.raises(UserError, match="no seed in common"):
        difficulty([scores([7, 8], seed=1)], [scores([7, 8], seed=2)])
    with pytest.raises(UserError, match="--baseline has a seed twice"):
        difficulty([scores([7, 8]), scores([8, 8])], [scores([7, 8])])
    with pytest.raises(UserError, match="at least one run"):
        difficulty([], [scores([7, 8])])
    one = {"settings": {"contrast.strategy": "none", "training.epochs": 5, "training.seed": 1}}
    other = {"settings": {"contrast.strategy": "none", "training.epochs": 6, "training.seed": 2}}
    with pytest.raises(UserError, match=r"differ in more than the seed: training\.epochs 5 and 6"):
        difficulty([scores([7, 8], **one), scores([7, 8], seed=2, **other)], [scores([7, 8])])
    with pytest.raises(UserError, match="trained without contrast"):
        difficulty([scores([7, 8])], [scores([7, 8], arm="none")])


def test_runs_without_a_known_seed_are_paired_in_their_order() -> None:
    old = [scores([7, 8], seed=None), scores([8, 8], seed=None)]
    assert "paired in their order" in " ".join(difficulty(old, old).notes)
    with pytest.raises(UserError, match="2 and 1 runs; evaluate the runs again"):
        difficulty(old, old[:1])


def test_the_command_prints_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, right in (("plain", [7, 9]), ("ours", [8, 9])):
        (tmp_path / name).mkdir()
        write_scores(tmp_path / name / "scores.parquet", scores(right))
    runs = ["--baseline", str(tmp_path / "plain"), "--contrast", str(tmp_path / "ours")]
    assert main(["levels", *runs, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "Hard" in out
    assert max(map(len, out.splitlines()[:-1])) <= 80
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"levels.txt", "levels.md", "levels.tex"}
    assert main(["levels", "--baseline", str(tmp_path / "absent"), "--contrast", str(tmp_path / "ours")]) == 2
