from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stdcl.errors import UserError
from stdcl.results.store import PACK_FROM, PACKED, TrialRow, append, next_attempt, pack, read, read_attempts, scan


def trial(key: str = "temperature=0.8,seed=1,0a1b2c3d", **changes: Any) -> TrialRow:
    values: dict[str, Any] = {
        "sweep": "ablation",
        "key": key,
        "attempt": 0,
        "status": "finished",
        "arm": "grid",
        "seed": 1,
        "parameters": {"contrast.temperature": 0.8},
        "dataset": "nw-ucla",
        "protocol": "cross-view",
        "evaluated_on": "test",
        "stream": "joint",
        "encoder": "ctrgcn",
        "strategy": "spatial+temporal",
        "accuracy": 440 / 464,
        "best_accuracy": 443 / 464,
        "best_epoch": 7,
        "num_test": 464,
        "epochs": 10,
        "started": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    }
    return TrialRow(**{**values, **changes})


def test_a_row_comes_back(tmp_path: Path) -> None:
    append(tmp_path / "results", trial())
    frame = read(tmp_path / "results")
    assert len(frame) == 1
    row = frame.iloc[0]
    assert row["accuracy"] == 440 / 464
    assert row["best_epoch"] == 7
    assert json.loads(row["parameters"]) == {"contrast.temperature": 0.8}
    assert row["parameter.contrast.temperature"] == 0.8
    assert row["started"] == datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert pd.isna(row["error"])


def test_an_empty_store_has_all_columns(tmp_path: Path) -> None:
    append(tmp_path / "one", trial())
    assert read(tmp_path / "none").empty
    assert set(read(tmp_path / "none").columns) == set(read(tmp_path / "one").columns) - {
        "parameter.contrast.temperature"
    }


def test_the_latest_attempt_speaks_for_a_trial_and_the_history_stays(tmp_path: Path) -> None:
    append(tmp_path, trial("a", status="failed", accuracy=None, error="lost a worker"))
    append(tmp_path, trial("b"))
    append(tmp_path, trial("a", attempt=1, status="interrupted", accuracy=None))
    append(tmp_path, trial("a", attempt=1))
    append(tmp_path, trial("a", attempt=1, status="interrupted", accuracy=None))  # written late
    frame = read(tmp_path).set_index("key")
    assert dict(frame["status"]) == {"a": "finished", "b": "finished"}
    assert frame.loc["a", "attempt"] == 1
    history = read_attempts(tmp_path)
    assert list(history["key"]) == ["a", "b", "a", "a", "a"]
    assert history["error"].iloc[0] == "lost a worker"
    assert next_attempt(tmp_path, "a") == 2
    assert next_attempt(tmp_path, "b") == 1
    assert next_attempt(tmp_path, "c") == 0


def test_parameters_of_different_trials_and_types_share_a_frame(tmp_path: Path) -> None:
    append(tmp_path, trial("a", parameters={"contrast.temperature": 1}))
    append(tmp_path, trial("b", parameters={"contrast.temperature": 0.5, "encoder.name": "hcn"}))
    append(tmp_path, trial("c", parameters={"training.milestones": (3, 5)}))
    append(tmp_path, trial("d", parameters={}, arm="baseline"))
    frame = read(tmp_path).set_index("key")
    assert list(frame["parameter.contrast.temperature"][:2]) == [1, 0.5]
    assert frame.loc["b", "parameter.encoder.name"] == "hcn"
    assert pd.isna(frame.loc["a", "parameter.encoder.name"])
    assert json.loads(frame.loc["c", "parameter.training.milestones"]) == [3, 5]


def test_strangers_read_the_parts_without_stdcl(tmp_path: Path) -> None:
    path = append(tmp_path, trial())
    assert path.name.startswith("part-")
    assert pq.read_table(path).to_pylist()[0]["status"] == "finished"


def test_damaged_files_are_named_all_at_once(tmp_path: Path) -> None:
    append(tmp_path, trial("a"))
    whole = append(tmp_path, trial("b")).read_bytes()
    (tmp_path / "part-x-truncated.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "part-y-empty.parquet").write_bytes(b"")
    pq.write_table(pa.table({"key": ["c"]}), tmp_path / "part-z-foreign.parquet")
    (tmp_path / ".part-unfinished.parquet.1234.part").write_bytes(b"")  # of an append under way
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    for name in ("part-x-truncated", "part-y-empty", "part-z-foreign"):
        assert name in str(caught.value)
    found = scan(tmp_path)
    assert sorted(found.rows["key"]) == ["a", "b"]
    assert len(found.damaged) == 3


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    table = pq.read_table(append(tmp_path, trial()))
    newer = table.replace_schema_metadata({b"stdcl.results.version": b"99"})
    pq.write_table(newer, tmp_path / "part-newer.parquet")
    with pytest.raises(UserError, match="schema 99"):
        read(tmp_path)


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    def write(worker: int) -> None:
        for attempt in range(10):
            append(tmp_path, trial(f"trial {worker}", attempt=attempt))

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_attempts(tmp_path)) == 40
    assert list(read(tmp_path)["attempt"]) == [9] * 4


def test_packed_rows_are_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file is read instead of hundreds; the small ones stay what counts."""
    store = tmp_path / "results"
    paths = [
        append(store, trial(f"trial={n}", parameters={"training.milestones": [n, 2 * n], "loss": n / 7}, more={"n": n}))
        for n in range(PACK_FROM - 1)
    ]
    pack(store)
    assert not (store / PACKED).exists(), "too few"
    paths.append(append(store, trial("failed", status="failed", accuracy=None, error="no", parameters={"name": "é"})))
    before = read_attempts(store)
    pack(store)
    paths.append(append(store, trial("later")))
    after = read_attempts(store)
    pd.testing.assert_frame_equal(after[after["key"] != "later"][before.columns], before)
    assert after["key"].iloc[-1] == "later"

    paths[0].unlink()
    assert "trial=0" not in set(read(store)["key"]), "a row whose file is gone is gone"
    opened: list[Path] = []
    real = pq.ParquetFile
    monkeypatch.setattr(
        "stdcl.results.store.pq.ParquetFile", lambda source, **how: opened.append(source) or real(source, **how)
    )
    assert len(read(store)) == PACK_FROM
    assert len(opened) == 2, "the copy and the row that is not in it"
    monkeypatch.undo()
    (store / PACKED).write_bytes(b"damaged")
    assert len(read(store)) == PACK_FROM, "the copy is nothing that anybody needs"


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        append(tmp_path, trial())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy": 94.8}, "between 0 and 1"),
        ({"accuracy": float("nan")}, "between 0 and 1"),
        ({"accuracy": None}, "no accuracy"),
        ({"num_test": 0}, "no num_test"),
        ({"status": "finishd"}, "did you mean 'finished'"),
        ({"arm": ""}, "belongs to an arm"),
        ({"attempt": -1}, "first is 0"),
        ({"started": datetime(2026, 1, 1)}, "time zone"),
    ],
)
def test_impossible_rows_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trial(**changes)
