"""Machines made of Linux namespaces: each with its own network address, processes, mounts and host name.

A switch (a bridge in a network namespace of its own) joins them; the host is not connected to it. The machines share
the host's file system, as the nodes of a cluster share their storage, except for ``/tmp/ray``, ``/dev/shm``,
``/etc/hosts`` and the home folder. Ray runs in them as it does on real machines. Needs root.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NETWORK = "10.77.0.{}"
PORT = 6380
SHARED_MEMORY = "1g"

RAY = (sys.executable, "-m", "ray.scripts.scripts")

LOCALHOST = "127.0.0.1 localhost\n::1 localhost\n"

_ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Before a command: it is killed when the test's process ends, in whatever way."""

_INIT = """
set -e
hostname {name}
ip link set lo up
mount --make-rprivate /
mount --bind {home}/ray /tmp/ray
mount --bind {home}/hosts /etc/hosts
mount -t tmpfs -o size={shared_memory} tmpfs /dev/shm
touch {home}/ready
exec sleep infinity
"""


def reason_to_skip() -> str | None:
    """Return why machines cannot be made here, None if they can."""
    if sys.platform != "linux":
        return "namespaces need Linux"
    if os.geteuid() != 0:
        return "namespaces with a network of their own need root"
    tried = subprocess.run(
        ["unshare", "-n", "-p", "-m", "-u", "-f", "sh", "-c", "ip link add type veth && hostname other"],
        capture_output=True,
        text=True,
    )
    return f"namespaces are not allowed here: {tried.stderr.strip()}" if tried.returncode else None


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {done.stderr.strip()}")


def _enter(pid: int, *namespaces: str) -> list[str]:
    return ["nsenter", "-t", str(pid), *(f"-{letter}" for letter in namespaces), "--"]


def _only_child(pid: int) -> int:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        children = Path(f"/proc/{pid}/task/{pid}/children")
        found = children.read_text().split() if children.exists() else _children_by_parent(pid)
        if found:
            return int(found[0])
        time.sleep(0.05)
    raise RuntimeError(f"process {pid} has no child")


def _children_by_parent(pid: int) -> list[str]:
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            if re.search(rf"^PPid:\t{pid}$", status.read_text(), re.MULTILINE):
                found.append(status.parent.name)
    return found


@dataclass
class Machine:
    """One machine that is up."""

    name: str
    address: str
    home: Path
    pid: int
    """Of its process 1, as seen from the host."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, *command: str) -> list[str]:
        """Return a command line of the host that runs a command on this machine."""
        return [*_enter(self.pid, "n", "p", "m", "u"), *command]

    def environ(self) -> dict[str, str]:
        """Return the environment of a login on this machine."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "STDCL_", "WANDB_", "GLOO_", "NCCL_"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"HOME": str(self.home), "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return {**kept, **own, **self.environment}

    def run(self, *command: str, check: bool = True, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        done = subprocess.run(
            self.command(*command),
            env=self.environ(),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {shlex.join(command)} ended with {done.returncode}:\n{done.stdout}")
        return done

    def start(self, *command: str, output: Path) -> subprocess.Popen[bytes]:
        """Start a command; its output goes to a file."""
        with output.open("ab") as stream:
            return subprocess.Popen(
                self.command(*command),
                env=self.environ(),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def off(self) -> None:
        """Switch the machine off: every process on it is killed at once."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Machines:
    """A switch and the machines on it.

    Args:
        folder: a short path for their files (Ray's sockets have long names below ``/tmp/ray``, which is bound here).
        hosts: text of each machine's ``/etc/hosts``; ``{name}`` and ``{address}`` are replaced.
        environment: variables of every login.
    """

    def __init__(self, folder: Path, hosts: str = LOCALHOST, environment: Mapping[str, str] | None = None) -> None:
        self.folder, self.hosts, self.environment = folder, hosts, dict(environment or {})
        self.all: list[Machine] = []
        self._outer: list[subprocess.Popen[bytes]] = []
        holder = subprocess.Popen([*_ENDS_WITH_US, "unshare", "-n", "sleep", "infinity"], start_new_session=True)
        self._switch = holder.pid
        self._outer.append(holder)
        own = Path("/proc/self/ns/net").readlink()
        deadline = time.monotonic() + 10
        while Path(f"/proc/{holder.pid}/ns/net").readlink() == own:
            if time.monotonic() > deadline:
                raise RuntimeError("no network namespace for the switch")
            time.sleep(0.02)
        for change in (["lo", "up"], ["br0", "up"]):
            if change[0] == "br0":
                _run(*_enter(self._switch, "n"), "ip", "link", "add", "br0", "type", "bridge")
            _run(*_enter(self._switch, "n"), "ip", "link", "set", *change)

    def up(self, name: str) -> Machine:
        """Switch a machine on."""
        number = len(self.all) + 1
        address = NETWORK.format(number)
        home = self.folder / name
        (home / "ray").mkdir(parents=True, exist_ok=True)
        Path("/tmp/ray").mkdir(exist_ok=True)
        (home / "hosts").write_text(self.hosts.format(name=name, address=address))
        ready = home / "ready"
        ready.unlink(missing_ok=True)
        script = _INIT.format(name=name, home=shlex.quote(str(home)), shared_memory=SHARED_MEMORY)
        outer = subprocess.Popen(
            [
                *_ENDS_WITH_US,
                "unshare",
                "-n",
                "-p",
                "-m",
                "-u",
                "-f",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                script,
            ],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._outer.append(outer)
        deadline = time.monotonic() + 20
        while not ready.exists():
            if outer.poll() is not None or time.monotonic() > deadline:
                assert outer.stderr is not None
                outer.kill()
                raise RuntimeError(f"{name} did not come up: {outer.stderr.read().decode()}")
            time.sleep(0.05)
        pid = _only_child(outer.pid)
        machine = Machine(name, address, home, pid, self.environment)
        self.all.append(machine)
        cable = f"v{os.getpid() % 100000}-{number}"
        _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _run("ip", "link", "set", cable, "netns", str(self._switch))
        _run(*_enter(self._switch, "n"), "ip", "link", "set", cable, "master", "br0", "up")
        inside = _enter(pid, "n")
        _run(*inside, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
        _run(*inside, "ip", "link", "set", "eth0", "up")
        _run(*inside, "ip", "route", "add", "default", "dev", "eth0")
        return machine

    def off(self) -> None:
        """Switch everything off."""
        for machine in self.all:
            machine.off()
        for process in self._outer:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


def start_ray(head: Machine, others: Sequence[Machine], cpus: int = 1, *options: str) -> None:
    """Start Ray as the documentation says: a head, and nodes that join it.

    Args:
        head, others: the machines.
        cpus: of each.
        options: of the head alone; they win over ``cpus``.
    """
    head.run(
        *RAY, "start", "--head", f"--node-ip-address={head.address}", f"--port={PORT}", *_common(cpus), *options
    )  # fmt: skip
    for machine in others:
        join(machine, head, cpus)


def join(machine: Machine, head: Machine, cpus: int = 1) -> None:
    """Start Ray on a machine as a node of a head."""
    machine.run(
        *RAY, "start", f"--address={head.address}:{PORT}", f"--node-ip-address={machine.address}", *_common(cpus)
    )  # fmt: skip


def _common(cpus: int) -> list[str]:
    return ["--num-cpus", str(cpus), "--object-store-memory", str(100 * 2**20), "--disable-usage-stats"]


def processes(machine: Machine) -> list[tuple[int, str]]:
    """(process id on the machine, command) of all that runs there."""
    lines = machine.run("ps", "-eo", "pid=,args=").stdout.splitlines()
    return [(int(pid), args) for pid, _, args in (line.strip().partition(" ") for line in lines)]


def kill(machine: Machine, mark: str) -> None:
    """SIGKILL everything on a machine that has ``mark`` in its command."""
    pids = [str(pid) for pid, args in processes(machine) if mark in args and "ps -eo" not in args]
    assert pids, f"nothing on {machine.name} has '{mark}' in its command"
    machine.run("kill", "-9", *pids)
