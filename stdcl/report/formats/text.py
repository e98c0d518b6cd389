"""A table for a terminal."""

from __future__ import annotations

import textwrap

from stdcl.report.display import Display
from stdcl.report.formats.layout import GAP, Block, arrange, lines_of

WIDTH = 80
"""Characters of a line where nothing says how wide the terminal is."""


def render(shown: Display, width: int = WIDTH) -> str:
    """Return the table as lines of at most ``width`` characters.

    Columns that do not fit follow in a further block, below the same leading columns.
    """
    shown, blocks = arrange(shown, width)
    widest = max(width, *(block.width for block in blocks))
    heading = [shown.title, *(line for each in shown.lines for line in textwrap.wrap(each, widest))]
    notes = [textwrap.fill(note, widest, subsequent_indent="    ", break_long_words=False) for note in shown.notes]
    body = "\n\n".join("\n".join(_block(shown, block)) for block in blocks)
    return "\n".join([*heading, "", body, *notes]) + "\n"


def _block(shown: Display, block: Block) -> list[str]:
    rule = "-" * block.width
    rows = [_row(shown, block, row) for row in shown.rows]
    # Rows of several lines are told apart by an empty line.
    between = [""] if any(len(row) > 1 for row in rows) else []
    body = [line for index, row in enumerate(rows) for line in ([*between, *row] if index else row)]
    return [*_row(shown, block, shown.columns), rule, *body, rule]


def _row(shown: Display, block: Block, row: tuple[str, ...]) -> list[str]:
    cells = [lines_of(row[index], width) for index, width in zip(block.columns, block.widths, strict=True)]
    lines = []
    for number in range(max(map(len, cells))):
        parts = [cell[number] if number < len(cell) else "" for cell in cells]
        padded = [
            part.ljust(width) if shown.left[index] else part.rjust(width)
            for part, index, width in zip(parts, block.columns, block.widths, strict=True)
        ]
        lines.append((" " * GAP).join(padded).rstrip())
    return lines
