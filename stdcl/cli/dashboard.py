"""The verb that shows a sweep in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stdcl.cli.place import sweep_folder
from stdcl.cli.verb import Verb

if TYPE_CHECKING:
    from stdcl.report.load import SweepState
    from stdcl.tracking.wandb_workspace import Layout

TITLE = "Running sweeps"


@click.command(cls=Verb)
@click.argument("sweep")
@click.option("--local", is_flag=True, help="Serve it to this machine alone, without an account.")
@click.option("--port", type=click.IntRange(0, 65535), default=8790, show_default=True, help="0 takes a free one.")
def dashboard(sweep: str, local: bool, port: int) -> None:
    """Show a sweep in a browser while it runs.

    SWEEP is the sweep's name, or its folder. With --local its page is served, made anew from its files, and beside it a
    search's study by optuna-dashboard, where that is installed; Ctrl-C ends it, the sweep goes on. Without, a workspace
    is made at W&B, which needs an account and wandb-workspaces.
    """
    folder = sweep_folder(sweep)
    if local:
        _serve(folder, sweep, port)
        return
    from stdcl.report.load import load_sweep_state
    from stdcl.tracking.wandb_settings import settings_of
    from stdcl.tracking.wandb_workspace import save

    state = load_sweep_state(folder)
    config = next((trial.config for trial in state.trials if trial.config is not None), None)
    if config is None:
        raise click.UsageError(f"no trial of {state.name} has begun: W&B has nothing to show yet")
    print(f"{save(layout_of(state), settings_of(config.tracking))} shows {state.name}")


def _serve(folder: Path, sweep: str, port: int) -> None:
    from stdcl.report.serve import PageServer
    from stdcl.sweep.study_page import study_page

    with PageServer(folder, port) as server, study_page(folder, port and port + 1) as study:
        print(f"{server.address} shows {sweep}; Ctrl-C ends it", flush=True)
        if study:
            print(f"{study} shows its study" if study.startswith("http") else study, flush=True)
        server.serve_forever()


def layout_of(state: SweepState) -> Layout:
    """Return the W&B workspace of a sweep: by what its trials differ in, and what their rows have."""
    from stdcl.config.model import is_baseline
    from stdcl.results.history import read_history
    from stdcl.results.layout import RunFolder
    from stdcl.tracking.wandb_workspace import layout

    stated = [key for trial in state.trials for key in trial.stated]
    plain = any(is_baseline(trial.stated) or trial.arm == state.reference for trial in state.trials)
    strategy = ["contrast.strategy"] if state.search == "grid" and plain else []
    metrics: dict[str, None] = {}
    for trial in state.trials[:20]:
        for row in read_history(RunFolder(trial.folder).history)[-1:]:
            metrics |= dict.fromkeys(name for name, value in row.items() if isinstance(value, int | float))
    return layout(state.name, list(dict.fromkeys([*state.parameters, *strategy, *stated])), list(metrics))


VERBS = (dashboard,)
