"""NW-UCLA preparation: what is verified, what is said, and what is left on the disk."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stdcl.data.info import info, render_info
from stdcl.data.nw_ucla import raw as raw_ucla
from stdcl.data.nw_ucla.prepare import prepare_nw_ucla
from stdcl.data.nw_ucla.synthetic import write_corpus
from stdcl.data.prepare import (
    CORPUS_FILE,
    BadFilesError,
    ConsoleProgress,
)
from stdcl.data.store import SequenceStore
from stdcl.errors import UserError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "raw"
    write_corpus(folder, 60, 3)
    return folder


@pytest.fixture
def raw(corpus: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(corpus, tmp_path / "raw"))


def edit(**changes: object) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, **changes}))

    return spoil


def edit_skeletons(change: Callable[[list[list[list[object]]]], object]) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        content = json.loads(file.read_text())
        changed = change(content["skeletons"])
        content["skeletons"] = content["skeletons"] if changed is None else changed
        file.write_text(json.dumps(content))

    return spoil


def put(f: int, j: int, c: int, value: object) -> Callable[[Path], None]:
    def change(skeletons: list[list[list[object]]]) -> None:
        skeletons[f][j][c] = value

    return edit_skeletons(change)


def cut(share: float) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])


SPOILED: list[tuple[str, Callable[[Path], object], str]] = [
    ("empty", lambda f: f.write_bytes(b""), "empty"),
    ("blank", lambda f: f.write_bytes(b" \n"), "empty"),
    ("half", cut(0.5), "truncated"),
    ("last byte gone", lambda f: f.write_bytes(f.read_bytes()[:-1]), "truncated"),
    ("cut in a key", lambda f: f.write_bytes(b'{"file_na'), "truncated"),
    ("cut after a key", lambda f: f.write_bytes(b'{"file_name"'), "truncated"),
    ("cut in a number", lambda f: f.write_bytes(b'{"skeletons": [[[0.1, -'), "truncated"),
    ("cut in a word", lambda f: f.write_bytes(b'{"label": tru'), "truncated"),
    ("not JSON", lambda f: f.write_bytes(b"frames 3\n1 2 3\n"), "invalid JSON"),
    ("stray comma", lambda f: f.write_bytes(b'{"label": 1,, "a": 2}'), "invalid JSON"),
    ("two documents", lambda f: f.write_bytes(f.read_bytes() * 2), "invalid JSON"),
    ("binary", lambda f: f.write_bytes(b"\xff\xfe\x00\x01" * 9), "invalid JSON: not UTF-8"),
    ("deep", lambda f: f.write_bytes(b"[" * 100_000), "nested too deeply"),
    ("a list", lambda f: f.write_bytes(b"[1, 2]"), "object is needed, not a list"),
    ("no label", lambda f: f.write_text('{"file_name": "%s", "skeletons": []}' % f.stem), "there is no 'label'"),  # noqa: UP031
    ("other label", edit(label=9), "mislabelled: label is 9"),
    ("label as text", edit(label="1"), 'mislabelled: label is "1"'),
    ("label true", edit(label=True), "mislabelled: label is true"),
    ("other name", edit(file_name="a01_s01_e09_v01"), "mislabelled: file_name inside"),
    ("no frames", edit(skeletons=[]), "no frames"),
    ("skeletons null", edit(skeletons=None), "skeletons is null"),
    ("frame is a number", edit(skeletons=[3.0]), "frame 0 is a number"),
    ("19 joints", edit_skeletons(lambda x: x[4].__delitem__(-1)), "wrong joint count: frame 4 has 19 joints, not 20"),
    ("25 joints", edit_skeletons(lambda x: [[*f, *f[:5]] for f in x]), "frame 0 has 25 joints"),
    ("2 coordinates", edit_skeletons(lambda x: x[1][2].__delitem__(-1)), "frame 1, joint 2 has 2 numbers"),
    ("text", put(2, 3, 1, "0.5"), "non-numeric: frame 2, joint 3 holds text"),
    ("null", put(2, 3, 1, None), "non-numeric: frame 2, joint 3 holds null"),
    ("true", put(2, 3, 1, True), "non-numeric: frame 2, joint 3 holds true/false"),
    ("NaN", put(2, 3, 1, float("nan")), "not finite: frame 2, joint 3 (1 such"),
    ("infinity", put(0, 0, 0, float("-inf")), "not finite: frame 0, joint 0"),
    ("beyond float32", put(0, 1, 0, 1e39), "not finite: frame 0, joint 1"),
    ("beyond float64", put(0, 1, 0, 10**400), "not finite"),
    (
        "an empty frame",
        edit_skeletons(lambda x: [x[0], [[0.0, 0.0, 0.0]] * 20, *x[1:]]),
        "no body: all joints of frame 1",
    ),
    ("a folder", lambda f: (f.unlink(), f.mkdir()), "unreadable"),
]


def test_every_bad_file_is_reported_at_once_before_anything_is_written(raw: Path, tmp_path: Path) -> None:
    files = sorted(raw.glob("a*.json"))
    expected = {}
    for file, (_, spoil, says) in zip(files, SPOILED, strict=False):
        spoil(file)
        expected[file.name] = says
    shutil.copy(files[50], raw / "a01_s01_e00_v01 (1).json")
    expected["a01_s01_e00_v01 (1).json"] = "bad name"
    shutil.copy(files[51], raw / "a07_s01_e00_v01.json")
    expected["a07_s01_e00_v01.json"] = "no action a07"
    shutil.copy(files[51], raw / "a01_s01_e00_v04.json")
    expected["a01_s01_e00_v04.json"] = "no camera v04"
    copied = json.loads(files[50].read_text())
    files[52].write_text(json.dumps({**json.loads(files[52].read_text()), "skeletons": copied["skeletons"]}))
    expected[files[52].name] = f"duplicate: the same skeletons as {files[50].name}"
    shutil.copy(files[55], raw / f"{files[55].stem}.JSON")
    # The second of the two in order of their names.
    expected[files[55].name] = f"duplicate: a second file named {files[55].stem}"
    (raw / "README.txt").write_text("not data")
    (raw / ".DS_Store").write_text("not data")

    with pytest.raises(BadFilesError) as caught:
        prepare_nw_ucla(raw, tmp_path / "out")
    found = {name: reason for name, reason in caught.value.files if name != CORPUS_FILE}
    assert found.keys() == expected.keys()
    for name, says in expected.items():
        assert says in found[name], (name, found[name])
        assert f"  {name}: " in str(caught.value)
    assert len(caught.value.files) == len(expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


@pytest.mark.parametrize(("spoil", "says"), [case[1:] for case in SPOILED], ids=[case[0] for case in SPOILED])
def test_each_kind_of_damage_alone(raw: Path, spoil: Callable[[Path], object], says: str) -> None:
    file = raw / "a01_s01_e00_v01.json"
    spoil(file)
    with pytest.raises(raw_ucla.RawFileError) as caught:
        raw_ucla.read_file(file)
    assert says in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_named(raw: Path, tmp_path: Path) -> None:
    (raw / "a01_s01_e00_v01.json").chmod(0)
    with pytest.raises(BadFilesError, match="unreadable: Permission denied"):
        prepare_nw_ucla(raw, tmp_path / "out")


@pytest.mark.parametrize("at", [*range(0, 400, 7), -1, -2, -3, -5, -12, -17])
def test_every_truncation_is_recognised(corpus: Path, tmp_path: Path, at: int) -> None:
    name = "a05_s01_e00_v02.json"
    file = tmp_path / name
    file.write_bytes((corpus / name).read_bytes()[:at])
    with pytest.raises(raw_ucla.RawFileError, match=r"^(truncated|empty)"):
        raw_ucla.read_file(file)


def test_a_byte_order_mark_and_other_line_ends_are_read(corpus: Path, tmp_path: Path) -> None:
    name = "a05_s01_e00_v02.json"
    file = tmp_path / name
    content = json.loads((corpus / name).read_text())
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(content, indent=1).replace("\n", "\r\n").encode())
    np.testing.assert_array_equal(raw_ucla.read_file(file).values, raw_ucla.read_file(corpus / name).values)


def test_prepare_again_force_and_refusals(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = prepare_nw_ucla(raw, out)
    assert first.action == "written"
    assert "wrote the store" in first.render()
    stamp = (out / "sequences.arrow").stat().st_mtime_ns
    again = prepare_nw_ucla(raw, out)
    assert again.action == "unchanged"
    assert "nothing to do" in again.render()
    assert "cross-view: train 40 (4 to 4 a class), test 20 (2 to 2 a class)" in again.render()
    assert (out / "sequences.arrow").stat().st_mtime_ns == stamp

    other = tmp_path / "other"
    write_corpus(other, 60, 4)
    with pytest.raises(UserError, match=r"another store.*--force"):
        prepare_nw_ucla(other, out)
    assert SequenceStore.open(out).manifest == first.manifest
    replaced = prepare_nw_ucla(other, out, force=True)
    assert replaced.action == "replaced"
    assert (
        SequenceStore.open(out).manifest.content_hash == replaced.manifest.content_hash != first.manifest.content_hash
    )

    data = (out / "sequences.arrow").read_bytes()
    (out / "sequences.arrow").write_bytes(data[:1000])
    with pytest.raises(UserError, match=r"truncated\?(.|\n)*--force"):
        prepare_nw_ucla(other, out)
    assert prepare_nw_ucla(other, out, force=True).action == "replaced"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "out", "raw"]


def test_destination_with_other_content_is_never_replaced(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    prepare_nw_ucla(raw, out)
    shutil.rmtree(out)
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(UserError, match="holds other things"):
            prepare_nw_ucla(raw, out, force=force)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="a file is in the way"):
        prepare_nw_ucla(raw, tmp_path / "file")


def test_folders_that_are_not_raw_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        prepare_nw_ucla(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.json file here$"):
        prepare_nw_ucla(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "empty" / "all_sqe").mkdir()
    (tmp_path / "empty" / "all_sqe" / "a01_s01_e00_v01.json").write_text("")
    with pytest.raises(UserError, match=r"seem to be in .*all_sqe"):
        prepare_nw_ucla(tmp_path / "empty", tmp_path / "out")


def test_a_synthetic_corpus_must_be_whole(raw: Path, tmp_path: Path) -> None:
    (raw / "a05_s01_e00_v02.json").unlink()
    with pytest.raises(BadFilesError, match=r"class 4 \(sit down\) has 3 train files, 4 are expected"):
        prepare_nw_ucla(raw, tmp_path / "out")
    (raw / CORPUS_FILE).write_text("{}")
    with pytest.raises(UserError, match="corpus description"):
        prepare_nw_ucla(raw, tmp_path / "out")


def test_without_a_marker_the_official_files_are_expected(raw: Path, tmp_path: Path) -> None:
    (raw / CORPUS_FILE).unlink()
    official = raw_ucla.official_ids()
    here = {p.stem for p in raw.glob("a*.json")}
    with pytest.raises(BadFilesError) as caught:
        prepare_nw_ucla(raw, tmp_path / "out")
    missing = {Path(n).stem for n, reason in caught.value.files if reason.startswith("missing")}
    assert missing == official - here
    assert "--allow-partial" in str(caught.value)
    done = prepare_nw_ucla(raw, tmp_path / "out", allow_partial=True)
    assert done.manifest.num_sequences == 60
    assert any("not the complete dataset" in note for note in done.notes)
    assert done.manifest.source["corpus"] == "partial"


def test_bad_files_are_refused_with_allow_partial_too(raw: Path, tmp_path: Path) -> None:
    (raw / CORPUS_FILE).unlink()
    (raw / "a05_s01_e00_v02.json").write_text("")
    with pytest.raises(BadFilesError) as caught:
        prepare_nw_ucla(raw, tmp_path / "out", allow_partial=True)
    assert [name for name, _ in caught.value.files] == ["a05_s01_e00_v02.json"]


def test_file_that_changes_between_check_and_write(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "checking" and done == total:
            edit_skeletons(lambda x: x[:-1])(raw / "a05_s01_e00_v02.json")

    kept = prepare_nw_ucla(raw, tmp_path / "kept", progress=progress)  # what was checked is what is written
    edit_skeletons(lambda x: [*x, x[-1]])(raw / "a05_s01_e00_v02.json")
    monkeypatch.setattr("stdcl.data.nw_ucla.prepare._KEPT_BYTES", 10_000)
    assert prepare_nw_ucla(raw, tmp_path / "again").manifest.num_sequences == kept.manifest.num_sequences
    with pytest.raises(UserError, match="changed while"):
        prepare_nw_ucla(raw, tmp_path / "out", progress=progress)
    assert not (tmp_path / "out").exists()


def test_info_and_notes(raw: Path, tmp_path: Path) -> None:
    (raw / "notes.txt").write_text("x")
    done = prepare_nw_ucla(raw, tmp_path / "out")
    assert any("ignored 1" in note and "notes.txt" in note for note in done.notes)
    value = info(tmp_path / "out", verify=True)
    assert json.loads(json.dumps(value)) == value
    assert value["sequences"] == 60
    assert value["protocols"]["cross-view"]["train"] == {"sequences": 40, "per_class": [4] * 10}
    assert value["protocols"]["cross-view"]["test"] == {"sequences": 20, "per_class": [2] * 10}
    assert value["values_bytes"] == value["frames"]["total"] * 20 * 12
    assert value["source"]["made_by"]["seed"] == 3
    text = render_info(value)
    for part in (value["content_hash"], "sit down", "cross-view: train 40, test 20", "(verified)"):
        assert part in text


def test_progress_is_told_of_every_file(raw: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    prepare_nw_ucla(raw, tmp_path / "out", progress=lambda *state: seen.append(state))
    assert seen == [(stage, i, 60) for stage in ("checking", "writing") for i in range(1, 61)]


def test_console_progress() -> None:
    stream = io.StringIO()
    show = ConsoleProgress(stream)
    for i in range(1, 1001):
        show("checking", i, 1000)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[-1] == "checking: 1,000 of 1,000"


def test_the_real_dataset(nw_ucla_raw: Path, nw_ucla_store: Path) -> None:
    store = SequenceStore.open(nw_ucla_store)
    store.verify()
    counts = store.manifest.counts["cross-view"]
    assert list(counts["train"]) == [102, 102, 96, 124, 101, 102, 99, 99, 98, 97]
    assert list(counts["test"]) == [48, 50, 45, 49, 47, 47, 43, 43, 47, 45]
    assert np.bincount(store.column("view")).tolist() == [0, 516, 504, 464]
    assert sorted(store.ids) == sorted(raw_ucla.official_ids())
    frames = store.column("frames")
    train, test = store.column("view") < 3, store.column("view") == 3
    assert (frames[train].min(), np.median(frames[train]), frames[train].max()) == (1, 34, 201)
    assert (frames[test].min(), np.median(frames[test]), frames[test].max()) == (1, 25, 134)
    # The distributed files hold these copies; the summary says so, and nothing else is repeated.
    assert len(store.manifest.source["test_copies_of_train"]) == 95
    row = store.ids.index("a11_s02_e01_v01")
    content = json.loads((nw_ucla_raw / "a11_s02_e01_v01.json").read_text())
    np.testing.assert_array_equal(store.sequence(row)[:, 0], np.asarray(content["skeletons"], dtype=np.float32))
    assert store.labels[row] == content["label"] - 1


def test_only_the_datasets_own_copies_are_let_through(nw_ucla_raw: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("a02_s01_e00_v02", "a02_s01_e00_v03", "a03_s01_e00_v02", "a05_s01_e00_v02"):
        shutil.copy(nw_ucla_raw / f"{name}.json", raw)
    done = prepare_nw_ucla(raw, tmp_path / "out", allow_partial=True)
    assert done.manifest.source["test_copies_of_train"] == ["a02_s01_e00_v03"]
    content = json.loads((raw / "a02_s01_e00_v02.json").read_text())
    (raw / "a05_s01_e00_v02.json").write_text(json.dumps({**content, "file_name": "a05_s01_e00_v02", "label": 5}))
    with pytest.raises(BadFilesError) as caught:
        prepare_nw_ucla(raw, tmp_path / "other", allow_partial=True)
    reason = "duplicate: the same skeletons as a02_s01_e00_v02.json"
    assert caught.value.files == [("a05_s01_e00_v02.json", reason)]


def test_one_missing_file_of_the_real_dataset_is_named(nw_ucla_raw: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for file in nw_ucla_raw.glob("*.json"):
        if file.name != "a06_s03_e02_v03.json":
            (raw / file.name).symlink_to(file)
    with pytest.raises(BadFilesError) as caught:
        prepare_nw_ucla(raw, tmp_path / "out")
    assert caught.value.files == [("a06_s03_e02_v03.json", "missing: not in the folder")]
