"""``ray_cluster/slurm.sbatch`` on Debian's Slurm: the wall time, the requeued job, and two jobs on one node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import MakeMachines
from tests.cluster.machines import LOCALHOST, NETWORK, ROOT, Machine
from tests.cluster.slurm import Slurm, reason_to_skip
from tests.cluster.training import epochs_of, tiny_sweep, write_sweep
from tests.ray.command import wait_until

pytestmark = pytest.mark.cluster

SCRIPT = str(ROOT / "ray_cluster" / "slurm.sbatch")
NAMES = ("one", "two")


@pytest.fixture
def machines(make_machines: MakeMachines) -> list[Machine]:
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    hosts = "".join(f"{NETWORK.format(number)} {name}\n" for number, name in enumerate(NAMES, 1))
    made = make_machines(LOCALHOST + hosts)
    return [made.up(name) for name in NAMES]


@pytest.fixture
def slurm(machines: list[Machine], tmp_path: Path) -> Iterator[Slurm]:
    found = Slurm(tmp_path / "slurm", machines, cpus=2)
    yield found
    found.end()


def _submit(slurm: Slurm, output: Path, storage: Path, file: Path, scratch: str, *options: str) -> str:
    said = slurm.run(
        "sbatch", "--gpus-per-node=0", "--cpus-per-task=1", f"--output={output}", *options, SCRIPT, str(file),
        environment={
            "STDCL_STORAGE": str(storage),
            "STDCL_DATA": str(storage.parent / "data"),
            "STDCL_RAY_SCRATCH": scratch,
        },
    )  # fmt: skip
    number = re.search(r"Submitted batch job (\d+)", said)
    assert number, said
    return number[1]


def test_the_wall_time_saves_requeues_and_goes_on(slurm: Slurm, machines: list[Machine], tmp_path: Path) -> None:
    storage, output = tmp_path / "storage", tmp_path / "log.txt"
    content = tiny_sweep(tmp_path / "data" / "corpus", 5000, workers=2, placement="STRICT_SPREAD")
    file = write_sweep(tmp_path / "mine.yaml", content)
    # Slurm counts in minutes, and may send the signal a minute early.
    job = _submit(slurm, output, storage, file, "/tmp/ray/a", "--time=3", "--signal=B:USR1@60")
    wait_until(output.is_file, 60, "the job")
    text = output.read_text
    wait_until(lambda: "wall time:" in text() or slurm.state(job) != "RUNNING", 240, "Slurm's signal")
    assert "2 of 2 node(s) in Ray at" in text(), text()
    assert "2 node(s) checked: versions, storage" in text(), text()
    assert f"wall time: stopping the trials at their checkpoints, then requeueing job {job}" in text(), text()
    wait_until(lambda: slurm.state(job) == "PENDING", 90, "the requeued job")
    assert "interrupted; to resume from the last checkpoints" in text()
    reached = len(epochs_of(storage))
    assert reached > 0
    assert all(machine.run("ls", "/tmp/ray").stdout == "" for machine in machines), "its folder is gone everywhere"

    slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=30", "StartTime=now")  # Slurm waits for two minutes
    wait_until(lambda: len(epochs_of(storage)) > reached + 2, 240, "further epochs")
    slurm.run("scancel", job)
    wait_until(lambda: slurm.state(job) == "CANCELLED", 90, "its end")
    assert epochs_of(storage) == list(range(1, len(epochs_of(storage)) + 1)), "each once"


def test_two_jobs_share_a_node(slurm: Slurm, tmp_path: Path) -> None:
    jobs = []
    for user in ("alice", "bob"):
        storage = tmp_path / user / "storage"
        file = write_sweep(tmp_path / user / "mine.yaml", tiny_sweep(tmp_path / user / "data" / "corpus", workers=1))
        output = tmp_path / user / "log.txt"
        jobs.append(
            (
                _submit(slurm, output, storage, file, f"/tmp/ray/{user}", "--nodes=1", "--nodelist=one", "--time=10"),
                storage,
            )
        )
    wait_until(lambda: [slurm.state(job) for job, _ in jobs] == ["RUNNING"] * 2, 60, "both run at the same time")
    wait_until(lambda: all(slurm.state(job) in ("COMPLETED", "FAILED") for job, _ in jobs), 400, "both ends")
    for job, storage in jobs:
        assert slurm.state(job) == "COMPLETED", (storage.parent / "log.txt").read_text()
        assert epochs_of(storage) == [1, 2, 3]
