"""A sweep's report as files: the table in every format, the trials behind it, and its figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stdcl.atomic import write_text
from stdcl.errors import not_written
from stdcl.report.confirmation import render_csv
from stdcl.report.display import Display
from stdcl.report.formats import SUFFIXES, csv, text
from stdcl.report.notes import remarks
from stdcl.report.table import SweepTable, sweep_table
from stdcl.report.wording import display
from stdcl.results.layout import FIGURE, SweepFolder
from stdcl.results.store import PART

TABLE = "table"
"""Stem of the files of a sweep's own table."""
CONFIRMATION = "confirmation.csv"
"""What a search promised, beside what came out."""


def write_report(directory: Path, width: int = text.WIDTH, metrics: Sequence[str] = ()) -> str:
    """As ``write_checked_report``; returns what a terminal shows."""
    return write_checked_report(directory, width, metrics)[0]


def write_checked_report(directory: Path, width: int = text.WIDTH, metrics: Sequence[str] = ()) -> tuple[str, bool]:
    """Write a sweep's table in every format, and its figure, to ``<sweep>/report``.

    Args:
        directory: the sweep's folder.
        width: of what the terminal shows, in characters; files are as wide as ``text.WIDTH``.
        metrics: names of metrics that are shown beside accuracy.

    Returns:
        What a terminal shows, and whether nothing has failed, is damaged or does not fit (what is not finished yet may
        be missing).

    Raises:
        UserError: as ``table.sweep_table``.
    """
    table = sweep_table(directory, metrics)
    shown = display(table)
    folder, sound = SweepFolder(directory).report, not remarks(table)
    try:
        files = write_table(table, shown, folder)
    except OSError as error:
        return f"{text.render(shown, width)}\n{not_written(folder, error)}", sound
    return f"{text.render(shown, width)}\nwritten to {folder}: {', '.join(file.name for file in files)}", sound


def write_table(table: SweepTable, shown: Display, directory: Path) -> list[Path]:
    """Write ``table.txt``, ``.md``, ``.tex``, ``.csv``, ``trials.csv`` and, with a result, ``accuracy.png``.

    A sweep that confirms a search also has ``confirmation.csv``. Each file is written atomically; returns the files.
    ``accuracy.png`` is only written when a trial has a result; one from before is left as it is.
    """
    written = write_texts(table, shown, directory)
    if table.finished:
        from stdcl.report.figures.accuracy import draw  # Matplotlib is slow to import

        written.append(draw(table, directory / FIGURE))
    return written


def write_texts(table: SweepTable, shown: Display, directory: Path) -> list[Path]:
    """Write what `write_table` writes, but for the figure; returns the files."""
    content = texts(table, shown)
    for name, text_of_file in content.items():
        write_text(directory / name, text_of_file)
    return [directory / name for name in content]


def texts(table: SweepTable, shown: Display) -> dict[str, str]:
    """Return name -> content of the files of a sweep's own table."""
    content = {f"{TABLE}{suffix}": render(shown) for suffix, render in SUFFIXES.items()}
    content |= {f"{TABLE}.csv": csv.render(table), "trials.csv": csv.render_trials(table)}
    if table.confirms is not None:
        content[CONFIRMATION] = render_csv(table)
    return content


def is_outdated(folder: SweepFolder) -> bool:
    """Return whether a sweep's own table is missing, or older than the end of an attempt at one of its trials.

    One that is as new stays as it was asked for (``stdcl table --metric``).
    """
    try:
        written = (folder.report / f"{TABLE}.txt").stat().st_mtime_ns
    except FileNotFoundError:
        return True
    return any(part.stat().st_mtime_ns > written for part in folder.results.glob(PART))


def write_display(shown: Display, directory: Path, stem: str) -> list[Path]:
    """Write a table's strings in every format that has no numbers of its own; returns the files."""
    for suffix, render in SUFFIXES.items():
        write_text(directory / f"{stem}{suffix}", render(shown))
    return [directory / f"{stem}{suffix}" for suffix in SUFFIXES]
