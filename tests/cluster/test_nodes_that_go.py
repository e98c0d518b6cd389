"""Nodes of a cluster go while the real training runs on them: it goes on elsewhere and ends with the same bits.

The head only coordinates: it has no CPUs. ``tests/ray/hold`` stops the training at a place, where the node is taken.
One cluster serves all tests of this file; each makes the number of nodes that it needs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stdcl.training.checkpoint import Position
from tests.cluster.disturbed import NO_CPUS, Cluster, Disturbed
from tests.cluster.machines import PORT, RAY, Machine, kill, processes, reason_to_skip, start_ray
from tests.ray.command import wait_until

pytestmark = pytest.mark.cluster

STEPS_TO_THERE = 8
"""That are done when the training is held."""
TWO = {"workers": 2, "placement": "STRICT_SPREAD"}
ONE = {"workers": 1}
SLOW = 6.0
"""Seconds of a step; the node goes some three steps after that was announced."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.end()


def test_the_node_of_a_rank_loses_its_raylet_and_another_takes_over(cluster: Cluster, tmp_path: Path) -> None:
    cluster.have_nodes(3)
    run = Disturbed(cluster, tmp_path, TWO, rank=1)
    node = run.node_of(1)
    kill(node, "raylet")
    took = run.until(f"node {node.address} ({node.name}) is lost")
    print(f"the node is named {took:.0f} s after SIGKILL of its raylet")
    run.assert_as_undisturbed()
    cluster.lose(node)
    assert "workers lost, starting again from the last checkpoint" in run.text
    assert run.steps()[:STEPS_TO_THERE] == [(epoch, step) for epoch in (0, 1) for step in range(5)][:STEPS_TO_THERE]
    assert run.steps()[STEPS_TO_THERE] == (1, 2), "from the checkpoint after two steps of the second epoch"


def test_a_node_that_is_switched_off_comes_back(cluster: Cluster, tmp_path: Path) -> None:
    """Without it there is no room; it is switched off with all its processes, and its successor joins."""
    cluster.have_nodes(2)
    run = Disturbed(cluster, tmp_path, TWO, rank=1)
    node = run.node_of(1)
    cluster.lose(node)
    run.until(f"node {node.address} ({node.name}) is lost")
    run.until("waiting for 2 x 1 CPU (placement STRICT_SPREAD): ")
    successor = cluster.add()
    run.assert_as_undisturbed()
    assert f"node {successor.address} ({successor.name}) has joined" in run.text


def test_the_node_of_a_trials_own_process_is_switched_off(cluster: Cluster, tmp_path: Path) -> None:
    """A trial of one worker is a process on a node, not on the head, and goes on where there is room."""
    cluster.have_nodes(2)
    run = Disturbed(cluster, tmp_path, ONE)
    node = run.node_of(0)
    cluster.lose(node)
    run.until(f"node {node.address} ({node.name}) is lost")
    run.assert_as_undisturbed()
    assert "its process died; starting again from the last checkpoint" in run.text


@pytest.mark.parametrize("resources", [ONE, TWO], ids=["one worker", "two workers"])
def test_a_node_is_left_that_is_drained_and_then_goes(
    cluster: Cluster, tmp_path: Path, resources: dict[str, Any]
) -> None:
    """As a cloud does with spot machines: the training saves when it is announced, and moving counts as no failure."""
    cluster.have_nodes(3)
    numbers = {each["node_ip"]: each["node_id"] for each in cluster.listed()}
    run = Disturbed(cluster, tmp_path, {**resources, "max_failures": 0}, slow=SLOW, retries=0)
    wait_until(lambda: len(run.steps()) > 5, 240, "the second epoch")
    node = run.node_of(resources["workers"] - 1)
    begin = time.monotonic()
    cluster.head.run(
        *RAY, "drain-node", "--address", f"{cluster.head.address}:{PORT}", "--node-id", numbers[node.address],
        "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", "20",
    )  # fmt: skip
    inside = {Position(1, step).name for step in range(1, 5)}
    wait_until(lambda: bool(inside & set(run.checkpoints())), 60, "a checkpoint inside the epoch")
    print(f"saved {time.monotonic() - begin:.0f} s after Ray was told: {run.checkpoints()}")
    run.until(f"node {node.address} ({node.name}) is about to be taken away")
    time.sleep(max(0.0, begin + 21 - time.monotonic()))
    cluster.lose(node)
    run.assert_as_undisturbed()
    taken = [run.steps().count((1, step)) for step in range(5)]
    assert taken[:2] == [1, 1], f"it went on inside the epoch, from where it had saved: {taken}"


def test_a_head_that_is_killed_comes_back_with_its_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """``RAY_gcs_storage=rocksdb``: the nodes join the new head by themselves, and the same command continues."""
    cluster.have_nodes(2)
    run = Disturbed(cluster, tmp_path, TWO, rank=1)
    raylets = {node.name: _raylet(node) for node in cluster.nodes}
    cluster.head.run("sh", "-c", "kill -9 -1", check=False)  # everything on it, the driver too
    start_ray(cluster.head, [], 1, *NO_CPUS)
    run.again()
    run.assert_as_undisturbed()
    assert {node.name: _raylet(node) for node in cluster.nodes} == raylets, "the nodes were not touched"


def test_a_cluster_that_is_built_again_continues_the_job(cluster: Cluster, tmp_path: Path) -> None:
    """As KubeRay does for ``backoffLimit``: every pod is another, the volume and the entrypoint are the same."""
    cluster.have_nodes(2)
    run = Disturbed(cluster, tmp_path, TWO, rank=1, as_job=True)
    old = {machine.address for machine in (cluster.head, *cluster.nodes)}
    cluster.rebuild()
    cluster.have_nodes(2)
    assert not old & {machine.address for machine in (cluster.head, *cluster.nodes)}
    run.again()
    run.assert_as_undisturbed()
    assert run.steps()[STEPS_TO_THERE] == (1, 2), "from the checkpoint after two steps of the second epoch"


def _raylet(machine: Machine) -> int:
    return next(pid for pid, args in processes(machine) if re.search(r"/raylet\b", args))
