"""``stdcl submit``: check a sweep file here, hand the sweep to a cluster, and show what the cluster's check says.

The job is ``stdcl sweep``, which checks every node before it starts a training. So the same checks are made however a
sweep reaches a cluster, and by the code that will train.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stdcl.config.load import set_words
from stdcl.config.shipped import find_sweep, shipped_sweeps
from stdcl.config.sweep import Sweep, load_sweep
from stdcl.config.yaml_text import dump_yaml
from stdcl.errors import UserError
from stdcl.launch.jobs import JobServer
from stdcl.launch.nodes import CHECKED
from stdcl.version import code_version

VERDICT_SECONDS = 300.0
"""How long the checks at the start of a job are waited for."""

SCRIPT = "submit.py"
"""Beside the cluster file: what ``ray submit`` runs on the head."""

SWEEPS_OF_HEAD = "~/.stdcl/sweeps"
"""Where that script looks for sweep files."""

NOT_UP = re.compile(r"Head node of cluster \(.*\) not found")
"""How Ray 2.60 says, below a traceback, that ``ray up`` was not run here, or ``ray down`` was."""

Say = Callable[[str], None]


def submit_to(address: str, given: str, overrides: Sequence[str], *, follow: bool, say: Say = print) -> int:
    """Submit a sweep to the dashboard of a running cluster, unless a job of it runs there already.

    Args:
        address: ``http://HOST:PORT``, or ``auto``.
        given: the sweep file, or the name of a shipped one.
        overrides: ``a.b=c`` texts.
        follow: show what the job prints to its end; else only to the end of its checks.
        say: takes each line.

    Returns:
        0: it runs, or has ended well; 1: it has failed, most often in its checks.

    Raises:
        UserError: a fault in the file, or the cluster cannot be reached.
    """
    path = find_sweep(given)
    sweep = load_sweep(path, overrides)
    name = sweep.config.name
    server = JobServer(address)
    job = server.running(name)
    if job is not None:
        say(f"{name}: job {job.id} of this sweep runs already, nothing was submitted ({job.entrypoint})")
        say(_how_to(server.address, job.id, name))
        return 0 if not follow or server.show(job.id, say) else 1
    with _files(path, sweep) as folder:
        words = [_name_of(path), *set_words(overrides)] if folder is None else [path.name]
        # The first line says which code the cluster has.
        command = f"stdcl --version && {shlex.join(['stdcl', 'sweep', *words])}"
        number = server.submit(name, command, folder)
    say(f"{name}: submitted as job {number}, from stdcl {code_version()} here")
    well = server.show(number, say, until=CHECKED, seconds=VERDICT_SECONDS)
    if not well:
        say(f"{name}: the job has ended; when that is mended, the same command submits it again")
        return 1
    say(_how_to(server.address, number, name))
    return 0 if not follow or server.show(number, say) else 1


def _how_to(address: str, job: str, sweep: str) -> str:
    at = "" if address == "auto" else f" --address {shlex.quote(address)}"
    return "\n".join(
        (
            f"  follow   ray job logs{at} --follow {job}",
            f"  stop     ray job stop{at} {job}      (trials save and stop)",
            "  go on    the same stdcl submit",
            f"  results  STDCL_STORAGE/{sweep}; where that is mounted: stdcl status {sweep}, stdcl table {sweep}",
        )
    )


@contextmanager
def _files(path: Path, sweep: Sweep) -> Iterator[Path | None]:
    """Give a folder that holds a user's own sweep file, with what it extends and what ``--set`` changes."""
    if path in shipped_sweeps().values():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="stdcl-job-") as folder:
        Path(folder, path.name).write_text(dump_yaml(sweep.config.model_dump(mode="json")), encoding="utf-8")
        yield Path(folder)


def _name_of(path: Path) -> str:
    return next(name for name, own in shipped_sweeps().items() if own == path)


def submit_through(cluster: Path, given: str, overrides: Sequence[str], *, follow: bool, say: Say = print) -> int:
    """Submit a sweep over SSH to the head of a cluster file: ``ray submit``, whose script submits it there as a job.

    Args:
        cluster: the file that ``ray up`` was given.
        given: the sweep file, or the name of a shipped one.
        overrides: ``a.b=c`` texts.
        follow: as ``submit_to``.
        say: takes each line.

    Returns:
        The exit code of ``ray submit``.

    Raises:
        UserError: a fault in the file, a file is missing, or the cluster is not up.
    """
    script = cluster.parent / SCRIPT
    for file, what in ((cluster, "cluster file"), (script, f"{SCRIPT} beside the cluster file")):
        if not file.is_file():
            raise UserError(f"{file}: no such {what}; the release has both in ray_cluster/")
    path = find_sweep(given)
    sweep = load_sweep(path, overrides)
    with _files(path, sweep) as folder:
        for command in commands_over_ssh(cluster, script, path, folder, overrides, follow=follow):
            say(f"+ {shlex.join(['ray', *command])}")
            code = _run([sys.executable, "-m", "ray.scripts.scripts", *command], cluster)
            if code:
                return code
    say(f"from here, commands for the head go through: ray exec {cluster} 'COMMAND'")
    return 0


def _run(command: Sequence[str], cluster: Path) -> int:
    """Run one of Ray's commands; what it prints is passed on as it comes, but for a traceback whose cause is known."""
    held = ""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if held or line.startswith("Traceback (most recent call last)"):
                held += line
            else:
                sys.stderr.write(line)
                sys.stderr.flush()
    if process.returncode and NOT_UP.search(held):
        raise UserError(f"{cluster}: the head of this cluster is not up; `ray up -y {cluster}` starts it")
    sys.stderr.write(held)
    return process.returncode


def commands_over_ssh(
    cluster: Path, script: Path, path: Path, folder: Path | None, overrides: Sequence[str], *, follow: bool
) -> Iterator[list[str]]:
    """Yield the words after ``ray`` of each command: a file of one's own is copied first.

    ``ray submit`` joins its words by spaces, for a shell on the head; so they are quoted for that shell here.
    """
    words = [path.name, "--job"] if folder else [_name_of(path), "--job", *set_words(overrides)]
    if folder:
        yield ["rsync-up", str(cluster), str(folder / path.name), f"{SWEEPS_OF_HEAD}/{path.name}"]
    words += ["--follow"] if follow else []
    yield ["submit", str(cluster), str(script), shlex.quote(words[0]), "--", *map(shlex.quote, words[1:])]
