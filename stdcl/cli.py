"""The ``stdcl`` command: verbs only. Each verb imports what it needs when it runs, so that help is instant."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from stdcl.errors import UserError

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130

DATASETS = ("nw-ucla", "ntu60", "ntu120")
ENCODERS = ("hcn", "agcn", "ctrgcn", "hyperformer", "infogcn")
_SET_HELP = "replace one key, for example --set training.epochs=5 (repeatable)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the process's exit code: 0 done, 1 failed, 2 bad input."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("stdcl").setLevel(logging.INFO)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `stdcl ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


class _Version(argparse.Action):
    """Prints the version, worked out only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        from stdcl.version import code_version

        print(f"stdcl {code_version()}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stdcl",
        description="Distributed sweeps for spatial-temporal decoupling contrastive learning on skeletons.",
        epilog="Data are looked up under $STDCL_DATA, results go to $STDCL_STORAGE (default: ./runs).",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the release and the code's digest, and exit")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _add_data(verbs)
    _add_runs(verbs)
    _add_sweeps(verbs)
    _add_checkpoint(verbs)
    doctor = verbs.add_parser("doctor", help="check this machine: packages, GPUs, disk, cluster, W&B, data")
    doctor.add_argument("--json", action="store_true", help="machine-readable output")
    doctor.set_defaults(run=_doctor)
    return parser


Verbs = argparse._SubParsersAction  # the type that add_subparsers returns has no public name


def _add_data(verbs: Verbs[argparse.ArgumentParser]) -> None:
    data = verbs.add_parser("data", help="prepare datasets, look into them, make synthetic ones")
    kinds = data.add_subparsers(metavar="ACTION", required=True)

    prepare = kinds.add_parser("prepare", help="turn raw files into one memory-mapped store")
    prepare.add_argument("dataset", choices=(*DATASETS, "custom"))
    prepare.add_argument("--raw", type=Path, action="append", help="folder of raw files (repeatable for NTU)")
    prepare.add_argument("--spec", type=Path, help="description of a custom dataset (YAML)")
    prepare.add_argument("--out", type=Path, required=True, help="folder of the store")
    prepare.add_argument("--force", action="store_true", help="replace another store at --out")
    prepare.add_argument("--allow-partial", action="store_true", help="nw-ucla: accept a part of the dataset")
    prepare.add_argument("--strict", action="store_true", help="ntu: write nothing if any file is bad")
    prepare.add_argument("--keep-gaps", action="store_true", help="ntu: keep a body's gaps instead of closing them")
    prepare.add_argument("--workers", type=int, default=None, help="ntu: processes (default: all cores)")
    prepare.set_defaults(run=_data_prepare)

    info = kinds.add_parser("info", help="what a store holds")
    info.add_argument("store", type=Path)
    info.add_argument("--json", action="store_true", help="machine-readable output")
    info.add_argument("--verify", action="store_true", help="recompute the content hash")
    info.set_defaults(run=_data_info)

    synth = kinds.add_parser("synth", help="make a synthetic corpus in a dataset's own raw format")
    synth.add_argument("dataset", choices=DATASETS)
    synth.add_argument("--out", type=Path, required=True, help="folder of the raw files")
    synth.add_argument("--sequences", type=int, default=400)
    synth.add_argument("--seed", type=int, default=0)
    synth.set_defaults(run=_data_synth)


def _add_runs(verbs: Verbs[argparse.ArgumentParser]) -> None:
    train = verbs.add_parser("train", help="train one configuration (goes on where an earlier run stopped)")
    train.add_argument("file", type=Path, help="run file (YAML)")
    train.add_argument("--set", action="append", default=[], metavar="a.b=c", dest="overrides", help=_SET_HELP)
    train.add_argument("--out", type=Path, help="run folder (default: named after file and configuration)")
    train.set_defaults(run=_train)

    evaluate = verbs.add_parser("evaluate", help="repeat a run's accuracy; write per-sequence scores")
    evaluate.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder")
    evaluate.add_argument("--checkpoint", choices=("last", "best"), default="last")
    evaluate.add_argument("--data", type=Path, help="where the same prepared store lies now, if it moved")
    evaluate.set_defaults(run=_evaluate)

    fuse = verbs.add_parser("fuse", help="add the scores of several streams, sequence by sequence")
    fuse.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder, or a scores file")
    fuse.add_argument("--weights", default="default", help="a preset's name, or numbers: 0.6,0.6,0.4,0.4")
    fuse.add_argument("--mixed", action="store_true", help="allow runs of different arms (with and without contrast)")
    fuse.set_defaults(run=_fuse)


def _add_sweeps(verbs: Verbs[argparse.ArgumentParser]) -> None:
    sweep = verbs.add_parser("sweep", help="run a sweep file, or continue it")
    sweep.add_argument("file", type=Path, help="sweep file (YAML)")
    sweep.add_argument("--set", action="append", default=[], metavar="a.b=c", dest="overrides", help=_SET_HELP)
    sweep.add_argument("--dry-run", action="store_true", help="check everything and list the trials")
    sweep.set_defaults(run=_sweep)

    table = verbs.add_parser("table", help="a sweep's table and figure, from what is finished")
    table.add_argument("sweep", help="the sweep's name, or its folder")
    table.set_defaults(run=_table)

    levels = verbs.add_parser("levels", help="hard, medium and easy classes, without and with contrast")
    for arm, what in (("--baseline", "evaluated runs without contrast, one a seed"), ("--contrast", "and with it")):
        levels.add_argument(arm, type=Path, nargs="+", required=True, metavar="RUN", help=what)
    levels.add_argument("--out", type=Path, help="also write the table as text, Markdown and LaTeX to this folder")
    levels.set_defaults(run=_levels)


def _add_checkpoint(verbs: Verbs[argparse.ArgumentParser]) -> None:
    checkpoint = verbs.add_parser("checkpoint", help="published weights")
    kinds = checkpoint.add_subparsers(metavar="ACTION", required=True)
    bring = kinds.add_parser("import", help="turn a published checkpoint into a run that stdcl evaluate reads")
    bring.add_argument("encoder", choices=ENCODERS)
    bring.add_argument("file", type=Path)
    bring.add_argument("--dataset", choices=DATASETS, required=True)
    bring.add_argument("--stream", required=True)
    bring.add_argument("--protocol", default="default")
    bring.add_argument(
        "--data", default=None, help="the prepared store (default: the dataset's name under $STDCL_DATA)"
    )
    bring.add_argument("--set", action="append", default=[], metavar="a.b=c", dest="overrides", help=_SET_HELP)
    bring.add_argument("--out", type=Path, required=True, help="run folder")
    bring.set_defaults(run=_checkpoint_import)


# ---- verbs ----------------------------------------------------------------------------------------------------


def _data_prepare(options: argparse.Namespace) -> int:
    from stdcl.data import prepare

    progress = prepare.ConsoleProgress(sys.stderr)
    if options.dataset == "custom":
        if options.spec is None:
            raise UserError("stdcl data prepare custom: --spec FILE.yaml is missing")
        from stdcl.data.custom import prepare_custom

        print(prepare_custom(options.spec, options.out, force=options.force, progress=progress).render())
        return 0
    if not options.raw:
        raise UserError(f"stdcl data prepare {options.dataset}: --raw DIR is missing")
    if options.dataset == "nw-ucla":
        if len(options.raw) > 1:
            raise UserError("stdcl data prepare nw-ucla: give --raw once; its files lie in one folder")
        from stdcl.data.nw_ucla.prepare import prepare_nw_ucla

        done = prepare_nw_ucla(
            options.raw[0], options.out, force=options.force, allow_partial=options.allow_partial, progress=progress
        )
        print(done.render())
        return 0
    from stdcl.data.ntu.prepare import prepare_ntu

    report = prepare_ntu(
        options.dataset,
        options.raw,
        options.out,
        workers=options.workers,
        keep_gaps=options.keep_gaps,
        strict=options.strict,
        force=options.force,
        progress=progress,
    )
    print(report.render())
    return 0


def _data_info(options: argparse.Namespace) -> int:
    from stdcl.data.info import info, render_info

    facts = info(options.store, verify=options.verify)
    print(json.dumps(facts, indent=2) if options.json else render_info(facts))
    return 0


def _data_synth(options: argparse.Namespace) -> int:
    from stdcl.data.prepare import ConsoleProgress
    from stdcl.data.synthetic import synthesise

    progress = ConsoleProgress(sys.stderr)
    synthesise(options.dataset, options.out, options.sequences, options.seed, progress=progress)
    print(f"{options.out}: {options.sequences:,} synthetic {options.dataset} files (seed {options.seed})")
    print(f"next: stdcl data prepare {options.dataset} --raw {options.out} --out DIR")
    return 0


def _train(options: argparse.Namespace) -> int:
    from stdcl.config import load_run
    from stdcl.runs.train import train_file

    config = load_run(options.file, options.overrides)
    return train_file(config, options.file, options.out)


def _evaluate(options: argparse.Namespace) -> int:
    from stdcl.runs.evaluate import evaluate_run

    for run in options.runs:
        print(evaluate_run(run, which=options.checkpoint, data_path=options.data).render())
    return 0


def _fuse(options: argparse.Namespace) -> int:
    from stdcl.results.fusion import fuse_all, parse_weights, render_fused
    from stdcl.results.scores import read_runs

    fused = fuse_all(read_runs(options.runs), parse_weights(options.weights), mixed=options.mixed)
    print(render_fused(fused))
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from stdcl.sweep.driver import run_sweep

    return run_sweep(options.file, options.overrides, dry_run=options.dry_run)


def _table(options: argparse.Namespace) -> int:
    from stdcl.config.paths import storage_path
    from stdcl.report.files import write_report

    given = Path(options.sweep)
    folder = given if given.is_dir() else storage_path() / options.sweep
    print(write_report(folder, _terminal_width()))
    return 0


def _terminal_width() -> int:
    """Characters of a line: the terminal's, or 80 where the output is no terminal."""
    return max(80, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 80


def _levels(options: argparse.Namespace) -> int:
    from stdcl.report.class_difficulty import difficulty
    from stdcl.report.files import write_display
    from stdcl.report.formats import text
    from stdcl.results.scores import read_runs

    shown = difficulty(read_runs(options.baseline), read_runs(options.contrast))
    print(text.render(shown, _terminal_width()))
    if options.out is not None:
        print(
            f"written to {options.out}: {', '.join(file.name for file in write_display(shown, options.out, 'levels'))}"
        )
    return 0


def _checkpoint_import(options: argparse.Namespace) -> int:
    from stdcl.runs.import_checkpoint import adopt

    print(
        adopt(
            options.encoder,
            options.file,
            dataset=options.dataset,
            stream=options.stream,
            protocol=options.protocol,
            store=options.data,
            overrides=options.overrides,
            out=options.out,
        )
    )
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from stdcl.doctor import examine

    findings = examine()
    if options.json:
        print(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        for finding in findings:
            print(finding.render())
    return FAILED if any(finding.state == "bad" for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
