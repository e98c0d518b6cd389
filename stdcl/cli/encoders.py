"""Verbs on encoders."""

from __future__ import annotations

import click

from stdcl.cli.codes import DONE, FAILED
from stdcl.cli.verb import Verb

TITLE = "Encoders"


@click.command(name="check-encoder", cls=Verb)
@click.argument("name")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the encoder (repeatable).")
def check_encoder(name: str, options: tuple[str, ...]) -> int:
    """Try out whether an encoder keeps the promises that training relies on.

    NAME is its name in a configuration, or package.module:name.
    """
    from stdcl.runs.check_encoder import check

    findings = check(name, options)
    for finding in findings:
        print(finding)
    print(f"{name}: {f'{len(findings)} promise(s) broken' if findings else 'keeps the contract'}")
    return FAILED if findings else DONE


VERBS = (check_encoder,)
