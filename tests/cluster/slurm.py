"""Debian's Slurm over the test's machines: one controller, a ``slurmd`` on each, accounts through one ``munged``."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.machines import Machine
from tests.ray.command import wait_until

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "scontrol")


def reason_to_skip() -> str | None:
    """Return why Slurm cannot be had here, None if it can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"{', '.join(missing)} missing: apt-get install slurm-wlm munge" if missing else None


class Slurm:
    """A Slurm cluster.

    Args:
        folder: for its files.
        machines: the nodes; the controller runs on the first.
        cpus: of each.
    """

    def __init__(self, folder: Path, machines: Sequence[Machine], cpus: int = 1) -> None:
        self.folder, self.machines = folder, list(machines)
        self._started: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self._munge()
        conf = folder / "slurm.conf"
        conf.write_text(self._conf(cpus))
        self.environment = {"SLURM_CONF": str(conf)}
        head = machines[0]
        self._start(head, "slurmctld", "-D", "-i")
        for machine in machines:
            self._start(machine, "slurmd", "-D", "-N", machine.name)
        wait_until(lambda: self.run("sinfo", "-h", "-t", "idle", "-o", "%D", check=False).strip() == str(len(machines)),
                   60, f"all nodes idle:\n{self.logs()}")  # fmt: skip

    def _munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self.socket = self.folder / "munge.socket"
        command = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.socket}",
                   f"--pid-file={self.folder}/munge.pid", f"--seed-file={self.folder}/munge.seed",
                   f"--log-file={self.folder}/munge.log"]  # fmt: skip
        with (self.folder / "munged.txt").open("ab") as output:
            self._started.append(subprocess.Popen(command, stdout=output, stderr=output))
        wait_until(self.socket.exists, 20, "munged")

    def _conf(self, cpus: int) -> str:
        lines = [
            "ClusterName=test",
            f"SlurmctldHost={self.machines[0].name}({self.machines[0].address})",
            "SlurmUser=root",
            "SlurmdUser=root",
            "AuthType=auth/munge",
            f"AuthInfo=socket={self.socket}",
            "CredType=cred/munge",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU",
            "MpiDefault=none",
            "ReturnToService=2",
            f"StateSaveLocation={self.folder}/state",
            f"SlurmdSpoolDir={self.folder}/spool-%n",
            f"SlurmctldPidFile={self.folder}/slurmctld.pid",
            f"SlurmdPidFile={self.folder}/slurmd-%n.pid",
            f"SlurmctldLogFile={self.folder}/slurmctld.log",
            f"SlurmdLogFile={self.folder}/slurmd-%n.log",
            "KillWait=30",
        ]
        lines += [
            f"NodeName={machine.name} NodeAddr={machine.address} CPUs={cpus} State=UNKNOWN" for machine in self.machines
        ]
        lines.append(f"PartitionName=all Nodes={','.join(m.name for m in self.machines)} Default=YES MaxTime=INFINITE")
        return "\n".join(lines) + "\n"

    def _start(self, machine: Machine, *command: str) -> None:
        output = self.folder / f"{command[0]}-{machine.name}.txt"
        self._started.append(machine.start("env", *self._pairs(), *command, output=output))
        time.sleep(0.5)

    def _pairs(self) -> list[str]:
        return [f"{key}={value}" for key, value in self.environment.items()]

    def run(self, *command: str, check: bool = True, environment: dict[str, str] | None = None) -> str:
        """Run one of Slurm's commands on the first machine; return what it printed."""
        pairs = [f"{key}={value}" for key, value in (environment or {}).items()]
        return self.machines[0].run("env", *self._pairs(), *pairs, *command, check=check).stdout

    def state(self, job: str) -> str:
        """Return a job's state, such as ``RUNNING``."""
        shown = self.run("scontrol", "show", "job", job, check=False)
        return shown.partition("JobState=")[2].partition(" ")[0]

    def minutes(self, job: str) -> int:
        """Return the whole minutes that a job has run."""
        shown = self.run("squeue", "-h", "-j", job, "-o", "%M").strip()  # [[days-]hours:]minutes:seconds
        hours, minutes, _ = ["0", *shown.split(":")][-3:]
        return 60 * int(hours) + int(minutes)

    def logs(self) -> str:
        """What the daemons wrote."""
        return "\n".join(f"{path.name}:\n{path.read_text(errors='replace')[-1500:]}"
                         for path in sorted(self.folder.glob("*.log")))  # fmt: skip

    @contextmanager
    def explained(self, job: str, output: Path) -> Iterator[None]:
        """Add to a failure what Slurm knows of a job, the end of its output and of the daemons' logs."""
        try:
            yield
        except AssertionError as error:
            shown = self.run("scontrol", "show", "job", job, check=False)
            said = output.read_text(errors="replace")[-3000:] if output.exists() else "(no output)"
            raise AssertionError(f"{error}\n{shown}\n{said}\n{self.logs()}") from error

    def end(self) -> None:
        """End the daemons."""
        for process in reversed(self._started):
            process.terminate()
            process.wait(20)
