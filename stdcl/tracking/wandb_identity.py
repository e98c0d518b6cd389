"""Which W&B run a folder's training is, and which of its offline files are to be sent."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stdcl import atomic

IDENTITY_FILE = "wandb.json"
SUPERSEDED = "superseded"


def run_id(directory: Path, facts: Sequence[str], first_release: Sequence[str] | None = None) -> str:
    """Return the id of the W&B run that belongs to a folder; a resumed training continues its run.

    The id is made once and kept in the folder, from ``facts`` (fingerprint, seed) and a random part: folders of equal
    name, or of two people with one sweep file, are different runs.

    Args:
        directory: the run's or sweep's folder.
        facts: what the run is.
        first_release: sweep and key, from which release 0.1 made the id; used where that release left a run behind.
    """
    known = read_identity(directory).get("id")
    if known:
        return str(known)
    if first_release is not None and (directory / "wandb").is_dir():
        text = "\0".join(first_release)
    else:
        text = "\0".join([*facts, secrets.token_hex(16)])
    made = hashlib.sha256(text.encode()).hexdigest()[:16]
    write_identity(directory, {"id": made})
    return made


def read_identity(directory: Path) -> dict[str, Any]:
    """Return what a folder remembers of its W&B run: ``id``, and ``logged`` of a sweep's table; empty if nothing."""
    try:
        value = json.loads((directory / IDENTITY_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return dict(value) if isinstance(value, dict) else {}


def write_identity(directory: Path, values: dict[str, Any]) -> None:
    """Add to what a folder remembers of its W&B run."""
    directory.mkdir(parents=True, exist_ok=True)
    atomic.write_json(directory / IDENTITY_FILE, {**read_identity(directory), **values})


def supersede(directory: Path, identity: str, current: Path | None) -> None:
    """Move a run's earlier offline files out of ``wandb sync``'s way, into ``wandb/superseded``.

    Args:
        directory: the run's folder.
        identity: the run's id.
        current: the offline folder that holds the whole run; None if the server does.
    """
    for old in sorted((directory / "wandb").glob(f"offline-run-*-{identity}*")):
        if current is not None and old.resolve() == current.resolve():
            continue
        place = directory / "wandb" / SUPERSEDED
        place.mkdir(exist_ok=True)
        target, number = place / old.name, 1
        while target.exists():
            number += 1
            target = place / f"{old.name}.{number}"
        old.rename(target)
