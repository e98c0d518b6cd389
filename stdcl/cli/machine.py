"""Verbs on this machine."""

from __future__ import annotations

import json
import sys

import click

from stdcl.cli.codes import DONE, FAILED
from stdcl.cli.console import terminal_width
from stdcl.cli.verb import Verb
from stdcl.errors import UserError

TITLE = "Machine"


@click.command(cls=Verb)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.option("--gpu", is_flag=True, help="Try every card out: NCCL, TF32, rates, memory. About two minutes.")
@click.option("--data", help="With --gpu: the prepared store to train on; by default the first one.", metavar="STORE")
@click.option("--encoder", help="With --gpu: whose rate is measured; by default ctrgcn.", metavar="NAME")
@click.option("--cpu", is_flag=True, help="With --gpu, where there is no card: measure on the CPU.")
def doctor(as_json: bool, gpu: bool, data: str | None, encoder: str | None, cpu: bool) -> int:
    """Check this machine: packages, GPUs, disk, cluster, W&B, data.

    With --gpu, and RAY_ADDRESS for a cluster's cards, what a bug report about GPUs needs; it names no machine, folder,
    person or key. The exit code is 1 where something will not work, so also where there is no card.
    """
    if not gpu and (data or encoder or cpu):
        raise UserError("--data, --encoder and --cpu belong to --gpu; type stdcl doctor --gpu")
    if gpu:
        from stdcl.doctor.gpu import ENCODER, examine_gpu

        findings = examine_gpu(data, encoder or ENCODER, on_cpu=cpu, say=lambda text: print(text, file=sys.stderr))
    else:
        from stdcl.doctor.machine import examine

        findings = examine()
    if as_json:
        print(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        for finding in findings:
            print(finding.render(terminal_width()))
    return FAILED if any(finding.state == "bad" for finding in findings) else DONE


VERBS = (doctor,)
