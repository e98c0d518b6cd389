"""From rows to tables and figures. Runs on a laptop: no torch, no Ray."""

from __future__ import annotations

from pathlib import Path


def write_report(directory: Path) -> str:
    """Write a sweep's table in every format, and its figure, to ``<sweep>/report``; returns what a terminal shows.

    Raises:
        UserError: as ``tables.sweep_table``.
    """
    from stdcl.report.tables import sweep_table

    table = sweep_table(directory)
    files = table.write(directory / "report")
    return f"{table.text()}\nwritten to {directory / 'report'}: {', '.join(file.name for file in files)}"
