"""Run a sweep from ``ray submit``: ``ray submit CLUSTER.yaml ray_cluster/submit.py ablation_tau.yaml -- --set ...``.

``ray submit`` copies this file alone to the head's home folder and runs it there with the words that follow. So the
sweep file is looked for in several places: as given, beside this file, and in $STDCL_PROJECT (the checkout that the
cluster file mounts) and its ``sweeps`` folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PROJECT = Path(os.environ.get("STDCL_PROJECT", "~/stdcl")).expanduser()


def find(name: str) -> Path:
    """Return the sweep file's path, or end with what was tried."""
    places = [Path(name), Path(__file__).resolve().parent / name, PROJECT / name, PROJECT / "sweeps" / name]
    for place in places:
        if place.is_file():
            return place.resolve()
    tried = "\n".join(f"  {place}" for place in dict.fromkeys(map(str, places)))
    sys.exit(
        f"error: {name}: no such sweep file on the head; tried\n{tried}\n"
        "Files reach the head through 'file_mounts' of the cluster file (ray up, ray rsync-up), not by ray submit."
    )


def main(words: list[str]) -> int:
    """Run ``stdcl sweep`` on the cluster of this machine."""
    if not words:
        sys.exit("usage: ray submit CLUSTER.yaml ray_cluster/submit.py SWEEP.yaml [-- --set a.b=c ...]")
    os.environ.setdefault("RAY_ADDRESS", "auto")
    if PROJECT.is_dir():
        sys.path.insert(0, str(PROJECT))
    try:
        from stdcl.cli import main as stdcl
    except ImportError as error:
        sys.exit(f"error: stdcl is not installed for {sys.executable}, and not in {PROJECT}: {error}")
    return stdcl(["sweep", str(find(words[0])), *(word for word in words[1:] if word != "--")])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
