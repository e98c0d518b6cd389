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
from stdcl.report.provenance import write_inputs
from stdcl.report.table import sweep_table
from stdcl.results.layout import SweepFolder


def write_pages(directories: Sequence[Path], out: Path | None) -> list[Path]:
    """Write the page of each sweep, ``report.html``; with several sweeps in one folder, ``report_<sweep>.html``.

    Args:
        directories, out: as in ``write_reports``.
    """
    from stdcl.report.page import PAGE, write_page  # jinja2 is slow to import

    written = []
    for directory in dict.fromkeys(each.resolve() for each in directories):
        table = sweep_table(directory)
        folder = out or SweepFolder(directory).report
        name = PAGE if out is None or len(directories) == 1 else f"report_{table.name}.html"
        written.append(write_page(table, directory, folder / name))
        write_inputs(SweepFolder(directory).report, table.trials)
    return written


def write_figures(directories: Sequence[Path], out: Path | None) -> list[Path]:
    """Write the figures of each sweep as PNG and PDF; with several sweeps, into a folder of its name below ``out``.

    Args:
        directories, out: as in ``write_reports``.
    """
    from stdcl.report.figures.comparison import draw_comparison  # Matplotlib is slow to import

    written = []
    for directory in dict.fromkeys(each.resolve() for each in directories):
        table = sweep_table(directory)
        folder = SweepFolder(directory).report if out is None else out / table.name if len(directories) > 1 else out
        written += draw_comparison(table, folder)
    return written


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
        for sweep in sweeps:
            write_inputs(SweepFolder(sweep.directory).report, sweep.trials)
        listed = ", ".join([*(file.name for file in files), f"{stem}.csv"])
        shown.append(f"{text.render(display, width)}\nwritten to {folder}: {listed}")
        complete = complete and not table.remarks
    return "\n\n".join(shown), complete
