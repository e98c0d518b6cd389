"""A table as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from stdcl.report.display import Display


def render(shown: Display) -> str:
    """A table as Markdown."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    head = [f"# {shown.title}", "", *(f"{each}  " for each in shown.lines), ""]
    rule = "| " + " | ".join(":---" if left else "---:" for left in shown.left) + " |"
    notes = [f"- {_escape_asterisk(note)}" for note in shown.notes]
    return "\n".join([*head, line(shown.columns), rule, *map(line, shown.rows), "", *notes]) + "\n"


def _escape_asterisk(text: str) -> str:
    return "\\" + text if text.startswith("*") else text
