"""The commands of docs/clusters.md for machines of one's own, over SSH, with the files of ``ray_cluster/``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import ssh
from tests.cluster.conftest import MakeMachines
from tests.cluster.machines import RAY, ROOT, Machine
from tests.cluster.training import tiny_sweep, write_sweep
from tests.ray.command import wait_until

pytestmark = pytest.mark.cluster

FILE = "ray_cluster/onprem.yaml"
TOKEN = "ab" * 32


@pytest.fixture
def laptop(make_machines: MakeMachines, tmp_path: Path) -> Iterator[Machine]:
    """A machine that reaches three others by SSH, with ``ray_cluster/`` edited as its comments say."""
    reason = ssh.reason_to_skip()
    if reason:
        pytest.skip(reason)
    machines = make_machines(RAY_AUTH_TOKEN=TOKEN)
    laptop, head, *workers = [machines.up(name) for name in ("laptop", "head", "one", "two")]
    key = ssh.make_key(tmp_path)
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "ray_cluster", checkout / "ray_cluster")
    shutil.copytree(ROOT / "sweeps", checkout / "sweeps")
    ssh.build_wheel(ROOT, checkout / "dist")
    for machine in (laptop, head, *workers):
        ssh.own_home(machine)
    servers = [ssh.serve(machine, key) for machine in (head, *workers)]
    for machine in (head, *workers):
        ssh.make_environment(machine.home / "stdcl-venv")
        (machine.home / ".ray").mkdir()
        (machine.home / ".ray" / "auth_token").write_text(TOKEN)
    for name in ("storage", "data"):
        (tmp_path / name).mkdir()
    _edit(
        checkout / FILE,
        {
            r"head_ip: \S+": f"head_ip: {head.address}",
            r"worker_ips: \[.*\]": f"worker_ips: {ssh.addresses(workers)}",
            r"ssh_user: \S+": "ssh_user: root",
            r"ssh_private_key: \S+": f"ssh_private_key: {key}",
            r"ray start --": "ray start --num-cpus=1 --object-store-memory=100000000 --",
        },
    )
    _edit(
        checkout / "ray_cluster" / "env.sh",
        {r"STDCL_STORAGE=\S+": f"STDCL_STORAGE={tmp_path}/storage", r"STDCL_DATA=\S+": f"STDCL_DATA={tmp_path}/data"},
    )
    yield laptop
    for server in servers:
        server.terminate()
        server.wait()


def _edit(file: Path, changes: dict[str, str]) -> None:
    text = file.read_text()
    for pattern, new in changes.items():
        text, count = re.subn(pattern, new, text)
        assert count, f"{pattern} is not in {file.name}"
    file.write_text(text)


def _ray(laptop: Machine, checkout: Path, *words: str, check: bool = True) -> str:
    done = laptop.run("env", "-C", str(checkout), *RAY, *words, check=check)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout)


def test_the_documented_commands(laptop: Machine, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    content = tiny_sweep(tmp_path / "data" / "corpus", workers=2, placement="STRICT_SPREAD")
    write_sweep(checkout / "sweeps" / "mine.yaml", content)
    _ray(laptop, checkout, "up", "-y", FILE)
    wait_until(lambda: _nodes(laptop, checkout) == 3, 180, "the workers of the cluster file")

    text = _ray(laptop, checkout, "submit", FILE, "ray_cluster/submit.py", "mine", "--", "--set", "seeds=[1, 2]")
    assert "3 node(s) checked: versions, storage, 1 prepared dataset(s) equal" in text
    table = _ray(laptop, checkout, "exec", FILE, "stdcl table tiny")
    assert "0.5" in table
    assert len(list((tmp_path / "storage" / "tiny" / "trials").glob("*/result.json"))) == 2

    # A shipped sweep by its name, and without this connection: as a job of the head.
    shipped = ["quickstart", "--set", "seeds=[1]", "--set", "training.epochs=1", "--set", "baseline=false"]
    command = ["env", "-C", str(checkout), "stdcl", "submit", *shipped, "--cluster", FILE, "--follow"]
    text = laptop.run(*command).stdout
    assert "quickstart: submitted as job quickstart-1" in text
    assert "3 node(s) checked: versions, storage, 1 prepared dataset(s) equal" in text
    assert f"ray exec {FILE} 'COMMAND'" in text
    assert len(list((tmp_path / "storage" / "quickstart" / "trials").glob("*/result.json"))) == 1

    own = write_sweep(tmp_path / "elsewhere" / "own.yaml", {**content, "name": "own"})
    text = laptop.run("env", "-C", str(checkout), "stdcl", "submit", str(own), "--cluster", FILE).stdout
    assert "own: submitted as job own-1" in text
    wait_until(lambda: list((tmp_path / "storage" / "own" / "trials").glob("*/result.json")) != [], 180, "its result")
    _ray(laptop, checkout, "down", "-y", FILE)


def _nodes(laptop: Machine, checkout: Path) -> int:
    text = _ray(laptop, checkout, "exec", FILE, "ray status", check=False)
    active = text.partition("Active:")[2].partition("Pending:")[0]
    return sum(int(number) for number in re.findall(r"^\s*(\d+) \S+", active, re.MULTILINE))
