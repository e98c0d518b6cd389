"""How wide each column of a table is, and which columns are printed beside one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stdcl.report.display import BREAK, Display, one_line

GAP = 2
"""Characters between two columns."""


@dataclass(frozen=True)
class Block:
    """Columns that are printed beside one another.

    Attributes:
        columns: their indices; the leading ones, which say what a row is, are in every block.
        widths: characters of each.
    """

    columns: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def width(self) -> int:
        """Characters of the whole."""
        return sum(self.widths) + GAP * (len(self.widths) - 1)


def arrange(shown: Display, width: int) -> tuple[Display, list[Block]]:
    """Fit a table into a width: first by breaking cells where they may break, then by several blocks of columns.

    Where the leading columns leave no place for the others, rows are numbered, and the numbers lead every block.
    A block is only wider than asked for where a single column is.

    Returns:
        The table, numbered if need be, and its blocks.
    """
    leading = list(range(shown.leading))
    others = range(shown.leading, len(shown.columns))
    if any(_fitted(shown, [*leading, each], width).width > width for each in others):
        shown = _numbered(shown)
    return shown, _blocks(shown, width)


def _numbered(shown: Display) -> Display:
    rows = tuple((str(number), *row) for number, row in enumerate(shown.rows, 1))
    return replace(shown, columns=("#", *shown.columns), left=(False, *shown.left), rows=rows, leading=1)


def _blocks(shown: Display, width: int) -> list[Block]:
    everything = list(range(len(shown.columns)))
    leading = everything[: shown.leading]
    blocks: list[Block] = []
    rest = everything[shown.leading :]
    while rest or not blocks:
        count = len(rest)
        while count > 1 and _fitted(shown, [*leading, *rest[:count]], width).width > width:
            count -= 1
        blocks.append(_fitted(shown, [*leading, *rest[:count]], width))
        rest = rest[count:]
    return blocks


def lines_of(cell: str, width: int) -> list[str]:
    """The lines of a cell that is ``width`` characters wide: broken only where it may break, and only where it must."""
    lines: list[str] = []
    for part in cell.split(BREAK):
        joined = f"{lines[-1]} {part}" if lines else part
        if lines and len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def _fitted(shown: Display, columns: Sequence[int], width: int) -> Block:
    """The columns as wide as they can be within a width, or as narrow as they can be where that is too much."""
    cells = {index: [shown.columns[index], *(row[index] for row in shown.rows)] for index in columns}
    # The widths that make a difference: those of the lines that some number of parts gives.
    choices = {
        index: sorted({len(line) for cell in each for line in _joins(cell)}, reverse=True)
        for index, each in cells.items()
    }
    least = {index: max(len(part) for cell in each for part in cell.split(BREAK)) for index, each in cells.items()}
    widths = {index: max(len(one_line(cell)) for cell in each) for index, each in cells.items()}
    while sum(widths.values()) + GAP * (len(widths) - 1) > width:
        narrower = {
            index: next((choice for choice in choices[index] if least[index] <= choice < widths[index]), None)
            for index in columns
        }
        possible = [index for index in columns if narrower[index] is not None]
        if not possible:
            break
        # Of the widest column the reader loses least.
        chosen = max(possible, key=lambda index: (widths[index], index))
        widths[chosen] = narrower[chosen] or widths[chosen]
    return Block(tuple(columns), tuple(widths[index] for index in columns))


def _joins(cell: str) -> list[str]:
    """Every run of a cell's parts on one line."""
    parts = cell.split(BREAK)
    return [" ".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)]
