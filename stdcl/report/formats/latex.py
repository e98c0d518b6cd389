r"""A table as LaTeX: a ``table*`` with booktabs' rules, no wider than a two-column page, with its notes below.

The file compiles as it is, and can be read by ``\input`` into a document that loads booktabs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from stdcl.report.display import Display, one_line
from stdcl.report.formats.layout import Block, arrange, lines_of

# A character of 8 pt Computer Modern is at most 4.25 pt wide on average in numbers and lower case; the text of a
# two-column page is about 500 pt wide (CVPR 496, IEEE 516), of which each column takes 6 pt of space.
_CHARACTERS = 100
_LONG_WORD = 20  # characters
# Of a page of 592 pt (article, 10pt): lines of 9.5 pt, without a caption of up to five lines.
_LINES = 54.0
_RULES = 2.5  # lines that the rules of a table, and the space to the next, are as high as
_SPACE = 0.55  # between rows of several lines
_NOTE_LINE = 0.9  # lines of a smaller size
_NOTE_CHARACTERS = 125  # in a line of notes, on average at least

_ESCAPES = {
    # After a line's end LaTeX takes a bracket or an asterisk for an option of it.
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "[": "{[}", "*": "{*}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$",
    "|": r"$|$", "±": r"$\pm$", "–": "--", "—": "---", "−": r"$-$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$",
    "τ": r"$\tau$", "“": "``", "”": "''", "‘": "`", "’": "'", "…": r"\ldots{}", '"': "''",
}  # fmt: skip

_ALONE = r"""% To use it in a document: \usepackage{booktabs} and \input this file. Compiled by itself, it is a page.
\expandafter\ifx\csname @nodocument\endcsname\relax\else
\documentclass[10pt,twocolumn]{article}
\usepackage{booktabs}
\textwidth=496pt\oddsidemargin=-14pt
\begin{document}
\def\stdclend{\end{document}}
\fi
"""


def render(shown: Display) -> str:
    """Return the table as a LaTeX file: one float, or several where it is taller than a page."""
    arranged, blocks = arrange(shown, _CHARACTERS)
    tables = [part for block in blocks for part in _tabulars(arranged, block)]
    floats = "".join(
        _float(shown, [t for t, is_note in part if not is_note], [t for t, is_note in part if is_note], number)
        for number, part in enumerate(_pages([*tables, *_notes(shown)]))
    )
    return f"{_ALONE}{floats}\\ifdefined\\stdclend\\expandafter\\stdclend\\fi\n"


_Part = tuple[float, str, bool]
"""Height in lines of the table's size, LaTeX, and whether it is a note."""


def _pages(parts: Sequence[_Part]) -> list[list[tuple[str, bool]]]:
    """Parts that fit on one page together, in their order."""
    pages: list[list[tuple[str, bool]]] = [[]]
    filled = 0.0
    for height, text, is_note in parts:
        if pages[-1] and filled + height > _LINES:
            pages.append([])
            filled = 0.0
        pages[-1].append((text, is_note))
        filled += height
    return pages


def _float(shown: Display, tables: Sequence[str], notes: Sequence[str], number: int) -> str:
    continued = f"{escaped(shown.title)} (continued)" if number else escaped(_caption(shown))
    # The counter stands still: it is one table.
    caption = f"\\addtocounter{{table}}{{-1}}\\caption{{{continued}}}" if number else f"\\caption{{{continued}}}"
    body = "\n\n\\medskip\n".join(tables)
    legend = "\\\\\n".join(notes)
    return (
        "\\begin{table*}\n"
        "\\centering\n"
        f"{caption}\n"
        "\\smallskip\\footnotesize\\setlength{\\tabcolsep}{3pt}\n"
        f"{body}\n"
        + (f"\n\\smallskip\n\\parbox{{\\textwidth}}{{\\scriptsize\\raggedright\n{legend}}}\n" if notes else "")
        + "\\end{table*}\n"
    )


def _notes(shown: Display) -> list[_Part]:
    return [
        (_NOTE_LINE * math.ceil(len(note) / _NOTE_CHARACTERS), " ".join(map(_breakable, note.split())), True)
        for note in shown.notes
    ]


def escaped(text: str) -> str:
    """A text for LaTeX; characters that its default fonts lack are given by their numbers."""
    return "".join(_ESCAPES.get(each, each if ord(each) < 0x100 else f"U+{ord(each):04X}") for each in text)


def _breakable(word: str) -> str:
    """A word of a note, which may break after some characters if it is long (a path, a trial's name)."""
    if len(word) <= _LONG_WORD:
        return escaped(word)
    pieces = [word[start : start + _LONG_WORD] for start in range(0, len(word), _LONG_WORD)]
    return r"\allowbreak{}".join(map(escaped, pieces))


def _tabulars(shown: Display, block: Block) -> list[_Part]:
    """A block of columns, in pieces that fit on a page; each has the header."""
    kinds = "".join("l" if shown.left[index] else "r" for index in block.columns)
    header = _row(block, shown.columns)
    rows = [_row(block, row) for row in shown.rows]
    between = "\\addlinespace\n" if any(row.count("\\\\\n") > 1 for row in rows) else ""
    pieces: list[list[str]] = [[]]
    room = _LINES - header.count("\n") - _RULES
    filled = 0.0
    for row in rows:
        height = row.count("\n") + (_SPACE if between else 0.0)
        if pieces[-1] and filled + height > room:
            pieces.append([])
            filled = 0.0
        pieces[-1].append(row)
        filled += height
    return [
        (
            sum(row.count("\n") + (_SPACE if between else 0.0) for row in piece) + header.count("\n") + _RULES,
            f"\\begin{{tabular}}{{@{{}}{kinds}@{{}}}}\n\\toprule\n{header}\\midrule\n"
            f"{between.join(piece)}\\bottomrule\n\\end{{tabular}}",
            False,
        )
        for piece in pieces
    ]


def _row(block: Block, row: tuple[str, ...]) -> str:
    """A row of the table, which has as many lines as its tallest cell."""
    cells = [lines_of(row[index], width) for index, width in zip(block.columns, block.widths, strict=True)]
    lines = [
        " & ".join(escaped(cell[number]) if number < len(cell) else "" for cell in cells)
        for number in range(max(map(len, cells)))
    ]
    return "".join(f"{line} \\\\\n" for line in lines)


def _caption(shown: Display) -> str:
    lines = [one_line(each) for each in shown.lines]
    return ": ".join([shown.title, " ".join(each if each[-1] in ".?!" else f"{each}." for each in lines)])
