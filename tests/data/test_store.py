"""The Arrow store: what is written is read back, mapped and not copied; whole or not at all; hash and manifest."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stdcl.data.protocols import SplitRule
from stdcl.data.store import DATA_FILE, MANIFEST_FILE, Manifest, Record, SequenceStore, StoreWriter, read_manifest
from stdcl.errors import UserError
from stdcl.skeleton import NTU


def records(count: int, seed: int = 0) -> list[Record]:
    rng = np.random.default_rng(seed)
    return [
        Record(
            id=f"clip{i:05d}",
            label=i % 3,
            values=rng.standard_normal((rng.integers(1, 40), 1 + i % 2, 25, 3)).astype(np.float32),
            subject=i % 7,
            view=1 + i % 3,
            setup=i % 5,
            replication=i % 2,
        )
        for i in range(count)
    ]


def write(
    out: Path, rows: list[Record], batch_bytes: int = 50_000, classes: tuple[str, ...] = ("a", "b", "c")
) -> Manifest:
    with StoreWriter(
        out,
        dataset="ntu60",
        skeleton=NTU,
        classes=classes,
        source={"made": "here"},
        max_persons=2,
        batch_bytes=batch_bytes,
    ) as writer:
        for record in rows:
            writer.add(record)
    return writer.manifest


def test_round_trip_without_copies(tmp_path: Path) -> None:
    rows = records(200)
    manifest = write(tmp_path / "s", rows)
    store = SequenceStore.open(tmp_path / "s")
    assert store.manifest == manifest
    assert len(store) == 200
    assert len(store.table.column("values").chunks) > 3
    lowest = pa.total_allocated_bytes()
    for row, record in enumerate(rows):
        values = store.sequence(row)
        np.testing.assert_array_equal(values, record.values)
        assert not values.flags.owndata
        assert not values.flags.writeable
        assert store.ids[row] == record.id
        for name in ("label", "subject", "view", "setup", "replication"):
            assert store.column(name)[row] == getattr(record, name)
        assert (store.column("frames")[row], store.column("persons")[row]) == record.values.shape[:2]
    assert pa.total_allocated_bytes() == lowest
    store.verify()
    assert [r.id for r in store.records()] == [r.id for r in rows]
    # The values are 8 bytes of offset a row above the floats themselves, and a little bookkeeping.
    floats = sum(r.values.nbytes for r in rows)
    assert manifest.data_bytes < floats * 1.05 + 100 * len(rows)


def test_any_arrow_reader_can_read_it(tmp_path: Path) -> None:
    rows = records(5)
    write(tmp_path / "s", rows)
    with pa.memory_map(str(tmp_path / "s" / DATA_FILE)) as source:
        table = pa.ipc.open_file(source).read_all()
    assert table.column_names[0] == "id"
    assert table.column("values")[3].as_py() == rows[3].values.reshape(-1).tolist()


def test_pickle_is_the_path_alone(tmp_path: Path) -> None:
    rows = records(50)
    write(tmp_path / "s", rows)
    sent = pickle.dumps(SequenceStore.open(tmp_path / "s"))
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).sequence(7), rows[7].values)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(12)), batch=st.integers(min_value=1, max_value=100_000))
def test_hash_knows_neither_order_nor_batches(
    order: list[int], batch: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = records(12)
    folder = tmp_path_factory.mktemp("order")
    one = write(folder / "a", rows)
    other = write(folder / "b", [rows[i] for i in order], batch)
    assert one.content_hash == other.content_hash
    assert one.counts == other.counts


def test_hash_knows_every_part_of_the_content(tmp_path: Path) -> None:
    rows = records(4)
    hashes = {write(tmp_path / "0", rows).content_hash}
    changed = rows[2].values.copy()
    changed[0, 0, 0, 0] = np.nextafter(changed[0, 0, 0, 0], np.float32(9))
    variants = [
        rows[2]._replace(values=changed),
        rows[2]._replace(id="other"),
        rows[2]._replace(label=0),
        rows[2]._replace(subject=9),
        rows[2]._replace(view=9),
        rows[2]._replace(setup=9),
        rows[2]._replace(replication=9),
        rows[2]._replace(values=rows[2].values.reshape(-1, 1, 25, 3)[:-1]),
    ]
    for i, variant in enumerate(variants, 1):
        hashes.add(write(tmp_path / str(i), [*rows[:2], variant, rows[3]]).content_hash)
    hashes.add(write(tmp_path / "classes", rows, classes=("a", "b", "x")).content_hash)
    assert len(hashes) == len(variants) + 2


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (Record("clip00000", 0, np.ones((2, 1, 25, 3), np.float32)), "written twice"),
        (Record("x", 3, np.ones((2, 1, 25, 3), np.float32)), "label 3; allowed are 0 to 2"),
        (Record("x", 0, np.ones((2, 1, 20, 3), np.float32)), "(frames, persons, 25, 3)"),
        (Record("x", 0, np.ones((2, 3, 25, 3), np.float32)), "1 to 2 persons"),
        (Record("x", 0, np.ones((0, 1, 25, 3), np.float32)), "0 frames"),
        (Record("x", 0, np.full((2, 1, 25, 3), np.nan, np.float32)), "not finite"),
    ],
)
def test_bad_records_are_refused_and_nothing_stays(tmp_path: Path, record: Record, says: str) -> None:
    with pytest.raises(UserError) as caught:
        write(tmp_path / "s", [*records(3), record])
    assert says in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_store_that_was_there(tmp_path: Path) -> None:
    before = write(tmp_path / "s", records(3))
    with pytest.raises(UserError):
        write(tmp_path / "s", [*records(5), records(1)[0]])
    assert SequenceStore.open(tmp_path / "s").manifest == before
    with pytest.raises(UserError, match="not one sequence"):
        write(tmp_path / "t", [])
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_kill_leaves_no_store_and_the_next_writer_clears_up(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        import numpy as np
        from stdcl.data.store import Record, StoreWriter
        from stdcl.skeleton import NTU
        about = dict(dataset="x", skeleton=NTU, classes=("a",), source={}, batch_bytes=1)
        with StoreWriter(Path(sys.argv[1]), **about) as writer:
            for i in range(50):
                writer.add(Record(str(i), 0, np.ones((9, 1, 25, 3), np.float32)))
            print("ready", flush=True)
            time.sleep(600)
        """
    )
    out = tmp_path / "s"
    with subprocess.Popen([sys.executable, "-c", script, str(out)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert not out.exists()
        with pytest.raises(UserError, match="another process"):
            write(out, records(2))
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = [p.name for p in tmp_path.iterdir()]
    assert any(name.endswith(".part") for name in left)
    write(out, records(2))
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_damage_is_named(tmp_path: Path) -> None:
    out = tmp_path / "s"
    with pytest.raises(UserError, match="no prepared data here"):
        SequenceStore.open(out)
    write(out, records(30))
    data = (out / DATA_FILE).read_bytes()

    (out / DATA_FILE).write_bytes(data[:-100])
    with pytest.raises(UserError, match="truncated"):
        SequenceStore.open(out)
    (out / DATA_FILE).write_bytes(b"\0" * len(data))
    with pytest.raises(UserError, match="not a readable Arrow file"):
        SequenceStore.open(out)
    (out / DATA_FILE).unlink()
    with pytest.raises(UserError, match="missing, though the manifest is there"):
        SequenceStore.open(out)

    at = data.index(records(30)[3].values.tobytes())
    (out / DATA_FILE).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(UserError, match="content hash"):
        SequenceStore.open(out).verify()

    manifest = (out / MANIFEST_FILE).read_text()
    for text, says in (
        (manifest.replace('"schema_version": 1', '"schema_version": 99'), "schema version 99"),
        (manifest[:50], "cannot be read as a manifest"),
        ("[]", "not a manifest"),
        ('{"schema_version": 1}', "incomplete manifest"),
    ):
        (out / MANIFEST_FILE).write_text(text)
        with pytest.raises(UserError, match=says):
            read_manifest(out)


def test_counts_and_custom_protocols(tmp_path: Path) -> None:
    with StoreWriter(
        tmp_path / "s",
        dataset="mine",
        skeleton=NTU,
        classes=("a", "b", "c"),
        source={},
        max_persons=2,
        protocols={"by-id": SplitRule("id", frozenset({"clip00000", "clip00004"}), frozenset({"clip00001"}))},
    ) as writer:
        for record in records(9):
            writer.add(record)
    manifest = read_manifest(tmp_path / "s")
    assert manifest == writer.manifest
    assert manifest.counts == {"by-id": {"train": [1, 1, 0], "test": [0, 1, 0]}}
    assert manifest.skeleton == NTU
    assert (manifest.num_sequences, manifest.num_frames) == (9, sum(len(r.values) for r in records(9)))


def test_memory_of_the_writer_is_bounded(tmp_path: Path) -> None:
    """A hundred times the buffer goes through; what Arrow holds never exceeds a few buffers."""
    highest = 0
    floor = pa.total_allocated_bytes()
    with StoreWriter(
        tmp_path / "s", dataset="x", skeleton=NTU, classes=("a",), source={}, batch_bytes=100_000
    ) as writer:
        for i in range(1000):
            writer.add(Record(str(i), 0, np.ones((33, 1, 25, 3), np.float32)))
            assert sum(v.nbytes for v in writer._pending) < 110_000
            highest = max(highest, pa.total_allocated_bytes() - floor)
    assert highest < 2_000_000
    assert writer.manifest.data_bytes > 9_000_000


def _private_bytes(path: str, connection: multiprocessing.connection.Connection) -> None:
    store = SequenceStore.open(path)
    total = sum(float(store.sequence(row).sum()) for row in range(len(store)))
    private = 0
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0] and ":" not in line.split(" ")[0]:
            inside = line.endswith(DATA_FILE)
        elif inside and line.startswith(("Private_Dirty", "Anonymous")):
            private += int(line.split()[1])
    connection.send((total, private))


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux' /proc/self/smaps")
def test_processes_share_the_pages(tmp_path: Path) -> None:
    write(tmp_path / "s", records(300))
    context = multiprocessing.get_context("spawn")
    got = []
    for _ in range(2):
        here, there = context.Pipe()
        process = context.Process(target=_private_bytes, args=(str(tmp_path / "s"), there))
        process.start()
        got.append(here.recv())
        process.join()
        process.close()
        here.close()
        there.close()
    assert got[0] == got[1]
    assert got[0][1] == 0


def test_opening_is_cheap_in_reads(tmp_path: Path) -> None:
    """Opening does not walk through the values: it is far quicker than reading them."""
    rows = records(3000)
    write(tmp_path / "s", rows, batch_bytes=1 << 20)
    SequenceStore.open(tmp_path / "s")
    begun = time.perf_counter()
    store = SequenceStore.open(tmp_path / "s")
    opened = time.perf_counter() - begun
    begun = time.perf_counter()
    store.verify()
    assert opened < time.perf_counter() - begun
