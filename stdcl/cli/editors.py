"""Verbs for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stdcl.cli.verb import PATH, Verb

if TYPE_CHECKING:
    from stdcl.config.schema import Kind

TITLE = "Editors"


@click.command(cls=Verb)
@click.argument("kind", type=click.Choice(["run", "sweep"]))
@click.option("--out", type=PATH, metavar="FILE", help="Write it there (default: print it).")
def schema(kind: Kind, out: Path | None) -> None:
    """Print the JSON Schema of run or sweep files.

    Editors complete and check keys by it. It knows the encoders, methods and datasets that are installed here.
    """
    from stdcl import atomic
    from stdcl.config.schema import json_schema

    text = json.dumps(json_schema(kind), indent=2) + "\n"
    if out is None:
        print(text, end="")
        return
    atomic.write_text(out, text)
    print(f"{out}: written; the first line of a file names it: # yaml-language-server: $schema={out}")


VERBS = (schema,)
