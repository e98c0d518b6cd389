"""A table as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from stdcl.report.display import Display, one_line


def render(shown: Display) -> str:
    """Return the table as Markdown: a heading, the table, and the notes as a list."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in cells) + " |"

    head = [f"# {shown.title}", "", *(f"{each}  " for each in shown.lines), ""]
    rule = "| " + " | ".join(":---" if left else "---:" for left in shown.left) + " |"
    notes = [f"- {_escape_asterisk(note)}" for note in shown.notes]
    return "\n".join([*head, line(shown.columns), rule, *map(line, shown.rows), "", *notes]) + "\n"


def _escape_asterisk(text: str) -> str:
    return "\\" + text if text.startswith("*") else text
