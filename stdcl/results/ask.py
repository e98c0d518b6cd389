"""``ask``, a file in a run folder: how the attempt under way is to end.

The process that trains looks for it, wherever it runs; there is nothing to connect to. ``paused`` and ``stopped`` stay
until they are taken back.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from stdcl import atomic
from stdcl.results.state import ENDINGS, Ending


def write_ask(path: Path, ending: Ending) -> None:
    """Ask for the end of the attempt under way.

    Raises:
        OSError: it could not be written.
    """
    atomic.write_text(path, f"{ending}\n")


def read_ask(path: Path) -> Ending | None:
    """Return how the attempt is to end; None while nothing is asked."""
    try:
        said = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return next((ending for ending in ENDINGS if ending == said), None)


def forget_ask(path: Path) -> None:
    """Remove what was asked of an earlier attempt."""
    with suppress(OSError):
        path.unlink()
