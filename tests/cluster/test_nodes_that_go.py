"""Nodes of a cluster whose head only coordinates: one is killed, one is drained, the head itself is killed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import MakeMachines
from tests.cluster.machines import PORT, RAY, Machine, kill, processes, start_ray
from tests.cluster.training import start_stub
from tests.ray.command import wait_until
from tests.ray.conftest import history

pytestmark = pytest.mark.cluster

NO_CPUS = ("--num-cpus", "0")


def _rows(storage: Path) -> list[dict[str, Any]]:
    folders = list((storage / "small" / "trials").glob("*"))
    return history(folders[0]) if folders and (folders[0] / "history.jsonl").is_file() else []


def _assert_whole(storage: Path, workers: int) -> None:
    rows = _rows(storage)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["value"] == 6 * sum(range(1, workers + 1)), "every epoch counted once, over all ranks"


def _with_rank(machines: list[Machine], mark: str) -> Machine:
    return next(machine for machine in machines if any(mark in args for _, args in processes(machine)))


def test_the_node_of_a_trial_is_killed(make_machines: MakeMachines, tmp_path: Path) -> None:
    """The trial of one worker runs on a node alone, not on the head, and goes on where there is room."""
    machines = make_machines()
    head, *others = [machines.up(name) for name in ("head", "one", "two")]
    start_ray(head, others, 1, *NO_CPUS)
    storage, output = tmp_path / "storage", tmp_path / "output.txt"
    process = start_stub(head, head, storage, {"workers": 1}, seconds=4.0)
    wait_until(lambda: len(_rows(storage)) >= 2, 180, "two epochs")
    node = _with_rank(others, "ResourceTrainable")
    kill(node, "raylet")
    assert process.wait(300) == 0, output.read_text()
    text = output.read_text()
    assert f"node {node.address} ({node.name}) is lost" in text
    _assert_whole(storage, 1)


def test_a_node_that_is_drained_is_left_before_its_end(make_machines: MakeMachines, tmp_path: Path) -> None:
    """As a cloud does with spot machines: Ray tells the ranks, and moving counts as no failure."""
    machines = make_machines()
    head, *others = [machines.up(name) for name in ("head", "one", "two", "three")]
    start_ray(head, others, 1, *NO_CPUS)
    storage, output = tmp_path / "storage", tmp_path / "output.txt"
    resources = {"workers": 2, "placement": "STRICT_SPREAD", "max_failures": 0, "retries": 0}
    process = start_stub(head, head, storage, resources, seconds=5.0)
    wait_until(lambda: len(_rows(storage)) >= 2, 180, "two epochs")
    node = _with_rank(others, "RayTrainWorker")
    listed = head.run("ray", "list", "nodes", "--format", "json", "--address", "http://127.0.0.1:8265", check=False)
    nodes = json.loads(listed.stdout[listed.stdout.index("[") :])
    number = next(each["node_id"] for each in nodes if each["node_ip"] == node.address)
    head.run(
        *RAY, "drain-node", "--address", f"{head.address}:{PORT}", "--node-id", number, "--reason",
        "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "taken away", "--deadline-remaining-seconds", "12",
    )  # fmt: skip
    assert process.wait(300) == 0, output.read_text()
    _assert_whole(storage, 2)
    assert not any("RayTrainWorker" in args for _, args in processes(node))


def test_a_head_that_is_killed_comes_back_with_its_nodes(make_machines: MakeMachines, tmp_path: Path) -> None:
    """``RAY_gcs_storage=rocksdb``: the nodes join the new head by themselves, and the same command continues."""
    state = tmp_path / "gcs"
    machines = make_machines(RAY_gcs_storage="rocksdb", RAY_gcs_storage_path=str(state))
    head, other = machines.up("head"), machines.up("one")
    start_ray(head, [other], 1, *NO_CPUS)
    storage, output = tmp_path / "storage", tmp_path / "output.txt"
    process = start_stub(head, head, storage, {"workers": 1}, seconds=4.0)
    wait_until(lambda: len(_rows(storage)) >= 2, 180, "two epochs")
    raylet = next(pid for pid, args in processes(other) if re.search(r"/raylet\b", args))
    for pid, args in processes(head):
        if "ray" in args and "ps -eo" not in args:
            head.run("kill", "-9", str(pid), check=False)
    process.wait(60)
    start_ray(head, [], 1, *NO_CPUS)
    process = start_stub(head, head, storage, {"workers": 1}, seconds=0.5)
    assert process.wait(300) == 0, output.read_text()
    _assert_whole(storage, 1)
    assert raylet in dict(processes(other)), "the node was not touched"
