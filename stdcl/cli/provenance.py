"""Verbs that say where a number comes from, and what is suspect about it."""

from __future__ import annotations

from pathlib import Path

import click

from stdcl.cli.codes import DONE, FAILED
from stdcl.cli.place import named_folder
from stdcl.cli.verb import PATH, Verb

TITLE = "Reports"


@click.command(cls=Verb)
@click.argument("sweep")
@click.argument("cell", required=False)
@click.option("--check", is_flag=True, help="Compute the accuracies again from the trials' files of scores.")
def why(sweep: str, cell: str | None, check: bool) -> int:
    """Say where a cell of a sweep's table comes from.

    CELL is the number of its row, or what it varies, such as temperature=0.5 or baseline, or of a search a trial, such
    as trial=7; without it the cells are listed. Said are its trials, their configurations, seeds, code, data,
    environment, files with digests, and the commands that repeat them. The exit code is 1 where an input has changed
    since the report, or a number does not agree.
    """
    from stdcl.report.why import explain

    text, good = explain(named_folder(sweep), cell, check)
    print(text)
    return DONE if good else FAILED


@click.command(cls=Verb)
@click.argument("file", type=PATH)
def lint(file: Path) -> int:
    """Say what a referee would of a table of results.

    FILE has the columns of the shipped reported_results.csv, as the tables of `stdcl report` do, or is a sweep's
    table.csv. The exit code is 1 where something is suspect.
    """
    from stdcl.report.lint import lint as apply
    from stdcl.report.lint import read_numbers

    numbers = read_numbers(file)
    findings = apply(numbers)
    for finding in findings:
        print(f"{finding.source}: {finding.rule}: {finding.text}")
    print(f"{len(numbers)} cells, {len(findings)} suspect points")
    return FAILED if findings else DONE


VERBS = (why, lint)
