from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stdcl.errors import UserError
from stdcl.results.fusion import STREAMS, fuse, fuse_all, parse_weights, presets, render_fused
from stdcl.results.scores import (
    Scores,
    in_half_precision,
    per_class_accuracy,
    read_answers,
    read_runs,
    read_scores,
    write_scores,
)


def scores(stream: str = "joint", seed: int = 0, n: int = 40, classes: int = 5, **changes: Any) -> Scores:
    rng = np.random.default_rng(seed)
    made = Scores(
        ids=np.array([f"clip{i:03d}" for i in range(n)], dtype=object),
        labels=np.arange(n) % classes,
        logits=rng.standard_normal((n, classes)).astype(np.float32),
        dataset="nw-ucla",
        protocol="cross-view",
        data_hash="d1",
        stream=stream,
        encoder="ctrgcn",
        run=f"run-{stream}-{seed}",
    )
    return replace(made, **changes)


def shuffled(given: Scores, seed: int) -> Scores:
    order = np.random.default_rng(seed).permutation(len(given.ids))
    return replace(given, ids=given.ids[order], labels=given.labels[order], logits=given.logits[order])


def four() -> list[Scores]:
    return [scores(stream, seed) for seed, stream in enumerate(STREAMS)]


def test_scores_come_back(tmp_path: Path) -> None:
    made = scores()
    write_scores(tmp_path / "scores.parquet", made)
    back = read_scores(tmp_path / "scores.parquet")
    assert back.ids.tolist() == made.ids.tolist()
    np.testing.assert_array_equal(back.labels, made.labels)
    np.testing.assert_array_equal(back.logits, made.logits)
    assert back.accuracy == made.accuracy
    for name in ("dataset", "protocol", "evaluated_on", "data_hash", "stream", "encoder", "run"):
        assert getattr(back, name) == getattr(made, name)


def test_what_they_are_scores_of_comes_back_too(tmp_path: Path) -> None:
    facts = {
        "seed": 3, "arm": "spatial", "fingerprint": "f00d", "code_version": "1", "checkpoint": "epoch-0010",
        "classes": ("a", "b", "c", "d", "é|"), "settings": {"contrast.temperature": 0.5, "training.milestones": [1, 2]},
    }  # fmt: skip
    made = replace(scores(), **facts, subjects=np.arange(40) % 7, copies=np.arange(40) < 9)  # type: ignore[arg-type]
    write_scores(tmp_path / "s.parquet", in_half_precision(made))
    back = read_scores(tmp_path / "s.parquet")
    assert {name: getattr(back, name) for name in facts} == facts
    np.testing.assert_array_equal(back.subjects, made.subjects)  # type: ignore[arg-type]
    np.testing.assert_array_equal(back.copies, made.copies)  # type: ignore[arg-type]
    assert back.logits.dtype == np.float16
    kept = made.correct[9:]
    assert back.accuracy_without_copies == (kept.mean(), 31)
    assert replace(made, copies=None).accuracy_without_copies is None
    assert replace(made, copies=np.zeros(40, bool)).accuracy_without_copies is None


def test_scores_of_the_first_version_are_read(tmp_path: Path) -> None:
    made = scores()
    write_scores(tmp_path / "new.parquet", made)
    table = pq.read_table(tmp_path / "new.parquet")
    old = ("dataset", "protocol", "evaluated_on", "data_hash", "stream", "encoder", "run")
    metadata = {f"stdcl.scores.{name}": str(getattr(made, name)) for name in old} | {"stdcl.scores.version": "1"}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "old.parquet")
    back = read_scores(tmp_path / "old.parquet")
    assert (back.seed, back.arm, back.classes, back.subjects, back.settings) == (None, "", (), None, {})
    assert back.accuracy == made.accuracy


@given(st.integers(0, 10_000), st.sampled_from([1e-6, 1e-3, 1.0, 100.0]), st.sampled_from([0.0, 8.0, -300.0, 6e4]))
def test_half_precision_keeps_every_classification(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal((20, 4)) * scale + shift).astype(np.float32)
    made = scores(n=20, classes=4, logits=values)
    half = in_half_precision(made)
    np.testing.assert_array_equal(half.logits.argmax(axis=1), values.argmax(axis=1))
    step = np.spacing(np.abs(values).astype(np.float16)).astype(np.float64)
    if half.logits.dtype == np.float16:
        assert (np.abs(half.logits.astype(np.float64) - values) <= 1.5 * step + 1e-12).all()


def test_logits_beyond_half_precision_stay_as_they_are() -> None:
    made = scores(
        n=2, classes=2, logits=np.array([[7e4, 0.0], [65504.0, 65504.0]], np.float32), labels=np.array([0, 1])
    )
    assert in_half_precision(made).logits.dtype == np.float32
    tie = replace(made, logits=np.array([[65504.0, 65504.0], [0.0, 1.0]], np.float32))
    assert in_half_precision(tie).logits.dtype == np.float32  # no number above the highest is left


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(tmp_path: Path, odd: float) -> None:
    made = scores()
    logits = made.logits.copy()
    logits[3, 2] = odd
    with pytest.raises(ValueError, match="1 of 40 sequences have scores that are not finite: clip003"):
        replace(made, logits=logits)
    write_scores(tmp_path / "s.parquet", made)
    table = pq.read_table(tmp_path / "s.parquet")
    rows = table.column("logits").to_pylist()
    rows[3][2] = odd
    index = table.column_names.index("logits")
    pq.write_table(
        table.set_column(index, table.schema.field("logits"), pa.array(rows, table.schema.field("logits").type)),
        tmp_path / "s.parquet",
    )
    with pytest.raises(UserError, match="not finite: clip003"):
        read_scores(tmp_path / "s.parquet")


def test_files_that_are_not_scores_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    with pytest.raises(UserError, match="no such file"):
        read_scores(path)
    write_scores(path, scores())
    data = path.read_bytes()
    table = pq.read_table(path)
    path.write_bytes(data[:-20])
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read_scores(path)
    pq.write_table(table.drop_columns(["logits"]), path)
    with pytest.raises(UserError, match="logits"):
        read_scores(path)
    pq.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(UserError, match="dataset"):
        read_scores(path)
    metadata = {**table.schema.metadata, b"stdcl.scores.version": b"7"}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(UserError, match="schema 7"):
        read_scores(path)


def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    """Parquet checks its pages where it is asked to; without that, other answers came back and nobody knew."""
    path, given = tmp_path / "scores.parquet", scores(n=464, classes=10)
    write_scores(path, given)
    content, whole = path.read_bytes(), read_answers(path)
    noticed = 0
    for place in range(4, len(content) - 8, max(1, len(content) // 150)):
        flipped = bytearray(content)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        try:
            found = read_answers(path)
            read = read_scores(path)
        except UserError:
            noticed += 1
            continue
        assert np.array_equal(found.right, whole.right), place
        assert list(found.ids) == list(whole.ids), place
        assert np.array_equal(read.logits, given.logits), place
    assert noticed > 0


def test_scores_without_sense_are_refused() -> None:
    made = scores()
    with pytest.raises(ValueError, match="more than once: clip000"):
        replace(made, ids=np.array(["clip000"] * 40, dtype=object))
    with pytest.raises(ValueError, match="5 classes"):
        replace(made, labels=made.labels + 1)
    with pytest.raises(ValueError, match="expected"):
        replace(made, labels=made.labels[1:])
    with pytest.raises(ValueError, match="no sequence"):
        replace(made, ids=made.ids[:0], labels=made.labels[:0], logits=made.logits[:0])


def test_per_class_accuracy_against_a_loop() -> None:
    made = scores(n=23)
    for label in range(5):
        hits = [made.logits[i].argmax() == label for i in range(23) if made.labels[i] == label]
        assert per_class_accuracy(made)[label] == sum(hits) / len(hits)
    without = replace(made, logits=np.pad(made.logits, ((0, 0), (0, 1)), constant_values=-9))
    assert np.isnan(per_class_accuracy(without)[5])


def test_fusion_against_a_loop_over_sequences() -> None:
    runs = [shuffled(run, seed) for seed, run in enumerate(four())]
    weights = dict(zip(STREAMS, (0.6, 0.6, 0.4, 0.4), strict=True))
    hits = 0
    for i in range(40):
        total = np.zeros(5)
        for run in runs:
            total += weights[run.stream] * run.logits[run.ids.tolist().index(f"clip{i:03d}")].astype(float)
        hits += int(total.argmax() == i % 5)
    fused = fuse(runs)
    assert fused.name == "4S"
    assert fused.weights == (0.6, 0.6, 0.4, 0.4)
    assert fused.num_test == 40
    assert fused.accuracy == hits / 40
    np.testing.assert_array_equal(fused.per_class, per_class_accuracy(fused.scores))


def test_the_order_of_runs_and_of_sequences_does_not_matter() -> None:
    runs = four()
    expected = fuse(runs)
    for order in permutations(range(4)):
        again = fuse([shuffled(runs[index], index + 1) for index in order])
        assert [part.stream for part in again.parts] == list(STREAMS)
        assert again.weights == expected.weights
        assert again.accuracy == expected.accuracy
        np.testing.assert_array_equal(again.per_class, expected.per_class)


def test_numbers_belong_to_the_runs_as_given() -> None:
    joint, bone = scores("joint", 0), scores("bone", 1)
    one = fuse([joint, bone], (0.7, 0.3))
    two = fuse([bone, joint], (0.3, 0.7))
    assert one.weights == two.weights == (0.7, 0.3)
    assert one.accuracy == two.accuracy
    np.testing.assert_allclose(one.scores.logits, 0.7 * joint.logits.astype(float) + 0.3 * bone.logits.astype(float))


@given(st.integers(0, 1000), st.lists(st.floats(0.01, 10), min_size=2, max_size=2))
def test_fusing_a_run_with_itself_changes_nothing(seed: int, weights: list[float]) -> None:
    run = scores(seed=seed)
    assert fuse([run, shuffled(run, seed)], weights).accuracy == run.accuracy


def test_two_and_four_streams_at_once() -> None:
    two, whole = fuse_all(four())
    assert (two.name, two.weights) == ("2S", (1.0, 1.0))
    assert (whole.name, whole.weights) == ("4S", (0.6, 0.6, 0.4, 0.4))
    (only,) = fuse_all(four()[:2])
    assert only.name == "2S"
    (numbers,) = fuse_all(four(), (1, 1, 1, 1))
    assert numbers.name == "4S"
    (hyperformer,) = fuse_all(four(), "hyperformer")  # its project quotes no weights for two streams
    assert hyperformer.weights == (0.4, 0.4, 0.3, 0.2)


@pytest.mark.parametrize(
    ("preset", "dataset", "protocol", "expected"),
    [
        ("default", "ntu60", "x-sub", (0.6, 0.6, 0.4, 0.4)),
        ("ctr-gcn", "ntu60", "x-sub", (0.6, 0.6, 0.4, 0.4)),
        ("hyperformer", "ntu120", "x-set", (0.4, 0.6, 0.2, 0.2)),
        ("hyperformer", "nw-ucla", "cross-view", (0.4, 0.4, 0.3, 0.2)),
        ("infogcn", "ntu60", "x-sub", (1.5, 1.5, 1.0, 1.0)),
        ("fr-head", "ntu60", "x-sub", (2.0, 2.0, 1.0, 1.0)),
        ("fr-head", "ntu60", "x-view", (0.6, 0.6, 0.4, 0.4)),
        ("fr-head", "nw-ucla", "cross-view", (0.6, 0.6, 0.4, 0.4)),
        ("fr-head", "ntu120", "x-set", (0.6, 0.75, 0.3, 0.15)),
        ("gap", "ntu60", "x-sub", (0.8, 0.8, 0.2, 0.2)),
        ("pyskl", "ntu60", "x-sub", (2.0, 2.0, 1.0, 1.0)),
    ],
)
def test_presets(preset: str, dataset: str, protocol: str, expected: tuple[float, ...]) -> None:
    runs = [replace(run, dataset=dataset, protocol=protocol) for run in four()]
    assert fuse(runs, preset).weights == expected


def test_three_streams() -> None:
    assert fuse(four()[:3], "ctr-gcn").weights == (0.6, 0.6, 0.4)
    with pytest.raises(UserError, match=r"quoted for J\+B and J\+B\+JM\+BM, not for J\+B\+JM"):
        fuse(four()[:3])
    with pytest.raises(UserError, match="not for JM"):
        fuse(four()[2:])
    assert fuse([scores("relative-1", 1), scores("relative-2", 2)], "infogcn").weights == (1.5, 1.5)


def test_missing_sequences_are_named_on_both_sides() -> None:
    joint, bone = scores("joint"), scores("bone", 1)
    short = replace(bone, ids=bone.ids[:-2], labels=bone.labels[:-2], logits=bone.logits[:-2])
    renamed = replace(joint, ids=np.array(["other", *joint.ids[1:]], dtype=object))
    with pytest.raises(UserError) as caught:
        fuse([renamed, short])
    text = str(caught.value)
    assert "run-joint-0 lacks 1: clip000" in text
    assert "run-bone-1 lacks 3: clip038, clip039, other" in text


@pytest.mark.parametrize("fact", ["dataset", "protocol", "data_hash", "evaluated_on"])
def test_runs_of_different_data_are_refused(fact: str) -> None:
    with pytest.raises(UserError, match=r"do not belong together.*'elsewhere'"):
        fuse([scores("joint"), replace(scores("bone", 1), **{fact: "elsewhere"})])


def test_other_refusals() -> None:
    joint, bone = scores("joint"), scores("bone", 1)
    with pytest.raises(UserError, match="at least two"):
        fuse([joint])
    with pytest.raises(UserError, match="3 weights for 2 runs"):
        fuse([joint, bone], (1, 1, 1))
    for weights in ((0, 0), (float("nan"), 1)):
        with pytest.raises(UserError, match="finite"):
            fuse([joint, bone], weights)
    with pytest.raises(UserError, match=r"both run-joint-0 and run-joint-3 are of 'joint'"):
        fuse([joint, scores("joint", 3)])
    with pytest.raises(UserError, match="different labels for 40"):
        fuse([joint, replace(bone, labels=(bone.labels + 1) % 5)])
    with pytest.raises(UserError, match="has 5 classes, run-bone-0 has 6"):
        fuse([joint, scores("bone", classes=6, n=40)])
    with pytest.raises(UserError, match="did you mean 'pyskl'"):
        fuse([joint, bone], "pyskel")


def test_what_is_printed() -> None:
    runs = four()
    two, whole = fuse_all(runs[::-1])
    lines = render_fused((two, whole)).splitlines()
    assert lines[0] == "nw-ucla, cross-view, test: 40 sequences"
    assert [line.split()[0] for line in lines[2:8]] == ["J", "B", "JM", "BM", "2S", "4S"]
    assert f"{100 * runs[0].accuracy:.2f} %" in lines[2]
    assert f"{100 * whole.accuracy:.2f} %  0.6 J + 0.6 B + 0.4 JM + 0.4 BM" in lines[7]
    assert len(lines) == 10 + 5
    assert lines[10].endswith("of 8")


def test_weights_as_text() -> None:
    assert parse_weights("0.6,0.4") == (0.6, 0.4)
    assert parse_weights("1 1 .5, .5") == (1.0, 1.0, 0.5, 0.5)
    assert parse_weights("CTR-GCN") == "ctr-gcn"
    assert set(map(parse_weights, presets())) == set(presets())
    for text in ("", "ctrgcn-", "1,two"):
        with pytest.raises(UserError, match="allowed: numbers"):
            parse_weights(text)


def of_arm(stream: str, seed: int, **settings: Any) -> Scores:
    known = {"contrast.strategy": "spatial", "contrast.temperature": 0.5, "data.stream": stream, "data.repeat": 5}
    known |= {name.replace("__", "."): value for name, value in settings.items()}
    facts = {"settings": known, "arm": known["contrast.strategy"], "seed": seed, "fingerprint": f"{stream}{seed}"}
    return replace(scores(stream, seed), **facts)  # type: ignore[arg-type]


def test_streams_of_different_arms_are_not_mixed_unnoticed() -> None:
    joint = of_arm("joint", 1)
    assert fuse([joint, of_arm("bone", 1)]).remarks == ()
    plain = of_arm("bone", 1, contrast__strategy="none")
    with pytest.raises(UserError, match=r"contrast\.strategy: spatial \(run-joint-1\), none \(run-bone-1\)"):
        fuse([joint, plain])
    with pytest.raises(UserError, match=r"--mixed"):
        fuse_all([joint, of_arm("bone", 1, contrast__temperature=0.8)])
    mixed = fuse([joint, plain], mixed=True)
    assert mixed.scores.arm == ""
    assert any("different arms: contrast.strategy" in remark for remark in mixed.remarks)
    assert "! different arms: contrast.strategy" in render_fused([mixed])


def test_other_differences_between_runs_are_said() -> None:
    fused = fuse([of_arm("joint", 1), of_arm("bone", 2, data__repeat=1)])
    assert fused.scores.seed is None
    text = render_fused([fused])
    assert "! different seeds: 1 (run-joint-1), 2 (run-bone-2)" in text
    assert "! different settings: data.repeat: 5 (run-joint-1), 1 (run-bone-2)" in text
    old = fuse([of_arm("joint", 1), scores("bone", 1)])
    assert any("evaluate again" in remark for remark in old.remarks)


def test_a_training_is_fused_once() -> None:
    joint = of_arm("joint", 1)
    with pytest.raises(UserError, match="the same configuration and seed"):
        fuse([joint, joint], (1.0, 1.0))


def test_class_names_and_copies_are_printed() -> None:
    facts = {"classes": ("pick up", "b", "c", "d", "e"), "copies": np.arange(40) < 8}
    text = render_fused(fuse_all([replace(each, **facts) for each in four()]))  # type: ignore[arg-type]
    assert "  pick up  " in text
    assert "without the 8 copies of training sequences (32 left): J " in text
    numbers = next(line for line in text.splitlines() if line.startswith("without"))
    assert all(f"{name} " in numbers for name in ("J", "B", "JM", "BM", "2S", "4S"))


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_scores(tmp_path / name / "scores.parquet", scores(run="same"))
    runs = read_runs([tmp_path / "one", tmp_path / "two"])
    assert [run.run for run in runs] == [str(tmp_path / "one"), str(tmp_path / "two")]
