"""Two machines whose host names do not lead to each other: ranks connect by the addresses that Ray knows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from stdcl.results.store import read_attempts
from tests.cluster.conftest import MakeMachines
from tests.cluster.machines import LOCALHOST, PORT, Machine, start_ray
from tests.ray.conftest import history
from tests.sweep.conftest import GRID

pytestmark = pytest.mark.cluster

DEBIAN = f"{LOCALHOST}127.0.1.1 {{name}}\n"
"""As Debian's installer writes it."""
UNRESOLVABLE = LOCALHOST

ACROSS = {"workers": 2, "placement": "STRICT_SPREAD"}


def _sweep(head: Machine, storage: Path, content: dict[str, Any], **stub: Any) -> tuple[int, str]:
    file = storage.parent / "sweep.yaml"
    file.write_text(yaml.safe_dump({**content, "resources": ACROSS}))
    environment = [f"RAY_ADDRESS={head.address}:{PORT}", *(f"{k}={v}" for k, v in stub.pop("environment", {}).items())]
    done = head.run(
        "env", *environment, sys.executable, "-m", "tests.ray.run", "sweep", str(file), str(storage), json.dumps(stub),
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.parametrize("hosts", [DEBIAN, UNRESOLVABLE], ids=["debian", "unresolvable"])
def test_a_trial_across_two_machines(make_machines: MakeMachines, tmp_path: Path, hosts: str) -> None:
    machines = make_machines(hosts)
    head, other = machines.up("one"), machines.up("two")
    start_ray(head, [other])
    storage = tmp_path / "storage"
    content = {**GRID, "grid": {"contrast.temperature": [0.5]}, "baseline": False, "seeds": [1]}
    code, text = _sweep(head, storage, content)
    assert code == 0, text
    (run_dir,) = (storage / "small" / "trials").iterdir()
    rows = history(run_dir)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["value"] == 6 * 3.0, "each epoch adds 1 + 2 over the two ranks"


def test_a_cluster_that_cannot_connect_ranks_stops_the_sweep(make_machines: MakeMachines, tmp_path: Path) -> None:
    """The interface that the user names is the wrong one: two trials fail, the other seven are kept."""
    machines = make_machines(DEBIAN)
    head, other = machines.up("one"), machines.up("two")
    start_ray(head, [other])
    storage = tmp_path / "storage"
    content = {**GRID, "seeds": [1, 2, 3]}
    code, text = _sweep(head, storage, content, environment={"GLOO_SOCKET_IFNAME": "lo"})
    assert code == 1, text
    assert text.count("FAILED: the workers cannot connect to each other (") == 2, text
    assert "stopped: the cluster could not start 2 trials in a row: the workers cannot connect" in text
    assert "\x1b" not in text
    assert "Traceback" not in text
    attempts = read_attempts(storage / "small" / "results")
    assert list(attempts["status"]) == ["failed"] * 2

    code, text = _sweep(head, storage, content)
    assert code == 0, text
    assert "9 trials, 0 finished before" in text
