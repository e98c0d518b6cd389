"""Verbs that read results and compute no training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from stdcl.cli.codes import DONE, FAILED
from stdcl.cli.console import terminal_width, wrapped
from stdcl.cli.place import named_folder
from stdcl.cli.verb import PATH, Several, Verb
from stdcl.errors import UserError

TITLE = "Reports"


@click.command(cls=Verb)
@click.argument("sweep")
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="Also show this metric, for example mean_class_accuracy."
)
def table(sweep: str, metrics: tuple[str, ...]) -> int:
    """Make a sweep's table and figure, from what is finished.

    SWEEP is the sweep's name, or its folder. The exit code is 1 where a trial has failed, a file is damaged or
    something does not fit; what is not finished yet may be missing.
    """
    from stdcl.report.files import write_checked_report

    text, sound = write_checked_report(named_folder(sweep), terminal_width(), metrics)
    print(text)
    return DONE if sound else FAILED


@click.command(cls=Verb)
@click.argument("sweeps", nargs=-1, required=True, metavar="SWEEP...")
@click.option(
    "--out", type=PATH, metavar="DIR", help="Folder of the files; by default the first sweep's report folder."
)
@click.option("--html", is_flag=True, help="Also write each sweep's page, report.html, which opens without a network.")
@click.option("--figures", is_flag=True, help="Also draw what was compared or searched, as PNG and PDF.")
@click.option(
    "--projection",
    type=click.Choice(("pca", "tsne")),
    default="pca",
    show_default=True,
    help="Of the maps of features (`stdcl evaluate --features`).",
)
@click.option("--classes", metavar="NAME,...", default="", help="Classes that these show; default: at most ten.")
@click.option("--bundle", type=PATH, metavar="FILE", help="Also pack what a reviewer needs into this .tar.gz.")
def report(
    sweeps: tuple[str, ...],
    out: Path | None,
    html: bool,
    figures: bool,
    projection: Literal["pca", "tsne"],
    classes: str,
    bundle: Path | None,
) -> int:
    """Make the paper's tables from one or several sweeps.

    A sweep's file names its table with `table:`.

    SWEEP is a sweep's name, or its folder. Tables are 1, 2, 3 and 4a to 4e, or of a name of one's own. The exit code is
    1 where something is missing, has failed or does not fit; the notes below the table say what.
    """
    from stdcl.report.paper_files import states_of, write_figures, write_pages, write_reports

    folders = [named_folder(sweep) for sweep in sweeps]
    states = states_of(folders)
    text, complete = write_reports(states, out, terminal_width())
    print(text)
    named = tuple(name.strip() for name in classes.split(",") if name.strip())
    files, faults = write_pages(states, out, projection, named) if html else ([], [])
    for fault in dict.fromkeys(faults):
        print(f"! {fault}")
    files += write_figures(states, out, projection, named) if figures else []
    for file in files:
        print(f"written to {file}")
    if bundle is not None:
        from stdcl.report.bundle import write_bundle

        print(f"written to {bundle}: {len(write_bundle(folders, bundle))} files")
    return DONE if complete and not faults else FAILED


@click.command(cls=Verb)
@click.argument("file", metavar="SWEEPFILE")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Replace a key, as in `stdcl sweep`.")
@click.option("--no-probe", is_flag=True, help="Measure nothing; say what earlier runs under $STDCL_STORAGE took.")
def plan(file: str, overrides: tuple[str, ...], no_probe: bool) -> None:
    """Say what a sweep costs and what its seeds could show, beforehand.

    SWEEPFILE is a sweep's YAML file, or the name of a shipped one. Hours, disk and memory come from earlier runs of the
    same kind; without any, some steps of each setting are trained, for seconds. Nothing is written.
    """
    from stdcl.report.planning import what_seeds_can_show
    from stdcl.sweep.driver import load_settled, plan_sweep
    from stdcl.sweep.forecast import prepared_test_parts, render_forecast

    loaded = load_settled(file, overrides)
    search = loaded.config.search == "optuna"
    try:
        print(render_forecast(plan_sweep(loaded, measure=not no_probe), columns=terminal_width()))
    except UserError as error:
        if search:
            raise
        print(wrapped(f"what it costs is not known: {str(error).splitlines()[0]}", terminal_width()))
    if not search:
        print(f"\n{wrapped(what_seeds_can_show(loaded, prepared_test_parts(loaded)), terminal_width())}")


@click.command(cls=Verb)
@click.option(
    "--baseline",
    cls=Several,
    type=PATH,
    required=True,
    metavar="RUN",
    help="Evaluated runs without contrast, one per seed.",
)
@click.option("--contrast", cls=Several, type=PATH, required=True, metavar="RUN", help="The same with contrast.")
@click.option(
    "--out", type=PATH, metavar="DIR", help="Also write the table as text, Markdown and LaTeX to this folder."
)
def levels(baseline: tuple[Path, ...], contrast: tuple[Path, ...], out: Path | None) -> None:
    """Compare hard, medium and easy classes, without and with contrast."""
    from stdcl.report.class_difficulty import difficulty
    from stdcl.report.files import write_display
    from stdcl.report.formats import text
    from stdcl.results.scores import read_runs

    shown = difficulty(read_runs(baseline), read_runs(contrast))
    print(text.render(shown, terminal_width()))
    if out is not None:
        print(f"written to {out}: {', '.join(file.name for file in write_display(shown, out, 'levels'))}")


VERBS = (plan, table, report, levels)
