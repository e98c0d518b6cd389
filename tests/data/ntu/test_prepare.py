from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from stdcl.data.ntu import prepare as module
from stdcl.data.ntu.classes import ACTIONS, TWO_PERSONS
from stdcl.data.ntu.prepare import count_lines, list_raw, pieces_of, prepare_ntu
from stdcl.data.ntu.raw import missing_ids
from stdcl.data.ntu.synthetic import synth_ntu
from stdcl.data.store import SequenceStore, exclusive
from stdcl.errors import UserError
from stdcl.specs import SplitSpec
from tests.data.ntu.text import random_pose, skeleton_text

GOLDEN = Path(__file__).parents[2] / "golden" / "ntu_synth"


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_FILES", 8)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("corpus") / "raw"
    synth_ntu("ntu60", raw, sequences=60, seed=3, frames=(14, 24), workers=1)
    return raw


@pytest.fixture
def raw(corpus: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(corpus, tmp_path / "raw"))


def good_file(seed: int = 0) -> bytes:
    g = np.random.default_rng(seed)
    return skeleton_text([[("1", random_pose(g))] for _ in range(5)])


@pytest.mark.parametrize("dataset", ["ntu60", "ntu120"])
def test_store_equals_the_reference_after_padding(dataset: str, tmp_path: Path) -> None:
    report = prepare_ntu(dataset, [GOLDEN], tmp_path / "store", workers=1)  # type: ignore[arg-type]
    assert not report.bad
    store = SequenceStore.open(tmp_path / "store")
    assert store.manifest.absent_person == ("zeros" if dataset == "ntu60" else "copy")
    with np.load(GOLDEN / "expected.npz", allow_pickle=False) as want:
        assert sorted(store.ids) == sorted(want["names"].tolist())
        for row, clip in enumerate(store.ids):
            index = want["names"].tolist().index(clip)
            people = store.sequence(row)
            padded = np.zeros((want[dataset].shape[1], 2, 75), dtype=np.float32)
            padded[: len(people), : people.shape[1]] = people.reshape(len(people), -1, 75)
            if people.shape[1] == 1 and store.manifest.absent_person == "copy":
                padded[:, 1] = padded[:, 0]
            np.testing.assert_array_equal(padded.reshape(-1, 150), want[dataset][index], err_msg=clip)
            assert store.labels[row] == int(clip[-3:]) - 1
            assert store.column("subject")[row] == int(clip[9:12])
            assert store.column("view")[row] == int(clip[5:8])
            assert store.column("setup")[row] == int(clip[1:4])
            assert store.column("replication")[row] == int(clip[13:16])


def test_class_names() -> None:
    assert len(ACTIONS) == len(set(ACTIONS)) == 120
    assert (ACTIONS[0], ACTIONS[49], ACTIONS[59], ACTIONS[119]) == (
        "drink water", "punch", "walking apart", "rock-paper-scissors",
    )  # fmt: skip
    assert len(TWO_PERSONS) == 26


def test_workers_and_pieces_do_not_change_the_store(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepare_ntu("ntu60", [corpus], tmp_path / "one", workers=1)
    monkeypatch.setattr(module, "PIECE_FILES", 5)
    two = prepare_ntu("ntu60", [corpus], tmp_path / "two", workers=2)
    assert one.manifest.content_hash == two.manifest.content_hash
    assert (tmp_path / "one/sequences.arrow").read_bytes() == (tmp_path / "two/sequences.arrow").read_bytes()
    SequenceStore.open(tmp_path / "two").verify()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]


def test_keep_gaps_is_another_store(corpus: Path, tmp_path: Path) -> None:
    closed = prepare_ntu("ntu60", [corpus], tmp_path / "a", workers=1)
    kept = prepare_ntu("ntu60", [corpus], tmp_path / "b", workers=1, keep_gaps=True)
    assert closed.manifest.content_hash != kept.manifest.content_hash
    assert kept.manifest.source["keep_gaps"] is True


def test_every_bad_file_is_named_and_the_rest_unaffected(raw: Path, tmp_path: Path) -> None:
    clean = prepare_ntu("ntu60", [raw], tmp_path / "clean", workers=1)
    victims = sorted(raw.glob("*.skeleton"))[:7]
    text = victims[0].read_bytes()
    g = np.random.default_rng(0)
    victims[0].write_bytes(text[: len(text) // 2])
    victims[1].write_bytes(skeleton_text([[("1", random_pose(g)[:20])]]))
    lines = good_file().split(b"\n")
    lines[4] = b"nan " + lines[4].split(b" ", 1)[1]
    victims[2].write_bytes(b"\n".join(lines))
    victims[3].write_bytes(b'{"this": "is json"}')
    victims[4].write_bytes(b"")
    victims[5].write_bytes(b"2\n0\n0\n")
    lines = good_file().split(b"\n")
    lines[5] = b"left " + lines[5].split(b" ", 1)[1]
    victims[6].write_bytes(b"\n".join(lines))
    (raw / "S001_walking.skeleton").write_bytes(good_file())
    (raw / "notes.txt").write_text("mine")
    (raw / "deeper").mkdir()
    twin = sorted(raw.glob("S*A*.skeleton"))[-1].name
    (raw / "deeper" / twin).write_bytes(good_file())
    (raw / "S001C001P001R002A060.skeleton").mkdir()

    report = prepare_ntu("ntu60", [raw], tmp_path / "store", workers=1)
    reasons = {Path(file.path).relative_to(raw).as_posix(): file.reason for file in report.bad}
    assert reasons == {
        victims[0].name: "truncated",
        victims[1].name: "wrong joint count",
        victims[2].name: "not finite",
        victims[3].name: "not an NTU skeleton file",
        victims[4].name: "empty",
        victims[5].name: "no body in any frame",
        victims[6].name: "non-numeric",
        "S001_walking.skeleton": "bad name",
        "S001C001P001R002A060.skeleton": "unreadable",
        f"deeper/{twin}": "duplicate name",
    }
    said = report.render()
    for file in report.bad:
        assert f"{file.path}: {file.reason}" in said
    assert "notes.txt" in said
    assert report.manifest.num_sequences == clean.manifest.num_sequences - 7
    whole = SequenceStore.open(tmp_path / "clean")
    left = SequenceStore.open(tmp_path / "store")
    for row, clip in enumerate(left.ids):
        np.testing.assert_array_equal(left.sequence(row), whole.sequence(whole.ids.index(clip)))
    listed = json.loads((tmp_path / "store/manifest.json").read_text())["source"]["bad"]
    assert [file["path"] for file in listed] == [file.path for file in report.bad]


def test_strict_refuses_and_keeps_the_finished_parts(raw: Path, tmp_path: Path) -> None:
    victim = sorted(raw.glob("*.skeleton"))[10]
    good = victim.read_bytes()
    victim.write_bytes(b"hello")
    with pytest.raises(UserError, match="not an NTU skeleton file") as caught:
        prepare_ntu("ntu60", [raw], tmp_path / "store", workers=1, strict=True)
    assert str(victim) in str(caught.value)
    assert not (tmp_path / "store").exists()
    victim.write_bytes(good)
    report = prepare_ntu("ntu60", [raw], tmp_path / "store", workers=1, strict=True)
    assert 60 - 4 * 8 <= report.reused_files < 60
    assert not report.bad


def test_nothing_usable_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    with pytest.raises(UserError, match=r"no \.skeleton file"):
        prepare_ntu("ntu60", [raw], tmp_path / "store")
    (raw / "nturgbd_skeletons_s001_to_s017.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match="unpack"):
        prepare_ntu("ntu60", [raw], tmp_path / "store")
    (raw / "S001C001P001R001A001.skeleton").write_bytes(b"hello")
    with pytest.raises(UserError, match="no usable file"):
        prepare_ntu("ntu60", [raw], tmp_path / "store", workers=1)
    with pytest.raises(UserError, match="no such folder"):
        prepare_ntu("ntu60", [tmp_path / "absent"], tmp_path / "store")
    with pytest.raises(UserError, match="--workers 0"):
        prepare_ntu("ntu60", [raw], tmp_path / "store", workers=0)
    assert not (tmp_path / "store").exists()


def test_official_missing_list_and_the_other_dataset(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    missing60 = sorted(missing_ids("ntu60"))[0]
    only120 = "S018C001P041R001A061"
    for clip in ("S001C001P001R001A001", missing60, only120):
        (raw / f"{clip}.skeleton").write_bytes(good_file())
    report = prepare_ntu("ntu60", [raw], tmp_path / "60", workers=1)
    assert SequenceStore.open(tmp_path / "60").ids == ["S001C001P001R001A001"]
    assert (report.listing.listed_missing, report.listing.other_dataset) == (1, 1)
    assert "official list" in report.render()
    report = prepare_ntu("ntu120", [raw], tmp_path / "120", workers=1)
    assert SequenceStore.open(tmp_path / "120").ids == ["S001C001P001R001A001", only120]
    assert (report.listing.listed_missing, report.listing.other_dataset) == (1, 0)


def test_several_raw_folders(corpus: Path, raw: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "inner").mkdir(parents=True)
    for file in sorted(raw.glob("*.skeleton"))[::2]:
        file.rename(other / "inner" / file.name)
    (other / "loop").symlink_to(other)
    whole = prepare_ntu("ntu60", [corpus], tmp_path / "a", workers=1)
    parts = prepare_ntu("ntu60", [raw, other], tmp_path / "b", workers=1)
    assert whole.manifest.content_hash == parts.manifest.content_hash


def test_the_same_store_is_recognised_and_another_one_kept(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    assert prepare_ntu("ntu60", [raw], out, workers=1).action == "written"
    before = (out / "sequences.arrow").stat().st_mtime_ns
    again = prepare_ntu("ntu60", [raw], out, workers=1)
    assert again.action == "unchanged"
    assert "nothing to do" in again.render()
    for file in raw.iterdir():
        os.utime(file)
    assert prepare_ntu("ntu60", [raw], out, workers=1).action == "unchanged"
    assert (out / "sequences.arrow").stat().st_mtime_ns == before
    sorted(raw.glob("*.skeleton"))[0].write_bytes(good_file())
    with pytest.raises(UserError, match="--force"):
        prepare_ntu("ntu60", [raw], out, workers=1)
    assert prepare_ntu("ntu60", [raw], out, workers=1, force=True).action == "replaced"


def test_published_counts_are_compared(corpus: Path, tmp_path: Path) -> None:
    report = prepare_ntu("ntu60", [corpus], tmp_path / "store", workers=1)
    assert "this corpus is partial" in report.render()
    counts = report.manifest.counts["x-sub"]

    def said(num_train: int, num_test: int) -> str:
        published = {"x-sub": SplitSpec("subject", frozenset({1}), None, num_train, num_test)}
        return "\n".join(count_lines(report.manifest, published))

    assert "as published" in said(sum(counts["train"]), sum(counts["test"]))
    assert "MORE than" in said(1, 1)


def test_a_damaged_or_outdated_part_is_made_again(raw: Path, tmp_path: Path) -> None:
    files = sorted(raw.glob("*.skeleton"))
    files[30].write_bytes(b"bad")
    with pytest.raises(UserError):
        prepare_ntu("ntu60", [raw], tmp_path / "store", workers=1, strict=True)
    parts = sorted((tmp_path / ".store.prepare").glob("part-*.arrow"), key=lambda part: part.stat().st_size)[-2:]
    data = bytearray(parts[0].read_bytes())
    data[len(data) // 2] ^= 0xFF
    parts[0].write_bytes(data)
    parts[1].write_bytes(parts[1].read_bytes()[:100])
    report = prepare_ntu("ntu60", [raw], tmp_path / "store", workers=1)
    assert 0 < report.reused_files < 60 - 2
    fresh = prepare_ntu("ntu60", [raw], tmp_path / "fresh", workers=1)
    assert fresh.manifest.content_hash == report.manifest.content_hash


def test_a_file_taken_away_or_a_folder_moved_costs_one_piece(raw: Path, tmp_path: Path) -> None:
    files = list_raw("ntu60", [raw]).files
    pieces = pieces_of(files)
    assert [file for piece in pieces for file in piece] == list(files)
    assert len(pieces) > 3
    assert max(map(len, pieces)) <= 32
    for gone in (0, 17, 59):
        left = pieces_of([file for index, file in enumerate(files) if index != gone])
        assert len(set(pieces) - set(left)) <= 2
    victim = Path(files[20].path)
    victim.write_bytes(b"bad")
    with pytest.raises(UserError):
        prepare_ntu("ntu60", [raw], tmp_path / "store", workers=1, strict=True)
    victim.unlink()
    moved = raw.rename(tmp_path / "moved")
    report = prepare_ntu("ntu60", [moved], tmp_path / "store", workers=1, strict=True)
    assert report.reused_files >= 59 - 32
    assert report.manifest.num_sequences == 59


def test_two_preparations_of_one_store_do_not_meet(corpus: Path, tmp_path: Path) -> None:
    with exclusive(tmp_path / ".store.prepare"), pytest.raises(UserError, match="another process"):
        prepare_ntu("ntu60", [corpus], tmp_path / "store", workers=1)


def test_ignored_and_hidden_files(corpus: Path) -> None:
    listing = list_raw("ntu60", [corpus])
    assert len(listing.files) == 60
    assert listing.ignored == ()
    assert listing.corpus is not None
    assert listing.corpus["made_by"]["seed"] == 3


SCRIPT = """
import sys, time
from pathlib import Path
from typing import Any
from stdcl.data.ntu import prepare as module
module.PIECE_FILES = 8
def progress(stage, done, total):
    print(stage, done, flush=True)
    if done >= 24:
        time.sleep(600)
module.prepare_ntu("ntu60", [Path(sys.argv[1])], Path(sys.argv[2]), workers=2, progress=progress)
"""


def test_a_kill_leaves_no_process_and_no_store_and_costs_little(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(corpus), str(out)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line.split()[1]) >= 24:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not out.exists()
    deadline = time.monotonic() + 60
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.02)
    report = prepare_ntu("ntu60", [corpus], out, workers=2)
    assert report.reused_files >= 24
    assert "taken over from an interrupted run" in report.render()
    fresh = prepare_ntu("ntu60", [corpus], tmp_path / "fresh", workers=1)
    assert fresh.manifest.content_hash == report.manifest.content_hash
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fresh", "store"]


def test_a_full_disk_is_said_and_nothing_is_lost(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.atomic.staging_file
    calls = 0

    def full(final: Path) -> Any:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(final))
        return real(final)

    monkeypatch.setattr(module.atomic, "staging_file", full)
    with pytest.raises(UserError, match=r"No space left on device.*finished parts are kept"):
        prepare_ntu("ntu60", [corpus], tmp_path / "store", workers=1)
    monkeypatch.undo()
    monkeypatch.setattr(module, "PIECE_FILES", 8)
    assert not (tmp_path / "store").exists()
    assert prepare_ntu("ntu60", [corpus], tmp_path / "store", workers=1).reused_files > 0
