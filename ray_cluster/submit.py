"""Run a sweep from ``ray submit``: ``ray submit CLUSTER.yaml ray_cluster/submit.py ablation_tau -- --set ...``.

``ray submit`` copies this file alone to the head's home folder and runs it there with the words that follow. The sweep
is the name of one that the release ships, or a file that ``file_mounts`` of the cluster file brought: it is looked for
as given, beside this file, and in ``~/.stdcl/sweeps``. With ``--job`` it is submitted as a job of the cluster, which
goes on without this connection (``stdcl submit --cluster``); else it runs here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

HOME = Path("~").expanduser()
FOLDERS = (Path(), HOME, HOME / ".stdcl" / "sweeps")
TAKE_A_VALUE = ("--set", "--budget")


def find(name: str) -> str:
    """Return the sweep file's path; a plain name that is no file is left to ``stdcl sweep``, which knows its own."""
    tried = [folder / candidate for folder in FOLDERS for candidate in (name, f"{name}.yaml")]
    for place in tried:
        if place.is_file():
            return str(place.resolve())
    if "/" not in name and not name.endswith(".yaml"):
        return name
    shown = "\n".join(f"  {place}" for place in dict.fromkeys(map(str, tried)))
    sys.exit(
        f"error: {name}: no such sweep file on the head; tried\n{shown}\n"
        "Files reach the head through 'file_mounts' of the cluster file (ray up, ray rsync-up), not by ray submit."
    )


def rejoined(words: Sequence[str]) -> list[str]:
    """Put values together again that ``ray submit`` has split: it joins its words by spaces and drops the quotes."""
    out: list[str] = []
    for word in words:
        if len(out) > 1 and out[-2] in TAKE_A_VALUE and not word.startswith("--"):
            out[-1] = f"{out[-1]} {word}"
        else:
            out.append(word)
    return out


def main(words: Sequence[str]) -> int:
    """Run ``stdcl sweep`` on the cluster of this machine, or submit it there."""
    if not words:
        sys.exit("usage: ray submit CLUSTER.yaml ray_cluster/submit.py SWEEP [-- --set a.b=c ...]")
    os.environ.setdefault("RAY_ADDRESS", "auto")
    try:
        from stdcl.cli import main as stdcl
    except ImportError as error:
        sys.exit(
            f"error: stdcl is not installed for {sys.executable} ({error}); the PATH in ~/.stdcl/cluster/env.sh must "
            "lead to the environment that it is installed in"
        )
    more = rejoined([word for word in words[1:] if word not in ("--", "--job")])
    verb = ["submit", "--address", "auto"] if "--job" in words else ["sweep"]
    return stdcl([*verb, find(words[0]), *more])


if __name__ == "__main__":
    # Python puts the folder of this file first, the home folder: a checkout ~/stdcl would shadow what is installed.
    sys.path.pop(0)
    sys.exit(main(sys.argv[1:]))
