"""``stdcl submit`` from a machine outside the cluster: its check, the job, typed again, stopped, continued."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cluster.conftest import MakeMachines
from tests.cluster.machines import RAY, Machine, start_ray
from tests.cluster.training import epochs_of, stdcl, tiny_sweep, write_sweep
from tests.ray.command import wait_until

pytestmark = pytest.mark.cluster


def _cluster(make_machines: MakeMachines, tmp_path: Path) -> tuple[Machine, Machine, Machine, str]:
    machines = make_machines(STDCL_STORAGE=str(tmp_path / "storage"), STDCL_DATA=str(tmp_path / "data"))
    (tmp_path / "storage").mkdir()
    head, other, laptop = machines.up("one"), machines.up("two"), machines.up("laptop")
    start_ray(head, [other], 1, "--dashboard-host", head.address)
    return head, other, laptop, f"http://{head.address}:8265"


def test_a_sweep_is_submitted_once_stopped_and_continued(make_machines: MakeMachines, tmp_path: Path) -> None:
    _, _, laptop, url = _cluster(make_machines, tmp_path)
    content = tiny_sweep(tmp_path / "data" / "corpus", epochs=100, workers=2, placement="STRICT_SPREAD")
    file = str(write_sweep(tmp_path / "home" / "mine.yaml", content))
    storage = tmp_path / "storage"

    code, text = stdcl(laptop, "submit", file, "--address", url)
    assert code == 0, text
    assert "tiny: submitted as job tiny-1, from stdcl" in text
    assert re.search(r"2 node\(s\) checked: versions, storage, 1 prepared dataset\(s\) equal", text)
    assert f"ray job logs --address {url} --follow tiny-1" in text
    code, text = stdcl(laptop, "submit", file, "--address", url)
    assert code == 0, text
    assert "tiny: job tiny-1 of this sweep runs already, nothing was submitted" in text

    wait_until(lambda: len(epochs_of(storage)) >= 2, 180, "two epochs")
    laptop.run(*RAY, "job", "stop", "--address", url, "tiny-1")
    log = laptop.run(*RAY, "job", "logs", "--address", url, "tiny-1").stdout
    assert "interrupted; to resume from the last checkpoints" in log, log
    reached = len(epochs_of(storage))

    code, text = stdcl(laptop, "submit", file, "--address", url, "--follow")
    assert code == 0, text
    assert "tiny: submitted as job tiny-2" in text
    assert epochs_of(storage) == list(range(1, 101))
    assert reached < 100, "it was stopped before its end"


def test_what_differs_on_a_node_is_said_and_nothing_is_trained(make_machines: MakeMachines, tmp_path: Path) -> None:
    _, other, laptop, url = _cluster(make_machines, tmp_path)
    content = tiny_sweep(tmp_path / "data" / "corpus", workers=1)
    file = str(write_sweep(tmp_path / "home" / "mine.yaml", content))
    other.run("mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "storage"))
    (tmp_path / "data").mkdir()
    other.run("mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "data"))
    code, text = stdcl(laptop, "submit", file, "--address", url)
    assert code == 1, text
    assert "not started: 2 fault(s) on the nodes of this cluster" in text
    name = f"{other.address} (two)"
    assert f"{name}: STDCL_STORAGE: {tmp_path}/storage is not the driver's folder here" in text
    assert f"{name}: {tmp_path}/data/corpus: no prepared data here" in text
    assert not list((tmp_path / "storage").glob("tiny/trials/*/history.jsonl"))
    assert not list((tmp_path / "storage").glob(".nodes-*"))

    other.run("umount", str(tmp_path / "storage"))
    other.run("umount", str(tmp_path / "data"))
    code, text = stdcl(laptop, "submit", file, "--address", url, "--follow")
    assert code == 0, text
    assert epochs_of(tmp_path / "storage") == [1, 2, 3]


def test_a_cluster_that_cannot_be_reached_or_refuses_is_said(make_machines: MakeMachines, tmp_path: Path) -> None:
    head, _, laptop, url = _cluster(make_machines, tmp_path)
    file = str(write_sweep(tmp_path / "mine.yaml", tiny_sweep(tmp_path / "corpus", workers=1)))
    code, text = stdcl(laptop, "submit", file, "--address", url, environment={"RAY_AUTH_TOKEN": "0" * 64})
    assert code == 2, text
    assert f"error: {url}: the cluster refuses us. Its token must be in ~/.ray/auth_token" in text
    code, text = stdcl(laptop, "submit", file, "--address", f"http://{head.address}:8277")
    assert code == 2, text
    assert "no dashboard of Ray answers there" in text
    assert "Traceback" not in text
