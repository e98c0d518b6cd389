"""Verbs on a single run: train it, evaluate it, fuse several."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from stdcl.cli.codes import BAD_INPUT, DONE, FAILED, INTERRUPTED
from stdcl.cli.console import outlive_terminal
from stdcl.cli.live import Live
from stdcl.cli.verb import PATH, STORE, Verb, command_line, set_option
from stdcl.errors import UserError

if TYPE_CHECKING:
    from stdcl.results.row import EpochRow

TITLE = "Runs"


@click.command(cls=Verb, on_interrupt="the same command resumes from the last checkpoint")
@click.argument("file", type=PATH)
@set_option
@click.option("--out", type=PATH, metavar="DIR", help="Run folder (default: named after file and configuration).")
def train(file: Path, overrides: tuple[str, ...], out: Path | None) -> int:
    """Train one configuration, or resume it.

    FILE is a run file (YAML).
    """
    from stdcl.config import fingerprint, read_run_file
    from stdcl.config.load import set_words
    from stdcl.results.progress import follow_run
    from stdcl.results.wording import describe_epoch
    from stdcl.runs.train import RunFailed, open_run, train_run
    from stdcl.training.trainer import Stopped

    outlive_terminal()
    run = open_run(read_run_file(file, overrides), file, out, on_event=lambda text: print(text, file=sys.stderr))
    again = command_line("train", file, *set_words(overrides), *_out(out))
    workers = run.config.resources.workers
    print(f"run     {run.folder.root}")
    print(f"data    {run.data}: {run.num_train:,} training items, {run.num_test:,} evaluated sequences")
    if run.origin:
        print(f"from    {run.origin}")
    print(f"workers {workers}, fingerprint {fingerprint(run.config)}", flush=True)
    starting = "starting" if workers == 1 else f"starting {workers} workers on Ray"
    with Live(follow_run(run.folder.progress, starting)) as live:

        def show(row: EpochRow) -> None:
            for notice in row.get("notices", ()):
                live.note(f"note: {notice}")
            live.print(f"epoch {row['epoch']:>3}  {describe_epoch(row, run.config.data.evaluate_on)}")

        def on_signal(name: str) -> None:
            what = "leaving after this step (once more: at once)" if workers == 1 else "stopping the workers"
            live.note(f"{name}: {what}")

        try:
            last = train_run(run, on_row=show, on_event=live.note, on_signal=on_signal)
        except RunFailed as error:
            live.note(f"failed: {error}")
            if error.resumable:
                live.note(f"to resume from the last checkpoint: {again}")
            return FAILED
        except Stopped as stopped:
            live.note(f"{stopped}; to resume: {again}")
            return INTERRUPTED
        except KeyboardInterrupt:
            live.note(f"interrupted; to resume from the last checkpoint: {again}")
            return INTERRUPTED
    print(
        f"accuracy {100 * float(last['accuracy']):.2f} % after the last epoch on {int(last['num_test'])} sequences; "
        f"best epoch {last['best_epoch']} (chosen on these sequences): "
        f"{100 * float(last['best_accuracy']):.2f} %"
    )
    if run.folder.checkpoints.is_dir():
        print(f"next: {command_line('evaluate', run.folder.root)}")
    else:
        print(f"its checkpoints were deleted; to train it again, move {run.folder.root} away")
    return DONE


def _out(out: Path | None) -> tuple[str | Path, ...]:
    return ("--out", out) if out is not None else ()


@click.command(cls=Verb, on_interrupt="the run under evaluation is unchanged")
@click.argument("runs", type=PATH, nargs=-1, required=True, metavar="RUN...")
@click.option("--checkpoint", type=click.Choice(("last", "best")), default="last", show_default=True)
@click.option("--data", type=STORE, metavar="DIR", help="Where the same prepared store is now, if it moved.")
@click.option("--features", is_flag=True, help="Also write the vectors before the classifier, for `stdcl report`.")
def evaluate(runs: tuple[Path, ...], checkpoint: Literal["last", "best"], data: Path | None, features: bool) -> int:
    """Repeat a run's accuracy; write per-sequence scores.

    RUN is a run folder, or a sweep's, whose finished trials are evaluated.
    """
    from stdcl.runs.evaluate import evaluate_run

    code = DONE
    for run in [run for given in runs for run in _finished(given)]:
        try:
            report = evaluate_run(run, which=checkpoint, data_path=data, features=features)
        except UserError as error:  # the other runs are evaluated all the same
            print(f"error: {error}", file=sys.stderr)
            code = BAD_INPUT
            continue
        print(report.render(), flush=True)
        if report.not_saved:
            code = code or FAILED
    return code


def _finished(folder: Path) -> list[Path]:
    """The finished trials of a sweep's folder; any other folder itself."""
    from stdcl.report.load import load_sweep_state
    from stdcl.results.layout import SweepFolder

    if not SweepFolder(folder).plan.is_file():
        return [folder]
    return [trial.folder for trial in load_sweep_state(folder).trials if trial.state == "finished"]


@click.command(cls=Verb)
@click.argument("run", type=PATH)
@click.argument("files", type=PATH, nargs=-1, required=True, metavar="FILE...")
@click.option("--checkpoint", type=click.Choice(("last", "best")), default="last", show_default=True)
@click.option("--data", type=STORE, metavar="DIR", help="Where the run's prepared store is now, if it moved.")
@click.option("--top", type=int, default=5, show_default=True, help="How many classes to name.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def predict(
    run: Path, files: tuple[Path, ...], checkpoint: Literal["last", "best"], data: Path | None, top: int, as_json: bool
) -> None:
    """Say which actions single clips show.

    RUN is a run folder; FILE holds one clip or several, in a raw format that 'stdcl data prepare' reads.
    """
    from stdcl.runs.predict import predict as classify

    found = classify(run, files, which=checkpoint, data_path=data, top=top)
    if as_json:
        print(json.dumps([each.to_json() for each in found], indent=2))
    else:
        print("\n".join(each.render() for each in found))


@click.command(cls=Verb, on_interrupt="no file was written")
@click.argument("run", type=PATH)
@click.option("--format", "form", type=click.Choice(("onnx", "torch")), required=True, help="ONNX, or torch.export's.")
@click.option("--out", type=PATH, metavar="FILE", help="File to write (default: encoder.onnx or .pt2 in RUN).")
@click.option("--checkpoint", type=click.Choice(("last", "best")), default="last", show_default=True)
@click.option("--data", type=STORE, metavar="DIR", help="Where the run's prepared store is now, if it moved.")
@click.option("--force", is_flag=True, help="Replace the file at --out.")
def export(
    run: Path,
    form: Literal["onnx", "torch"],
    out: Path | None,
    checkpoint: Literal["last", "best"],
    data: Path | None,
    force: bool,
) -> None:
    """Write a run's encoder as a file for other programs.

    RUN is a run folder. Beside the file, FILE.json describes the input, its preprocessing and the classes.
    """
    from stdcl.runs.export import export_run

    print(export_run(run, form, out, which=checkpoint, data_path=data, force=force).render())


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


VERBS = (train, evaluate, predict, export, fuse)
