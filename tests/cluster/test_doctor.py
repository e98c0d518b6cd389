"""``stdcl doctor`` on a machine of a cluster connects to it, and says it when the head is gone."""

from __future__ import annotations

import json
import sys

import pytest

from tests.cluster.conftest import MakeMachines
from tests.cluster.machines import PORT, Machine, start_ray

pytestmark = pytest.mark.cluster


def _cluster(machine: Machine, address: str) -> dict[str, str]:
    done = machine.run(
        "env", f"RAY_ADDRESS={address}", sys.executable, "-m", "stdcl", "doctor", "--json", check=False
    )  # fmt: skip
    assert "Traceback" not in done.stdout
    findings = json.loads(done.stdout[done.stdout.index("[") :])
    return next(each for each in findings if each["what"] == "cluster")


def test_the_doctor_connects(make_machines: MakeMachines) -> None:
    machines = make_machines()
    head, other = machines.up("one"), machines.up("two")
    start_ray(head, [other])
    address = f"{head.address}:{PORT}"
    for asked in (head, other):
        found = _cluster(asked, address)
        assert found["state"] == "ok", found
        assert "2 node(s), 2 CPU, 0 GPU" in found["text"]
    head.off()
    found = _cluster(other, address)
    assert found["state"] == "bad"
    assert f"RAY_ADDRESS={address}: no Ray cluster answers there" in found["text"]
