"""SSH servers on the test's machines, whose home folders become the account's own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.machines import Machine
from tests.ray.command import wait_until

PROGRAMS = ("sshd", "ssh", "ssh-keygen", "rsync")

_SSHD = """
Port 22
HostKey {home}/host_key
AuthorizedKeysFile {home}/.ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
PidFile none
Subsystem sftp internal-sftp
"""


def reason_to_skip() -> str | None:
    """Return why SSH servers cannot be had here, None if they can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]
    return f"{', '.join(missing)} missing: apt-get install openssh-server rsync" if missing else None


def make_key(folder: Path) -> Path:
    """Make a key pair; return the private half's file."""
    key = folder / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


def own_home(machine: Machine) -> None:
    """Let the account's home folder be the machine's, as a login sees it."""
    name = pwd.getpwuid(os.getuid()).pw_name
    lines = Path("/etc/passwd").read_text().splitlines()
    fields = next(line.split(":") for line in lines if line.startswith(f"{name}:"))
    fields[5:] = [str(machine.home), "/bin/bash"]
    accounts = machine.home / "passwd"
    accounts.write_text("\n".join([":".join(fields), *(line for line in lines if not line.startswith(f"{name}:")), ""]))
    machine.run("mount", "--bind", str(accounts), "/etc/passwd")


def serve(machine: Machine, key: Path) -> subprocess.Popen[bytes]:
    """Start an SSH server that accepts a key; the caller ends it."""
    home = machine.home
    (home / ".ssh").mkdir(exist_ok=True)
    (home / ".ssh" / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "host_key")], check=True)
    (home / "sshd_config").write_text(_SSHD.format(home=home))
    Path("/run/sshd").mkdir(exist_ok=True)
    server = machine.start("/usr/sbin/sshd", "-D", "-e", "-f", str(home / "sshd_config"), output=home / "sshd.txt")
    wait_until(lambda: "listening" in (home / "sshd.txt").read_text(), 20, "sshd")
    return server


def make_environment(folder: Path) -> None:
    """Make a Python environment that has everything but this package, as a machine of a cluster has."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    ours = [path for path in sys.path if path.endswith("-packages")]
    (packages / "ours.pth").write_text("\n".join(ours))
    _script(folder, "ray", "from ray.scripts.scripts import main")


def _script(environment: Path, name: str, statement: str) -> None:
    path = environment / "bin" / name
    path.write_text(f"#!{environment}/bin/python\nimport sys\n{statement}\nsys.exit(main())\n")
    path.chmod(0o755)


def build_wheel(root: Path, folder: Path) -> None:
    """Build this package's wheel."""
    command = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(root)]
    subprocess.run([sys.executable, *command], check=True)


def addresses(machines: Sequence[Machine]) -> str:
    """Return a YAML list."""
    return f"[{', '.join(machine.address for machine in machines)}]"
