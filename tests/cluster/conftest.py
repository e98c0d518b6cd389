"""A cluster of machines for one test."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.machines import LOCALHOST, Machines, reason_to_skip

MakeMachines = Callable[..., Machines]

ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Of every login on a test's machines."""


@pytest.fixture
def make_machines() -> Iterator[MakeMachines]:
    """Make a switch; what is on it is switched off at the end of the test."""
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    made: list[Machines] = []

    def make(hosts: str = LOCALHOST, **variables: str) -> Machines:
        folder = Path(tempfile.mkdtemp(prefix="stdcl-"))
        made.append(Machines(folder, hosts, {**ENVIRONMENT, **variables}))
        return made[-1]

    yield make
    for machines in made:
        machines.off()
        shutil.rmtree(machines.folder, ignore_errors=True)
