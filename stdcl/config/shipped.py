"""The sweep files that come with the package, by name: ``stdcl sweep ablation_tau`` works without a checkout."""

from __future__ import annotations

import textwrap
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from stdcl.errors import UserError, nearest


def shipped_sweeps() -> dict[str, Path]:
    """Return the shipped sweep files by name: ``ablation_tau``, ``ntu120/tau``."""
    root = resources.files("stdcl").joinpath("sweep_files")
    found = {} if not root.is_dir() else dict(_below(root, ""))
    return dict(sorted(found.items()))


def _below(folder: Traversable, prefix: str) -> list[tuple[str, Path]]:
    out: list[tuple[str, Path]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            out += _below(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            out.append((prefix + entry.name.removesuffix(".yaml"), Path(str(entry))))
    return out


def questions() -> dict[str, str]:
    """Return the question of each shipped sweep file, by name."""
    from stdcl.config.load import read_mapping

    return {name: str(read_mapping(path)["question"]) for name, path in shipped_sweeps().items()}


def render_shipped(width: int) -> str:
    """Return names and questions as two columns of text, ``width`` characters wide."""
    asked = questions()
    column = max(map(len, asked)) + 2
    wrapped = {name: textwrap.wrap(text, max(width - column, 30)) for name, text in asked.items()}
    return "\n".join(
        f"{name if number == 0 else '':<{column}}{line}"
        for name, lines in wrapped.items()
        for number, line in enumerate(lines)
    )


def find_sweep(given: str) -> Path:
    """Return the file that a user means: a path, or the name of a shipped sweep.

    Raises:
        UserError: it is neither; the message names the nearest of both kinds.
    """
    path = Path(given)
    if path.exists():
        return path
    shipped = shipped_sweeps()
    # sweeps/NAME.yaml is where the checkout has it; elsewhere the same words mean the same file.
    name = given.removeprefix("sweeps/").removesuffix(".yaml")
    if name in shipped:
        return shipped[name]
    neighbours = [str(p) for p in sorted(path.parent.glob("*.yaml"))] if path.parent.is_dir() else []
    raise UserError(
        f"{given}: no such sweep file{nearest(given, [*neighbours, *shipped])}; the package ships: {', '.join(shipped)}"
    )
