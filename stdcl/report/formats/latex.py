r"""A table as LaTeX: a ``table*`` with booktabs' rules, no wider than a two-column page, with its notes below.

The file compiles as it is, and can be read by ``\input`` into a document that loads booktabs.
"""

from __future__ import annotations

from stdcl.report.display import Display, one_line
from stdcl.report.formats.layout import Block, arrange, lines_of

# A character of 8 pt Computer Modern is at most 4.25 pt wide on average in numbers and lower case; the text of a
# two-column page is about 500 pt wide (CVPR 496, IEEE 516), of which each column takes 6 pt of space.
_CHARACTERS = 100
_LONG_WORD = 20  # characters

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
    """Return the table as a LaTeX file."""
    arranged, blocks = arrange(shown, _CHARACTERS)
    body = "\n\n\\medskip\n".join(_tabular(arranged, block) for block in blocks)
    notes = "\\\\\n".join(" ".join(map(_breakable, note.split())) for note in shown.notes)
    return (
        f"{_ALONE}"
        "\\begin{table*}\n"
        "\\centering\n"
        f"\\caption{{{escaped(_caption(shown))}}}\n"
        "\\smallskip\\footnotesize\\setlength{\\tabcolsep}{3pt}\n"
        f"{body}\n\n"
        "\\smallskip\n"
        f"\\parbox{{\\textwidth}}{{\\scriptsize\\raggedright\n{notes}}}\n"
        "\\end{table*}\n"
        "\\ifdefined\\stdclend\\expandafter\\stdclend\\fi\n"
    )


def escaped(text: str) -> str:
    """A text for LaTeX; characters that its default fonts lack are given by their numbers."""
    return "".join(_ESCAPES.get(each, each if ord(each) < 0x100 else f"U+{ord(each):04X}") for each in text)


def _breakable(word: str) -> str:
    """A word of a note, which may break after some characters if it is long (a path, a trial's name)."""
    if len(word) <= _LONG_WORD:
        return escaped(word)
    pieces = [word[start : start + _LONG_WORD] for start in range(0, len(word), _LONG_WORD)]
    return r"\allowbreak{}".join(map(escaped, pieces))


def _tabular(shown: Display, block: Block) -> str:
    kinds = "".join("l" if shown.left[index] else "r" for index in block.columns)
    rows = [_row(block, row) for row in shown.rows]
    between = "\\addlinespace\n" if any(row.count("\\\\\n") > 1 for row in rows) else ""
    return (
        f"\\begin{{tabular}}{{@{{}}{kinds}@{{}}}}\n\\toprule\n{_row(block, shown.columns)}\\midrule\n"
        f"{between.join(rows)}\\bottomrule\n\\end{{tabular}}"
    )


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
