"""A table as LaTeX."""

from __future__ import annotations

from stdcl.report.display import Display

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "[": "{[}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "±": r"$\pm$", "–": "--",
}  # fmt: skip


def render(shown: Display) -> str:
    """A table as a LaTeX ``table`` that needs no package."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(_caption(shown))}}}",
        rf"\begin{{tabular}}{{{''.join('l' if left else 'r' for left in shown.left)}}}",
        r"\hline",
        " & ".join(map(_latex, shown.columns)) + r" \\",
        r"\hline",
        *(" & ".join(map(_latex, row)) + r" \\" for row in shown.rows),
        r"\hline",
        r"\end{tabular}",
        *(f"% {note}" for note in shown.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _caption(shown: Display) -> str:
    return ": ".join([shown.title, " ".join(each if each[-1] in ".?!" else f"{each}." for each in shown.lines)])


def _latex(text: str) -> str:
    return "".join(_LATEX.get(each, each) for each in text)
