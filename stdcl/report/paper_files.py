"""The paper's tables of sweeps as files: text, Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stdcl.atomic import write_text
from stdcl.report.files import is_outdated, write_display, write_texts
from stdcl.report.formats import csv, text
from stdcl.report.load import SweepState, load_sweep_state
from stdcl.report.notes import remarks
from stdcl.report.paper import paper_table, papers_of, tables_of
from stdcl.report.paper_wording import paper_csv, paper_display
from stdcl.report.projection import Method
from stdcl.report.provenance import write_inputs
from stdcl.report.table import build_table
from stdcl.report.wording import display
from stdcl.results.layout import SweepFolder
from stdcl.results.state import UNFINISHED


def states_of(directories: Sequence[Path]) -> list[SweepState]:
    """Read the sweeps' folders, each once.

    Raises:
        UserError: a folder is no sweep's.
    """
    return [load_sweep_state(folder) for folder in dict.fromkeys(each.resolve() for each in directories)]


def write_pages(
    states: Sequence[SweepState], out: Path | None, projection: Method = "pca", classes: Sequence[str] = ()
) -> tuple[list[Path], list[str]]:
    """Write the page of each sweep, ``report.html``; with several sweeps in one folder, ``report_<sweep>.html``.

    Each has the paper's table that its sweep fills, together with the other sweeps of that table.

    Args:
        states, out: as in ``write_reports``.
        projection, classes: of the maps of features, as in ``projection.feature_pair``.

    Returns:
        The files, and what they have to leave out because other files are damaged or do not fit.
    """
    from stdcl.report.page import PAGE, write_page  # jinja2 is slow to import

    papers = papers_of(states)
    written: list[Path] = []
    faults: list[str] = []
    for state in states:
        table = build_table(state)
        folder = out or SweepFolder(state.directory).report
        name = PAGE if out is None or len(states) == 1 else f"report_{table.name}.html"
        paper = papers.get(state.directory)
        faults += write_page(table, state.directory, folder / name, paper, projection, classes)
        written.append(folder / name)
        write_inputs(SweepFolder(state.directory).report, table.trials)
    return written, faults


def write_figures(
    states: Sequence[SweepState], out: Path | None, projection: Method = "pca", classes: Sequence[str] = ()
) -> list[Path]:
    """Write the figures of each sweep as PNG and PDF; with several sweeps, into a folder of its name below ``out``.

    Args:
        states, out: as in ``write_reports``.
        projection, classes: of the figures of features, as in ``projection.feature_pair``.
    """
    from stdcl.report.figures.comparison import draw_comparison  # Matplotlib is slow to import
    from stdcl.report.figures.confusion import draw_confusions
    from stdcl.report.figures.features import draw_features
    from stdcl.report.figures.search import draw_search

    written = []
    for state in states:
        table = build_table(state)
        folder = SweepFolder(state.directory).report if out is None else out / table.name if len(states) > 1 else out
        if table.search == "optuna":
            written += draw_search(table, folder)
            continue
        written += draw_comparison(table, folder)
        written += draw_confusions(table, folder)
        written += draw_features(table, folder, projection, classes)
    return written


def write_reports(states: Sequence[SweepState], out: Path | None, width: int = text.WIDTH) -> tuple[str, bool]:
    """Write the tables that sweeps' files name, ``table_<name>`` in every format.

    A search fills no table of the paper: its own is written, under its name. Without ``out``, each sweep's own table
    (``table.txt`` and the others) is written anew where it is missing or older than the last attempt at
    a trial.

    Args:
        states: of the sweeps, see `states_of`; those of one table are joined.
        out: folder of the files; None: the report folder of each table's first sweep.
        width: of what a terminal shows, in characters.

    Returns:
        What a terminal shows, and whether every table is complete and without a fault.
    """
    shown: list[str] = []
    complete = True
    for search in [state for state in states if state.search == "optuna"]:
        said, whole = _write_search(search, out or SweepFolder(search.directory).report, width)
        shown.append(said)
        complete = complete and whole
    for name, sweeps in tables_of([state for state in states if state.search == "grid"]).items():
        table = paper_table(name, sweeps)
        folder = out or SweepFolder(sweeps[0].directory).report
        rendered, stem = paper_display(table), f"table_{name}"
        files = write_display(rendered, folder, stem)
        write_text(folder / f"{stem}.csv", paper_csv(table))
        for sweep in sweeps:
            write_inputs(SweepFolder(sweep.directory).report, sweep.trials)
        listed = ", ".join([*(file.name for file in files), f"{stem}.csv"])
        shown.append(f"{text.render(rendered, width)}\nwritten to {folder}: {listed}")
        complete = complete and not table.remarks
    for state in states if out is None else ():
        sweep_folder = SweepFolder(state.directory)
        if is_outdated(sweep_folder):  # that of an interruption would contradict the new ones
            own = build_table(state)
            write_texts(own, display(own), sweep_folder.report)
    return "\n\n".join(shown), complete


def _write_search(search: SweepState, folder: Path, width: int) -> tuple[str, bool]:
    table = build_table(search)
    shown, stem = display(table), f"table_{search.name}"
    files = write_display(shown, folder, stem)
    for name, content in ((f"{stem}.csv", csv.render(table)), (f"trials_{search.name}.csv", csv.render_trials(table))):
        write_text(folder / name, content)
        files.append(folder / name)
    write_inputs(SweepFolder(search.directory).report, search.trials)
    waiting = any(trial.state in (*UNFINISHED, "not started") for trial in search.trials)
    complete = bool(table.finished) and not remarks(table) and not waiting
    return f"{text.render(shown, width)}\nwritten to {folder}: {', '.join(file.name for file in files)}", complete
