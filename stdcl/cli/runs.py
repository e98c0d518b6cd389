"""Verbs on a single run: train it, evaluate it, fuse several."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from stdcl.cli.verb import PATH, Verb, set_option

TITLE = "Runs"


@click.command(cls=Verb, on_interrupt="the same command resumes from the last checkpoint")
@click.argument("file", type=PATH)
@set_option
@click.option("--out", type=PATH, metavar="DIR", help="Run folder (default: named after file and configuration).")
def train(file: Path, overrides: tuple[str, ...], out: Path | None) -> int:
    """Train one configuration, or resume it.

    FILE is a run file (YAML).
    """
    from stdcl.config import load_run
    from stdcl.runs.train import train_file

    return train_file(load_run(file, overrides), file, out)


@click.command(cls=Verb, on_interrupt="the run under evaluation is unchanged")
@click.argument("runs", type=PATH, nargs=-1, required=True, metavar="RUN...")
@click.option("--checkpoint", type=click.Choice(("last", "best")), default="last", show_default=True)
@click.option("--data", type=PATH, metavar="DIR", help="Where the same prepared store is now, if it moved.")
def evaluate(runs: tuple[Path, ...], checkpoint: Literal["last", "best"], data: Path | None) -> None:
    """Repeat a run's accuracy; write per-sequence scores.

    RUN is a run folder.
    """
    from stdcl.runs.evaluate import evaluate_run

    for run in runs:
        print(evaluate_run(run, which=checkpoint, data_path=data).render())


@click.command(cls=Verb)
@click.argument("runs", type=PATH, nargs=-1, required=True, metavar="RUN...")
@click.option("--weights", default="default", help="A preset's name, or numbers: 0.6,0.6,0.4,0.4.")
@click.option("--mixed", is_flag=True, help="Allow runs of different arms (with and without contrast).")
def fuse(runs: tuple[Path, ...], weights: str, mixed: bool) -> None:
    """Add the scores of several streams, sequence by sequence.

    RUN is a run folder, or a scores file.
    """
    from stdcl.results.fusion import fuse_all, parse_weights, render_fused
    from stdcl.results.scores import read_runs

    print(render_fused(fuse_all(read_runs(runs), parse_weights(weights), mixed=mixed)))


VERBS = (train, evaluate, fuse)
