"""``ray_cluster/slurm.sbatch`` on Debian's Slurm: the wall time, the requeued job, and two users on one node."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.accounts import add_accounts
from tests.cluster.conftest import MakeMachines
from tests.cluster.machines import LOCALHOST, NETWORK, ROOT, Machine
from tests.cluster.slurm import Slurm, reason_to_skip
from tests.cluster.training import NAME, epochs_of, tiny_sweep, write_sweep
from tests.ray.command import wait_until

pytestmark = pytest.mark.cluster

SCRIPT = str(ROOT / "ray_cluster" / "slurm.sbatch")
NAMES = ("one", "two")
USERS = {"alice": 2001, "bob": 2002}
"""Account -> its number."""


@pytest.fixture
def machines(make_machines: MakeMachines) -> list[Machine]:
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    hosts = "".join(f"{NETWORK.format(number)} {name}\n" for number, name in enumerate(NAMES, 1))
    made = make_machines(LOCALHOST + hosts)
    up = [made.up(name) for name in NAMES]
    for machine in up:
        add_accounts(machine, USERS)
    return up


@pytest.fixture
def slurm(machines: list[Machine]) -> Iterator[Slurm]:
    found = Slurm(machines[0].home.parent / "slurm", machines, cpus=2)
    yield found
    found.end()


def _submit(slurm: Slurm, output: Path, storage: Path, file: Path, scratch: str, *options: str) -> str:
    said = slurm.run(
        "sbatch", "--gpus-per-node=0", "--cpus-per-task=1", f"--output={output}", *options, SCRIPT, str(file),
        environment={
            "STDCL_STORAGE": str(storage),
            "STDCL_DATA": str(storage.parent / "data"),
            "STDCL_RAY_SCRATCH": scratch,
            "HOME": str(storage.parent),
        },
    )  # fmt: skip
    number = re.search(r"Submitted batch job (\d+)", said)
    assert number, said
    return number[1]


def test_the_wall_time_saves_requeues_and_goes_on(slurm: Slurm, machines: list[Machine], tmp_path: Path) -> None:
    storage, output = tmp_path / "storage", tmp_path / "log.txt"
    content = tiny_sweep(tmp_path / "data" / "corpus", 5000, workers=2, placement="STRICT_SPREAD")
    file = write_sweep(tmp_path / "mine.yaml", content)
    job = _submit(slurm, output, storage, file, "/tmp/ray/a", "--time=30", "--signal=B:USR1@60")
    wait_until(output.is_file, 60, "the job")
    text = output.read_text
    wait_until(lambda: len(epochs_of(storage)) > 0 or slurm.state(job) != "RUNNING", 300, "the first epoch")
    # Slurm counts in minutes. The signal is its own, a minute before the end that it is told here.
    slurm.run("scontrol", "update", f"JobId={job}", f"TimeLimit={slurm.minutes(job) + 2}")
    wait_until(lambda: "wall time:" in text() or slurm.state(job) != "RUNNING", 240, "Slurm's signal")
    assert "2 of 2 node(s) in Ray at" in text(), text()
    assert "2 node(s) checked: versions, storage" in text(), text()
    assert f"wall time: stopping the trials at their checkpoints, then requeueing job {job}" in text(), text()
    wait_until(lambda: slurm.state(job) == "PENDING", 90, "the requeued job")
    assert "interrupted; to resume from the last checkpoints" in text()
    reached = len(epochs_of(storage))
    assert reached > 0
    assert all(machine.run("ls", "/tmp/ray").stdout == "" for machine in machines), "its folder is gone everywhere"

    # By itself Slurm lets a requeued job wait for two minutes.
    slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=30", "StartTime=now+10")
    with slurm.explained(job, output):
        wait_until(lambda: len(epochs_of(storage)) > reached + 2, 420, "further epochs")
    slurm.run("scancel", job)
    wait_until(lambda: slurm.state(job) == "CANCELLED", 90, "its end")
    assert epochs_of(storage) == list(range(1, len(epochs_of(storage)) + 1)), "each once"


def test_jobs_of_two_users_share_a_node(slurm: Slurm, machines: list[Machine]) -> None:
    """Each has ports, a folder and a token of its own; neither Ray is the other's."""
    jobs = {}
    for user, number in USERS.items():
        home = machines[0].home / user
        file = write_sweep(home / "mine.yaml", tiny_sweep(home / "data" / "corpus", workers=1))
        os.chown(file, number, number)
        (home / "data").mkdir()
        os.chown(home / "data", number, number)
        options = (f"--uid={user}", f"--gid={number}", f"--chdir={home}", "--nodes=1", "--nodelist=one", "--time=10")
        jobs[user] = _submit(slurm, home / "log.txt", home / "storage", file, f"/tmp/ray/{user}", *options)
    wait_until(lambda: [slurm.state(job) for job in jobs.values()] == ["RUNNING"] * 2, 60, "both run at the same time")
    wait_until(lambda: all(slurm.state(job) in ("COMPLETED", "FAILED") for job in jobs.values()), 400, "both ends")
    for user, job in jobs.items():
        home = machines[0].home / user
        text = (home / "log.txt").read_text()
        assert slurm.state(job) == "COMPLETED", text
        assert "1 of 1 node(s) in Ray at" in text, "not the other's"
        assert epochs_of(home / "storage") == [1, 2, 3]
        assert (home / "storage" / NAME).stat().st_uid == USERS[user]
