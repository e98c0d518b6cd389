"""A cluster that others use, whose nodes go: trials wait, what happens is said, and cut-off ranks end by themselves."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from stdcl.results.store import read_attempts
from tests.cluster.conftest import MakeMachines
from tests.cluster.machines import PORT, RAY, join, kill, processes, start_ray
from tests.cluster.training import start_stub
from tests.ray.command import wait_until
from tests.ray.conftest import history

pytestmark = pytest.mark.cluster

HOLD = """
import ray, sys, time
ray.init(address=sys.argv[1], log_to_driver=False)
@ray.remote(num_cpus=2)
class Other:
    def hold(self): pass
other = Other.remote()
ray.get(other.hold.remote())
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_trials_wait_for_a_cluster_that_another_job_holds(
    make_machines: MakeMachines, tmp_path: Path, workers: int
) -> None:
    head = make_machines().up("one")
    start_ray(head, [], cpus=2)
    held = tmp_path / "other.txt"
    other = head.start(sys.executable, "-c", HOLD, f"{head.address}:{PORT}", "60", output=held)
    wait_until(lambda: "held" in held.read_text(), 120, "the other job")
    process = start_stub(head, head, tmp_path / "storage", {"workers": workers, "cpus_per_worker": 2.0 / workers})
    output = tmp_path / "output.txt"
    wait_until(lambda: "waiting for " in output.read_text(), 120, "a word about what the sweep waits for")
    assert f"{workers} x {2 / workers:g} CPU (placement PACK): 0 of 2 CPU free on the cluster" in output.read_text()
    assert other.poll() is None, "it was said while the other job held the cluster"
    assert process.wait(300) == 0, output.read_text()
    text = output.read_text()
    assert "FAILED" not in text
    assert text.count("waiting for ") == 1
    assert list(read_attempts(tmp_path / "storage" / "small" / "results")["status"]) == ["finished"]
    other.wait()


def test_a_lost_node_is_named_and_the_trial_goes_on_when_it_is_back(
    make_machines: MakeMachines, tmp_path: Path
) -> None:
    machines = make_machines()
    head, other = machines.up("one"), machines.up("two")
    start_ray(head, [other])
    storage, output = tmp_path / "storage", tmp_path / "output.txt"
    process = start_stub(head, head, storage, {"workers": 2, "placement": "STRICT_SPREAD"}, seconds=6.0)
    wait_until(lambda: "epoch 2/6" in output.read_text(), 180, "two epochs")
    kill(other, "raylet")
    lost = wait_until(lambda: "is lost" in output.read_text(), 120, "a word about the node")
    print(f"the node is named {lost:.0f} s after SIGKILL of its raylet")
    assert re.search(
        rf"node {re.escape(other.address)} \(two\) is lost; trainings on it start again", output.read_text()
    )
    other.run(*RAY, "stop", "--force", check=False)
    join(other, head)
    assert process.wait(300) == 0, output.read_text()
    text = output.read_text()
    assert f"node {other.address} (two) has joined" in text
    assert "workers lost, starting again from the last checkpoint" in text
    assert not re.search(r"state-dump|\.(cc|h):\d+", text), "sentences of Ray's own, none of its state"
    assert text.count("(raylet)") <= 4, text
    (run_dir,) = (storage / "small" / "trials").iterdir()
    assert [row["epoch"] for row in history(run_dir)] == [1, 2, 3, 4, 5, 6]


def test_ranks_that_are_cut_off_end_by_themselves(make_machines: MakeMachines, tmp_path: Path) -> None:
    """The cable of a node is pulled: its rank ends within the collective timeout and ten seconds."""
    machines = make_machines()
    head, other = machines.up("one"), machines.up("two")
    start_ray(head, [other])
    timeout = 15.0
    storage, output = tmp_path / "storage", tmp_path / "output.txt"
    process = start_stub(
        head, head, storage, {"workers": 2, "placement": "STRICT_SPREAD", "collective_timeout": timeout}, seconds=1.0
    )  # fmt: skip
    wait_until(lambda: "epoch 2/6" in output.read_text(), 180, "two epochs")
    ranks = [pid for pid, args in processes(other) if "RayTrainWorker" in args]
    assert len(ranks) == 1
    other.run("ip", "link", "set", "eth0", "down")
    begin = time.monotonic()
    try:
        took = wait_until(lambda: ranks[0] not in dict(processes(other)), 240, "the end of the cut-off rank")
    finally:
        process.kill()
        process.wait()
    print(f"the cut-off rank ended after {took:.0f} s ({time.monotonic() - begin:.0f})")
    assert took < timeout + 10
