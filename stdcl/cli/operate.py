"""Verbs on a sweep that may run elsewhere: see it and steer it, from any machine that sees its folder, without Ray."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from stdcl.cli.codes import DONE, FAILED
from stdcl.cli.console import terminal_width
from stdcl.cli.live import Live, room
from stdcl.cli.place import sweep_folder
from stdcl.cli.verb import Verb
from stdcl.errors import UserError

if TYPE_CHECKING:
    from stdcl.results.status import SweepStatus

TITLE = "Running sweeps"

WATCH_SECONDS = 5.0


@click.command(cls=Verb)
@click.argument("sweep", required=False)
@click.option("--watch", is_flag=True, help=f"Show it again every {WATCH_SECONDS:g} seconds, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def status(sweep: str | None, watch: bool, as_json: bool) -> int:
    """Show what a sweep's trials are doing.

    SWEEP is the sweep's name, or its folder; without it, all sweeps are listed.
    """
    from stdcl.report.operation import render_status, render_sweeps, status_json, sweeps_json, watched_status

    if watch and sweep is not None and not as_json and sys.stdout.isatty():
        texts = [""]
        with Live(lambda: texts[-1], sys.stdout) as live:
            while True:
                texts[-1] = watched_status(_status(sweep), *room())
                live.refresh()
                time.sleep(WATCH_SECONDS)
    while True:
        if sweep is None:
            found = _sweeps()
            text = json.dumps(sweeps_json(found), indent=2) if as_json else render_sweeps(found)
        else:
            one = _status(sweep)
            text = json.dumps(status_json(one), indent=2) if as_json else render_status(one, width=terminal_width())
        if watch and not as_json:
            click.clear()
        print(text, flush=True)
        if not watch:
            return DONE
        time.sleep(WATCH_SECONDS)


@click.command(cls=Verb)
@click.argument("sweep")
@click.argument("trial")
def logs(sweep: str, trial: str) -> None:
    """Show one trial: attempts with their errors, epochs, what it does now.

    TRIAL is the trial's name, or a part of it that no other has.
    """
    from stdcl.report.operation import render_trial
    from stdcl.results.steering import find_trial

    found = _status(sweep)
    print(render_trial(found, find_trial(found, trial)))


@click.command(cls=Verb)
@click.argument("sweep")
@click.argument("trials", nargs=-1, metavar="[TRIAL...]")
def stop(sweep: str, trials: tuple[str, ...]) -> None:
    """Stop a sweep, or trials of it.

    The sweep goes on where the same `stdcl sweep` is typed again; a trial only after `stdcl retry`.
    """
    _steer("stop", sweep, trials)


@click.command(cls=Verb)
@click.argument("sweep")
@click.argument("trials", nargs=-1, metavar="[TRIAL...]")
def pause(sweep: str, trials: tuple[str, ...]) -> None:
    """Pause a sweep, or trials of it, at the next checkpoint.

    What the trials hold of the cluster is free then.
    """
    _steer("pause", sweep, trials)


@click.command(cls=Verb)
@click.argument("sweep")
@click.argument("trials", nargs=-1, metavar="[TRIAL...]")
def unpause(sweep: str, trials: tuple[str, ...]) -> None:
    """Continue a paused sweep, or trials of it."""
    _steer("unpause", sweep, trials)


@click.command(cls=Verb)
@click.argument("sweep")
@click.argument("trials", nargs=-1, metavar="[TRIAL...]")
@click.option("--failed", is_flag=True, help="All that failed or were stopped, as without TRIAL.")
def retry(sweep: str, trials: tuple[str, ...], failed: bool) -> None:
    """Try failed and stopped trials again."""
    if failed and trials:
        raise UserError("give trials, or --failed, not both")
    _steer("retry", sweep, trials)


@click.command(cls=Verb, on_interrupt="what was removed so far is gone; nothing else was touched")
@click.argument("sweep")
@click.option("--checkpoints", is_flag=True, help="Also all checkpoints of finished trials (no evaluation afterwards).")
@click.option("--yes", is_flag=True, help="Remove without asking.")
def clean(sweep: str, checkpoints: bool, yes: bool) -> int:
    """Remove what a sweep no longer needs, after a question.

    Shows first what can go and what that frees.
    """
    from stdcl.locks import exclusive
    from stdcl.results.cleaning import remove, what_can_go

    found = _status(sweep)
    with exclusive(found.folder.lock, f"the sweep '{found.plan.sweep}'"):
        parts = what_can_go(found, checkpoints=checkpoints)
        for part in parts:
            print(f"{part.size / 2**20:10.1f} MiB  {part.what}  ({len(part.paths)} item(s))")
        total = sum(part.size for part in parts)
        if not total:
            print(f"nothing in {found.folder.root} can go")
            return DONE
        if not yes and not click.confirm(f"remove these {total / 2**20:.1f} MiB from {found.folder.root}?"):
            print("nothing was removed")
            return DONE
        remove(parts)
        print(f"freed {total / 2**20:.1f} MiB")
    return DONE


@click.command(cls=Verb, on_interrupt="what was sent is sent; the same command sends the rest")
@click.argument("sweep")
def sync(sweep: str) -> int:
    """Send a sweep's offline W&B runs; what was sent is not sent again.

    Trials that run are left for later.
    """
    from stdcl.tracking.wandb_sync import send, unsent

    found = _status(sweep)
    ended = [found.folder.run(key).root for key, trial in found.trials.items() if trial.state != "running"]
    runs = unsent([*ended, found.folder.root])
    left = send(runs)
    busy = len(found.trials) - len(ended)
    later = f"; {busy} trial(s) run: type it again when they have ended" if busy else ""
    if not runs:
        print(f"nothing to send: {found.folder.root} holds no offline run that was not sent{later}")
        return DONE
    print(f"{len(runs) - len(left)} of {len(runs)} offline run(s) sent{later}")
    if left:
        print(f"not sent, to be tried again by the same command: {left[0]}{', ...' if len(left) > 1 else ''}")
    return FAILED if left else DONE


def _status(sweep: str) -> SweepStatus:
    from stdcl.results.layout import SweepFolder
    from stdcl.results.status import sweep_status

    return sweep_status(SweepFolder(sweep_folder(sweep)))


def _sweeps() -> list[SweepStatus]:
    from stdcl.config.paths import storage_path
    from stdcl.results.layout import SweepFolder
    from stdcl.results.status import sweep_status

    root = storage_path()
    folders = sorted(path.parent for path in root.glob("*/plan.json")) if root.is_dir() else []
    if not folders:
        raise UserError(f"{root}: no sweep is there; results go to $STDCL_STORAGE (default: ./runs)")
    return [sweep_status(SweepFolder(folder)) for folder in folders]


def _steer(verb: str, sweep: str, trials: tuple[str, ...]) -> None:
    from stdcl.results import requests
    from stdcl.results.steering import steer_from_outside

    print(steer_from_outside(_status(sweep), requests.request(verb, trials)))


VERBS = (status, logs, stop, pause, unpause, retry, sync, clean)
