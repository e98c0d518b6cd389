"""The verb that shows a sweep while it runs."""

from __future__ import annotations

from pathlib import Path

import click

from stdcl.cli.verb import Verb

TITLE = "Running sweeps"


@click.command(cls=Verb)
@click.argument("sweep")
@click.option(
    "--local", is_flag=True, help="Serve it to this machine alone. There is no other kind, so it must be given."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8790, show_default=True, help="0 takes a free one.")
def dashboard(sweep: str, local: bool, port: int) -> None:
    """Serve a sweep's page while it runs, made anew from its files.

    SWEEP is the sweep's name, or its folder. Ctrl-C ends it; the sweep goes on.
    """
    from stdcl.config.paths import storage_path
    from stdcl.report.serve import PageServer

    if not local:
        raise click.UsageError("give --local: the page is served on this machine's loopback address")
    given = Path(sweep)
    with PageServer(given if given.is_dir() else storage_path() / sweep, port) as server:
        print(f"{server.address} shows {sweep}; Ctrl-C ends it", flush=True)
        server.serve_forever()


VERBS = (dashboard,)
