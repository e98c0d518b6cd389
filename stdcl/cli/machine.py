"""Verbs on this machine."""

from __future__ import annotations

import json

import click

from stdcl.cli.codes import DONE, FAILED
from stdcl.cli.verb import Verb

TITLE = "Machine"


@click.command(cls=Verb)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def doctor(as_json: bool) -> int:
    """Check this machine: packages, GPUs, disk, cluster, W&B, data."""
    from stdcl.doctor import examine

    findings = examine()
    if as_json:
        print(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        for finding in findings:
            print(finding.render())
    return FAILED if any(finding.state == "bad" for finding in findings) else DONE


VERBS = (doctor,)
