"""What happens to the cluster while trainings run on it: nodes that go and come."""

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


class NodeWatch:
    """Tells which nodes were lost or have joined since it looked last.

    Args:
        nodes: Ray's list of nodes.
        clock: seconds.
    """

    def __init__(self, nodes: Nodes = _nodes, clock: Callable[[], float] = time.monotonic) -> None:
        self._nodes = nodes
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
        lost = [
            f"node {name} is lost; trainings on it start again from their last checkpoints where there is room"
            for node, name in before.items()
            if node not in now
        ]
        return lost + [f"node {name} has joined" for node, name in now.items() if node not in before]
