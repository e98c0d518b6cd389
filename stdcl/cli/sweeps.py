"""Verbs on a sweep."""

from __future__ import annotations

from pathlib import Path

import click

from stdcl.cli.console import outlive_terminal
from stdcl.cli.verb import PATH, Verb, set_option

TITLE = "Sweeps"


@click.command(cls=Verb, on_interrupt="the same command continues the sweep")
@click.argument("file", type=PATH)
@set_option
@click.option("--dry-run", is_flag=True, help="Check everything and list the trials; start nothing.")
def sweep(file: Path, overrides: tuple[str, ...], dry_run: bool) -> int:
    """Run a sweep file, or continue it.

    FILE is a sweep file (YAML).
    """
    from stdcl.sweep.driver import run_sweep

    outlive_terminal()
    return run_sweep(file, overrides, dry_run=dry_run)


VERBS = (sweep,)
