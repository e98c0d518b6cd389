"""What happens to the cluster while trainings run on it: nodes that go, come, and are about to be taken away."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stdcl.launch.nodes import node_name

INTERVAL = 5.0
"""Seconds between two looks."""

Nodes = Callable[[], Sequence[Mapping[str, Any]]]


def _nodes() -> Sequence[Mapping[str, Any]]:
    import ray

    return list(ray.nodes())


def _draining() -> Mapping[str, int]:
    from stdcl.launch.ray_workarounds import draining_nodes

    return draining_nodes()


class NodeWatch:
    """Tells which nodes were lost, have joined, or are to be taken away since it looked last.

    Args:
        nodes: Ray's list of nodes.
        draining: ids of the nodes that are to be taken away, with the time of that in ms since 1970 (0: unknown).
        clock: seconds.
    """

    def __init__(
        self,
        nodes: Nodes = _nodes,
        draining: Callable[[], Mapping[str, int]] = _draining,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes = nodes
        self._draining = draining
        self._announced: set[str] = set()
        self._clock = clock
        self._next = clock()
        self._known: dict[str, str] | None = None

    def news(self) -> list[str]:
        """Return a sentence for each change; nothing before ``INTERVAL`` has passed."""
        if self._clock() < self._next:
            return []
        self._next = self._clock() + INTERVAL
        before = self._known
        now = {str(node["NodeID"]): node_name(node) for node in self._nodes() if node["Alive"]}
        self._known = now
        if before is None:
            return []
        leaving = [node for node in self._draining() if node in now and node not in self._announced]
        self._announced.update(leaving)
        announced = [
            f"node {now[node]} is about to be taken away; trainings on it save, and move when it goes"
            for node in leaving
        ]
        lost = [
            f"node {name} is lost; trainings on it start again from their last checkpoints where there is room"
            for node, name in before.items()
            if node not in now
        ]
        return announced + lost + [f"node {name} has joined" for node, name in now.items() if node not in before]
