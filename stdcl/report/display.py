"""A table as strings: what text, Markdown, LaTeX and HTML have in common."""

from __future__ import annotations

from dataclasses import dataclass

BREAK = "\n"
"""In a header or a cell: where it may be broken; else a space."""


@dataclass(frozen=True)
class Display:
    """A table as strings.

    Attributes:
        title: the sweep's name.
        lines: what is above the table.
        columns: headers; ``left`` says which are aligned to the left.
        rows: strings, one per column; they and the headers may break at ``BREAK``.
        notes: what is below.
        leading: how many columns, from the left, say what a row is.
    """

    title: str
    lines: tuple[str, ...]
    columns: tuple[str, ...]
    left: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    leading: int = 1


def one_line(text: str) -> str:
    """A header or a cell without breaks."""
    return text.replace(BREAK, " ")
