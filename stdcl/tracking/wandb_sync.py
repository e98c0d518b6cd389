"""Offline runs that are to be sent to W&B: which they are, and ``wandb sync`` on them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from stdcl.errors import UserError
from stdcl.tracking.wandb_settings import has_account

SENT = "*.wandb.synced"
"""The file that ``wandb sync`` leaves in a run that it has sent."""

AT_A_TIME = 50
"""Runs per call of ``wandb sync``."""

Run = Callable[[Sequence[str]], int]


def unsent(directories: Iterable[Path]) -> list[Path]:
    """Return the offline runs of run and sweep folders that were not sent yet, in the folders' order.

    Each folder has one at most: files of earlier attempts, which the last one repeats, are moved aside when it starts.
    """
    return [
        run
        for directory in directories
        for run in sorted((directory / "wandb").glob("offline-run-*"))
        if next(run.glob("*.wandb"), None) is not None and next(run.glob(SENT), None) is None
    ]


def send(runs: Sequence[Path], environment: Mapping[str, str] = os.environ, run: Run = subprocess.call) -> list[Path]:
    """Send offline runs; return those that were not sent, which the next call tries again.

    Args:
        runs: folders, of ``unsent``.
        environment: the environment's variables.
        run: runs a command; returns its exit code.

    Raises:
        UserError: this machine has no W&B account.
    """
    if runs and not has_account(environment=environment):
        raise UserError("this machine has no W&B account: run 'wandb login', or set WANDB_API_KEY")
    for first in range(0, len(runs), AT_A_TIME):
        part = runs[first : first + AT_A_TIME]
        run([sys.executable, "-m", "wandb", "sync", *map(str, part)])
    return [each for each in runs if next(each.glob(SENT), None) is None]
