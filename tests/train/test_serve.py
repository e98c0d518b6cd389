"""Ranks that train one job after another end each as fresh ranks do, also after a job that they left early."""

from __future__ import annotations

import json
import pickle
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stdcl.config.load import resolve
from stdcl.launch import drain, worker
from stdcl.launch.worker import Job, session_loop
from stdcl.parallel.comm import Comm
from stdcl.training import checkpoint
from tests.distributed.ranks import run_on_ranks
from tests.ray.command import TIMES
from tests.train.conftest import small_raw

pytestmark = pytest.mark.slow

END = "end"
"""Of a job: a report of its number alone."""


class Desk:
    """Jobs that lie there from the beginning; the end of some is asked for after their first row."""

    def __init__(self, jobs: list[Job], dismissed: int) -> None:
        self._jobs, self._dismissed = jobs, dismissed
        self.reports: list[Any] = []

    def latest(self) -> int:
        return 0

    def job(self, number: int) -> bytes | None:
        return pickle.dumps(self._jobs[number]) if number < len(self._jobs) else None

    def dismissed(self) -> int:
        reports = [report.get("epoch", END) for report in self.reports]
        under_way = reports.count(END)
        return under_way if under_way == self._dismissed and reports[-1:] == [1] else -1


def serve(comm: Comm, raws: list[dict[str, Any]], folder: str, dismissed: int) -> list[Any]:
    """Serve on one rank without Ray; return what it reported."""
    import ray
    import ray.train
    import ray.train.torch

    jobs = [Job(resolve(raw, "test"), Path(folder) / str(number), "", "") for number, raw in enumerate(raws)]
    desk = Desk(jobs, dismissed)
    ray.train.report = desk.reports.append
    ray.train.torch.get_device = lambda: torch.device("cpu")
    ray.get_runtime_context = lambda: SimpleNamespace(gcs_address="", get_node_id=lambda: "")
    worker.leaving_when_cut_off = lambda head, limit: nullcontext()  # type: ignore[assignment]
    drain.INTERVAL = 0.0  # ranks look after every step
    worker.serve(desk, session_loop(), jobs[0].config.resources)  # type: ignore[arg-type]
    return [report.get("epoch", END) for report in desk.reports]


def _rows(run_dir: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run_dir / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def test_a_job_after_others_is_as_one_of_its_own(small_store: Path, tmp_path: Path) -> None:
    raws = [small_raw(small_store, training={"seed": seed}, resources={"workers": 2}) for seed in (1, 2, 3)]
    end = [1, 2, 3, END]
    for reports in run_on_ranks(serve, 2, raws, str(tmp_path / "together"), 1):
        assert reports == [*end, 1, END, *end], "the second was left after its first epoch"
    for number, raw in enumerate(raws):
        assert run_on_ranks(serve, 2, [raw], str(tmp_path / f"alone-{number}"), -1) == [end, end]
        alone = _rows(tmp_path / f"alone-{number}" / "0")
        assert _rows(tmp_path / "together" / str(number)) == (alone[:1] if number == 1 else alone)
    left = checkpoint.candidates(tmp_path / "together" / "1" / "checkpoints")
    assert left[0].name == checkpoint.Position(1).name, "what was done is saved"
    # Whoever goes on with it ends as if it had never been left.
    assert run_on_ranks(serve, 2, [raws[0], raws[1]], str(tmp_path / "together"), -1)[0][-3:] == [2, 3, END]
    assert _rows(tmp_path / "together" / "1") == _rows(tmp_path / "alone-1" / "0")
