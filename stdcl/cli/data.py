"""``stdcl data``: datasets."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from stdcl.cli.verb import NEW_STORE, PATH, STORE, VerbGroup, command_line, listed

TITLE = "Data"


def official() -> list[str]:
    """Return the datasets with classes, protocols and a synthetic form of their own."""
    from stdcl import specs

    return [name for name, spec in specs.datasets().items() if not spec.describes_itself]


def _all() -> list[str]:
    from stdcl import specs

    return list(specs.datasets())


@click.group(cls=VerbGroup)
def data() -> None:
    """Prepare datasets, look into them, make synthetic ones."""


@data.command(on_interrupt="no store was written; the same command starts again")
@click.argument("dataset", callback=listed(_all), metavar="DATASET")
@click.option(
    "--raw",
    type=PATH,
    multiple=True,
    metavar="PATH",
    help="Folder of raw files (repeatable for NTU); pyskl, ctrgcn-npz: the file.",
)
@click.option("--spec", type=PATH, metavar="FILE", help="Description of a custom dataset (YAML).")
@click.option(
    "--out",
    type=NEW_STORE,
    metavar="DIR",
    required=True,
    help="Folder of the store; a relative one is made under $STDCL_DATA, where that is set.",
)
@click.option("--force", is_flag=True, help="Replace another store at --out.")
@click.option("--allow-partial", is_flag=True, help="nw-ucla: accept a part of the dataset.")
@click.option("--strict", is_flag=True, help="ntu: write nothing if any file is bad.")
@click.option("--keep-gaps", is_flag=True, help="ntu: keep a body's gaps instead of closing them.")
@click.option("--workers", type=int, help="ntu: processes (default: one per core).")
@click.option("--classes", type=PATH, metavar="FILE", help="pyskl, ctrgcn-npz: class names, one per line.")
@click.option("--scores", metavar="drop|keep", help="pyskl: keep the detector's scores as third number of a joint.")
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
    classes: Path | None,
    scores: str | None,
) -> None:
    """Turn raw files into one memory-mapped store.

    DATASET is nw-ucla, ntu60, ntu120, pyskl (an annotation pickle), ctrgcn-npz (padded arrays), or custom with --spec.
    """
    from stdcl.data.prepare import ConsoleProgress, prepare_dataset

    done = prepare_dataset(
        dataset,
        out,
        force=force,
        progress=ConsoleProgress(sys.stderr),
        raw=raw,
        spec=spec,
        allow_partial=allow_partial,
        strict=strict,
        keep_gaps=keep_gaps,
        workers=workers,
        classes=classes,
        scores=scores,
    )
    print(done.render())


@data.command()
@click.argument("store", type=STORE)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.option("--verify", is_flag=True, help="Recompute the content hash.")
def info(store: Path, as_json: bool, verify: bool) -> None:
    """Show what a store holds."""
    from stdcl.data.info import info as facts_of
    from stdcl.data.info import render_info

    facts = facts_of(store, verify=verify)
    print(json.dumps(facts, indent=2) if as_json else render_info(facts))


@data.command(on_interrupt="no corpus was written; the same command starts again")
@click.argument("dataset", callback=listed(official), metavar="DATASET")
@click.option("--out", type=PATH, metavar="DIR", required=True, help="Folder of the raw files.")
@click.option("--sequences", type=int, default=400, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def synth(dataset: str, out: Path, sequences: int, seed: int) -> None:
    """Make a synthetic corpus in a dataset's own raw format.

    DATASET is nw-ucla, ntu60 or ntu120.
    """
    from stdcl.data.prepare import ConsoleProgress
    from stdcl.data.synthetic import synthesise

    synthesise(dataset, out, sequences, seed, progress=ConsoleProgress(sys.stderr))
    print(f"{out}: {sequences:,} synthetic {dataset} files (seed {seed})")
    print(f"next: {command_line('data', 'prepare', dataset, '--raw', out, '--out', 'DIR')}")


def _formats() -> list[str]:
    from stdcl.data.export import formats

    return formats()


@data.command(on_interrupt="no file was written")
@click.argument("store", type=STORE)
@click.option("--format", "form", callback=listed(_formats), required=True, help="pyskl or ctrgcn-npz.")
@click.option("--out", type=PATH, metavar="FILE", required=True, help="File to write.")
@click.option("--protocol", default="", help="ctrgcn-npz: the split to write (default: the store's first).")
@click.option("--force", is_flag=True, help="Replace the file at --out.")
def export(store: Path, form: str, out: Path, protocol: str, force: bool) -> None:
    """Write a store in another project's format."""
    from stdcl.data.export import export_store

    print(export_store(store, form, out, protocol=protocol, force=force))


@data.command(on_interrupt="no picture was written")
@click.argument("store", type=STORE)
@click.argument("name", metavar="ID")
@click.option("--out", type=PATH, metavar="FILE", help="A .png (strip of frames) or .gif (default: ID.png).")
@click.option("--frames", type=int, help="How many frames (default: 8 in a strip, up to 60 in an animation).")
def show(store: Path, name: str, out: Path | None, frames: int | None) -> None:
    """Draw a sequence of a store, as a strip of frames or a small animation."""
    from stdcl.data.info import shown
    from stdcl.report.figures.clip import Picture, draw_clip

    found = shown(store, name)
    file = out or Path(f"{Path(name).name}.png")
    draw_clip(Picture(*found), file, frames=frames)
    print(f"{file}: {found.title}")


VERBS = (data,)
