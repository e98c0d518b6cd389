"""``stdcl data``: datasets."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from stdcl.cli.verb import PATH, VerbGroup, listed
from stdcl.errors import UserError

TITLE = "Data"

DATASETS = ("nw-ucla", "ntu60", "ntu120")


@click.group(cls=VerbGroup)
def data() -> None:
    """Prepare datasets, look into them, make synthetic ones."""


@data.command(on_interrupt="no store was written; the same command starts again")
@click.argument("dataset", callback=listed(lambda: (*DATASETS, "custom")), metavar="DATASET")
@click.option("--raw", type=PATH, multiple=True, metavar="DIR", help="Folder of raw files (repeatable for NTU).")
@click.option("--spec", type=PATH, metavar="FILE", help="Description of a custom dataset (YAML).")
@click.option("--out", type=PATH, metavar="DIR", required=True, help="Folder of the store.")
@click.option("--force", is_flag=True, help="Replace another store at --out.")
@click.option("--allow-partial", is_flag=True, help="nw-ucla: accept a part of the dataset.")
@click.option("--strict", is_flag=True, help="ntu: write nothing if any file is bad.")
@click.option("--keep-gaps", is_flag=True, help="ntu: keep a body's gaps instead of closing them.")
@click.option("--workers", type=int, help="ntu: processes (default: one per core).")
def prepare(
    dataset: str,
    raw: tuple[Path, ...],
    spec: Path | None,
    out: Path,
    force: bool,
    allow_partial: bool,
    strict: bool,
    keep_gaps: bool,
    workers: int | None,
) -> None:
    """Turn raw files into one memory-mapped store.

    DATASET is nw-ucla, ntu60, ntu120, or custom with --spec.
    """
    from stdcl.data.prepare import ConsoleProgress

    progress = ConsoleProgress(sys.stderr)
    if dataset == "custom":
        if spec is None:
            raise UserError("stdcl data prepare custom: --spec FILE.yaml is missing")
        from stdcl.data.custom import prepare_custom

        print(prepare_custom(spec, out, force=force, progress=progress).render())
        return
    if not raw:
        raise UserError(f"stdcl data prepare {dataset}: --raw DIR is missing")
    if dataset == "nw-ucla":
        if len(raw) > 1:
            raise UserError("stdcl data prepare nw-ucla: give --raw once; its files lie in one folder")
        from stdcl.data.nw_ucla.prepare import prepare_nw_ucla

        print(prepare_nw_ucla(raw[0], out, force=force, allow_partial=allow_partial, progress=progress).render())
        return
    from stdcl.data.ntu.prepare import prepare_ntu

    report = prepare_ntu(
        dataset,  # type: ignore[arg-type]
        raw,
        out,
        workers=workers,
        keep_gaps=keep_gaps,
        strict=strict,
        force=force,
        progress=progress,
    )
    print(report.render())


@data.command()
@click.argument("store", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.option("--verify", is_flag=True, help="Recompute the content hash.")
def info(store: Path, as_json: bool, verify: bool) -> None:
    """Show what a store holds."""
    from stdcl.data.info import info as facts_of
    from stdcl.data.info import render_info

    facts = facts_of(store, verify=verify)
    print(json.dumps(facts, indent=2) if as_json else render_info(facts))


@data.command(on_interrupt="no corpus was written; the same command starts again")
@click.argument("dataset", callback=listed(lambda: DATASETS), metavar="DATASET")
@click.option("--out", type=PATH, metavar="DIR", required=True, help="Folder of the raw files.")
@click.option("--sequences", type=int, default=400, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def synth(dataset: str, out: Path, sequences: int, seed: int) -> None:
    """Make a synthetic corpus in a dataset's own raw format.

    DATASET is nw-ucla, ntu60 or ntu120.
    """
    from stdcl.data.prepare import ConsoleProgress
    from stdcl.data.synthetic import synthesise

    synthesise(dataset, out, sequences, seed, progress=ConsoleProgress(sys.stderr))  # type: ignore[arg-type]
    print(f"{out}: {sequences:,} synthetic {dataset} files (seed {seed})")
    print(f"next: stdcl data prepare {dataset} --raw {out} --out DIR")


VERBS = (data,)
