"""Verbs on a sweep."""

from __future__ import annotations

from pathlib import Path

import click

from stdcl.cli.console import outlive_terminal, terminal_width
from stdcl.cli.verb import PATH, Verb, set_option

TITLE = "Sweeps"


@click.command(cls=Verb, on_interrupt="the same command continues the sweep")
@click.argument("file", type=PATH, required=False)
@set_option
@click.option("--dry-run", is_flag=True, help="Check everything and list the trials; start nothing.")
@click.option("--list", "list_shipped", is_flag=True, help="List the sweep files of the package with their questions.")
def sweep(file: Path | None, overrides: tuple[str, ...], dry_run: bool, list_shipped: bool) -> int:
    """Run a sweep file, or continue it.

    FILE is a sweep file (YAML), or the name of one that the package ships.
    """
    if list_shipped:
        from stdcl.config.shipped import render_shipped

        print(render_shipped(terminal_width()))
        return 0
    if file is None:
        raise click.UsageError("give a sweep file, or the name of a shipped one ('stdcl sweep --list' shows them)")
    from stdcl.sweep.driver import run_sweep

    outlive_terminal()
    return run_sweep(file, overrides, dry_run=dry_run)


VERBS = (sweep,)
