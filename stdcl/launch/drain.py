"""A node that is about to be taken away (Ray drains it): trainings on it save at once, and lose no work to speak of.

They go on until the node goes; Ray then starts them elsewhere, which counts as no failure.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

import torch

from stdcl.parallel.comm import Comm

INTERVAL = 2.0
"""Seconds between two looks, about."""

MOST_STEPS = 1000
"""Between two looks, however fast steps are."""

VARIABLE = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
"""``0``: nobody looks. (Ray Train's own name for it; set on a laptop's own Ray.)"""


class Draining:
    """Says once that this node is to be taken away.

    Args:
        nodes: ids of the nodes that are being drained.
        own: id of this node.
        clock: seconds.
    """

    def __init__(
        self, nodes: Callable[[], Mapping[str, int]], own: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._nodes, self._own, self._clock = nodes, own, clock
        self._next = clock()
        self._said = False

    def __call__(self) -> bool:
        """Look, if the last look was a while ago; True the first time that this node is being drained."""
        if self._said or self._clock() < self._next:
            return False
        self._next = self._clock() + INTERVAL
        self._said = self._own in self._nodes()
        return self._said


class Together:
    """Gives every rank the same answer, by one small collective every ``INTERVAL`` seconds or so.

    Args:
        asked: this rank's own answer.
        comm: the ranks; each must call this equally often.
        device: where collectives take their tensors.
        clock: seconds.
    """

    def __init__(
        self, asked: Callable[[], bool], comm: Comm, device: torch.device, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._asked, self._comm, self._device, self._clock = asked, comm, device, clock
        self._steps, self._due, self._since = 0, 1, clock()

    def __call__(self) -> bool:
        """Return whether any rank was asked; False between two looks. To be called after each step."""
        self._steps += 1
        if self._steps < self._due:
            return False
        now = self._clock()
        own = [float(self._asked()), (now - self._since) / self._steps]
        asked, slowest = self._comm.all_reduce(torch.tensor(own, device=self._device), "max").tolist()
        # From what all ranks know, so that they look again after the same step.
        self._due = max(1, min(MOST_STEPS, int(INTERVAL / max(slowest, 1e-6))))
        self._steps, self._since = 0, now
        return bool(asked)


def taken_away(comm: Comm, device: torch.device) -> Callable[[], bool] | None:
    """Return what to ask after each step whether to save because a rank's node goes; None where nobody drains nodes."""
    import ray

    if not ray.is_initialized() or os.environ.get(VARIABLE) == "0":
        return None
    from stdcl.launch.ray_workarounds import draining_nodes

    own = Draining(draining_nodes, ray.get_runtime_context().get_node_id())
    return own if comm.size == 1 else Together(own, comm, device)
