"""A table for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from stdcl.report.display import Display


def render(shown: Display) -> str:
    """A table for a terminal."""
    widths = [max(map(len, column)) for column in zip(shown.columns, *shown.rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(cells, widths, shown.left, strict=True)
        ]
        return "  ".join(padded).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    head = [shown.title, *shown.lines, "", line(shown.columns), rule]
    width = min(120, max(80, len(rule)))
    notes = [textwrap.fill(note, width, subsequent_indent="    ", break_long_words=False) for note in shown.notes]
    return "\n".join([*head, *map(line, shown.rows), rule, *notes]) + "\n"
