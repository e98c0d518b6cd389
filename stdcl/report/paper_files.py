"""The paper's tables of sweeps as files: text, Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stdcl.atomic import write_text
from stdcl.report.files import write_display
from stdcl.report.formats import text
from stdcl.report.load import load_sweep_state
from stdcl.report.paper import paper_table, tables_of
from stdcl.report.paper_wording import paper_csv, paper_display
from stdcl.results.layout import SweepFolder


def write_reports(directories: Sequence[Path], out: Path | None, width: int = text.WIDTH) -> tuple[str, bool]:
    """Write the tables that sweeps' files name, ``table_<name>`` in every format.

    Args:
        directories: the sweeps' folders; those of one table are joined.
        out: folder of the files; None: the report folder of each table's first sweep.
        width: of what a terminal shows, in characters.

    Returns:
        What a terminal shows, and whether every table is complete and without a fault.

    Raises:
        UserError: a folder is no sweep's, or a sweep is a search.
    """
    shown: list[str] = []
    complete = True
    folders = dict.fromkeys(directory.resolve() for directory in directories)
    for name, sweeps in tables_of([load_sweep_state(folder) for folder in folders]).items():
        table = paper_table(name, sweeps)
        folder = out or SweepFolder(sweeps[0].directory).report
        display, stem = paper_display(table), f"table_{name}"
        files = write_display(display, folder, stem)
        write_text(folder / f"{stem}.csv", paper_csv(table))
        listed = ", ".join([*(file.name for file in files), f"{stem}.csv"])
        shown.append(f"{text.render(display, width)}\nwritten to {folder}: {listed}")
        complete = complete and not table.remarks
    return "\n\n".join(shown), complete
