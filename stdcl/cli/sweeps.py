"""Verbs on a sweep."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stdcl.cli.console import outlive_terminal, terminal_width
from stdcl.cli.live import Live, room
from stdcl.cli.place import sweep_folder
from stdcl.cli.verb import PATH, Verb, command_line, set_option

if TYPE_CHECKING:
    from stdcl.sweep.board import Board

TITLE = "Sweeps"


@click.command(cls=Verb, on_interrupt="the same command continues the sweep")
@click.argument("file", type=PATH, required=False)
@set_option
@click.option("--dry-run", is_flag=True, help="Check everything and list the trials; start nothing.")
@click.option("--budget", type=float, metavar="HOURS", help="Refuse to start if it takes more core-hours (GPU-hours).")
@click.option("--warm-start", "earlier", multiple=True, metavar="SWEEP", help="Begin a search with its results too.")
@click.option("--list", "list_shipped", is_flag=True, help="List the sweep files of the package with their questions.")
@click.option("--quiet", is_flag=True, help="Show the table and what failed alone; the rest is in sweep.log.")
def sweep(
    file: Path | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    budget: float | None,
    earlier: tuple[str, ...],
    list_shipped: bool,
    quiet: bool,
) -> int:
    """Run a sweep file, or continue it.

    FILE is a sweep file (YAML), or the name of one that the package ships. On a terminal, a table shows what the trials
    are doing; elsewhere, and in the sweep's log, each epoch is a line.
    """
    if list_shipped:
        from stdcl.config.shipped import render_shipped

        print(render_shipped(terminal_width()))
        return 0
    if file is None:
        raise click.UsageError("give a sweep file, or the name of a shipped one ('stdcl sweep --list' shows them)")
    begin = (f"warm_start={json.dumps(earlier)}",) if earlier else ()
    return _run(file, (*overrides, *begin), dry_run=dry_run, budget=budget, quiet=quiet)


@click.command(cls=Verb, on_interrupt="the same command continues the confirmation")
@click.argument("search")
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="How many of its best.")
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Fresh seeds of each.")
@click.option("--name", metavar="NAME", help="Of the confirming sweep (default: SEARCH_confirm).")
@set_option
@click.option("--dry-run", is_flag=True, help="Write the sweep's file, check it and list its trials; start nothing.")
@click.option("--quiet", is_flag=True, help="Show the table and what failed alone; the rest is in sweep.log.")
def confirm(
    search: str, top: int, seeds: int, name: str | None, overrides: tuple[str, ...], dry_run: bool, quiet: bool
) -> int:
    """Train a finished search's best configurations again, on fresh seeds and the test set.

    SEARCH is the search's name, or its folder. A sweep file is written into that folder and run, beside cross-entropy
    alone and the search's base as it stands; its table says what the search promised and what came out.
    """
    from stdcl.config.load import set_words
    from stdcl.sweep.confirm import write_confirmation

    path, notes = write_confirmation(sweep_folder(search), top, seeds, name)
    for line in [f"sweep file: {path}", *notes]:
        print(line, flush=True)
    words = ["confirm", search, "--top", str(top), "--seeds", str(seeds), *(["--name", name] if name else [])]
    command = command_line(*words, *set_words(overrides))
    return _run(path, overrides, dry_run=dry_run, budget=None, quiet=quiet, command=command)


def _run(
    file: Path,
    overrides: tuple[str, ...],
    *,
    dry_run: bool,
    budget: float | None,
    quiet: bool,
    command: str | None = None,
) -> int:
    from stdcl.sweep.driver import run_sweep

    outlive_terminal()
    if dry_run or quiet or not (sys.stdout.isatty() and sys.stderr.isatty()):
        return run_sweep(file, overrides, dry_run=dry_run, hours=budget, quiet=quiet, command=command)
    boards: list[Board] = []
    with Live(lambda: boards[-1].render(*room()) if boards else "") as live:
        return run_sweep(file, overrides, hours=budget, say=live.print, on_board=boards.append, command=command)


@click.command(cls=Verb, on_interrupt="what was submitted goes on; the same command says how to follow and stop it")
@click.argument("file", type=PATH)
@click.option("--address", envvar="RAY_API_SERVER_ADDRESS", metavar="URL", help="A running cluster's dashboard.")
@click.option("--cluster", type=PATH, metavar="FILE", help="The cluster file of `ray up`: submitted over SSH.")
@set_option
@click.option("--follow", is_flag=True, help="Show what it prints, to its end.")
def submit(file: Path, address: str | None, cluster: Path | None, overrides: tuple[str, ...], follow: bool) -> int:
    """Submit a sweep to a cluster, or name the job that runs it already.

    FILE is a sweep file (YAML), or the name of one that the package ships. The cluster's nodes are checked before
    anything trains; what differs is said. The same command continues a sweep that was stopped.
    """
    from stdcl.sweep.submission import submit_through, submit_to

    if cluster is not None:
        return submit_through(cluster, str(file), overrides, follow=follow, say=_say)
    if address is None:
        raise click.UsageError("give --address http://HEAD:8265 (a cluster that runs) or --cluster FILE (of `ray up`)")
    return submit_to(address, str(file), overrides, follow=follow, say=_say)


def _say(text: str) -> None:
    print(text, flush=True)


VERBS = (sweep, confirm, submit)
