"""``stdcl checkpoint``: published weights."""

from __future__ import annotations

from pathlib import Path

import click

from stdcl.cli.data import official
from stdcl.cli.verb import PATH, VerbGroup, listed, set_option

TITLE = "Published weights"


def _encoders() -> list[str]:
    from stdcl import specs

    return [name for name, spec in specs.encoders().items() if spec.published]


@click.group(cls=VerbGroup)
def checkpoint() -> None:
    """Import published weights."""


@checkpoint.command(name="import", on_interrupt="no run folder was written")
@click.argument("encoder", callback=listed(_encoders), metavar="ENCODER")
@click.argument("file", type=PATH)
@click.option(
    "--dataset",
    callback=listed(official),
    required=True,
    metavar="DATASET",
    help="What it was trained on, for example ntu60.",
)
@click.option("--stream", required=True, help="The stream that it was trained on.")
@click.option("--protocol", default="default", help="The split that it was trained on.")
@click.option("--data", help="The prepared store (default: the dataset's name under $STDCL_DATA).")
@set_option
@click.option("--out", type=PATH, metavar="DIR", required=True, help="Run folder to make.")
def bring(
    encoder: str,
    file: Path,
    dataset: str,
    stream: str,
    protocol: str,
    data: str | None,
    overrides: tuple[str, ...],
    out: Path,
) -> None:
    """Turn a published checkpoint into a run that 'stdcl evaluate' reads.

    ENCODER is its name in a configuration, for example ctrgcn.
    """
    from stdcl.runs.import_checkpoint import import_checkpoint

    said = import_checkpoint(
        encoder, file, dataset=dataset, stream=stream, protocol=protocol, store=data, overrides=overrides, out=out
    )
    print(said)


VERBS = (checkpoint,)
