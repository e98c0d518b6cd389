"""A table as strings: what text, Markdown, LaTeX and HTML have in common."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Display:
    """A table as strings.

    Attributes:
        title: the sweep's name.
        lines: what stands above the table.
        columns: headers; ``left`` says which are aligned to the left.
        rows: strings, one a column.
        notes: what stands below.
    """

    title: str
    lines: tuple[str, ...]
    columns: tuple[str, ...]
    left: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
