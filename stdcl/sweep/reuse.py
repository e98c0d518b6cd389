"""Finished runs elsewhere under the storage folder that equal a trial: their results are taken over, not repeated.

Two runs are equal when everything that a result can depend on is: configuration (fingerprint), data (content hash), the
code that training executes, workers, threads, kind of device, and the exchange of a sharded bank.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from stdcl import atomic
from stdcl.config.sweep import Trial
from stdcl.errors import UserError
from stdcl.results.layout import RunFolder, SweepFolder, place_below
from stdcl.results.result import RunResult, read_result, write_result


class Identity(NamedTuple):
    """What a run's numbers depend on."""

    fingerprint: str
    data_hash: str
    execution: str
    workers: int
    threads: int
    device: str
    exchange: str


def identity_of(result: RunResult) -> Identity | None:
    """Return what a finished run's numbers depend on; None where its result does not say all of it."""
    if not (result.fingerprint and result.data_hash and result.execution and result.device):
        return None
    if result.workers is None or result.threads is None:
        return None
    return Identity(
        result.fingerprint, result.data_hash, result.execution, result.workers, result.threads, result.device,
        result.exchange,
    )  # fmt: skip


def wanted_identity(trial: Trial, data_hash: str, execution: str) -> Identity:
    """Return what a trial's numbers will depend on.

    Args:
        trial: resolved.
        data_hash: content hash of its data.
        execution: digest of the code that it would be trained with.
    """
    resources = trial.config.resources
    return Identity(
        fingerprint=trial.fingerprint,
        data_hash=data_hash,
        execution=execution,
        workers=resources.workers,
        threads=max(1, int(resources.cpus_per_worker)),
        device="cuda" if resources.gpus_per_worker > 0 else "cpu",
        exchange=trial.config.exchange,
    )


def finished_runs(storage: Path, but: Path) -> Iterator[tuple[Identity, RunFolder]]:
    """Yield every finished run under ``storage`` whose result says all that it depends on.

    Args:
        storage: the folder of all results.
        but: a sweep's folder that is left out.
    """
    for pattern in ("*/trials/*/result.json", "*/*/result.json"):
        for path in sorted(storage.glob(pattern)):
            if but in path.parents:
                continue
            try:
                result = read_result(path)
            except UserError:
                continue  # the command that asks for that run says so
            identity = identity_of(result) if result is not None else None
            if identity is not None:
                yield identity, RunFolder(path.parent)


def equal_runs(
    trials: Iterable[tuple[Trial, Identity]], folder: SweepFolder, storage: Path
) -> list[tuple[Trial, RunFolder]]:
    """Return the trials that have not begun and equal a finished run elsewhere, each with that run.

    Args:
        trials: with what they depend on.
        folder: their sweep's folder.
        storage: the folder of all results.
    """
    wanted = {identity: trial for trial, identity in trials if not folder.run(trial.key).root.exists()}
    found = []
    for identity, source in finished_runs(storage, but=folder.root) if wanted else ():
        trial = wanted.pop(identity, None)
        if trial is not None:
            found.append((trial, source))
        if not wanted:
            break
    return found


def take_over(
    trials: Iterable[tuple[Trial, Identity]], folder: SweepFolder, storage: Path
) -> list[tuple[Trial, RunFolder]]:
    """Copy the results of :func:`equal_runs`, whose arguments it has, into the trials' folders; return them.

    The history, the scores and the result are copied, whole or not at all; checkpoints stay where they are.
    """
    found = equal_runs(trials, folder, storage)
    for trial, source in found:
        _copy(source, storage, folder.run(trial.key), folder.root.name, trial.key)
    return found


def _copy(source: RunFolder, storage: Path, target: RunFolder, sweep: str, key: str) -> None:
    result = read_result(source.result)
    if result is None:
        raise UserError(f"{source.root}: its result disappeared while it was taken over; run the command again")
    origin = place_below(result.taken_from or str(source.root), storage)
    with atomic.staging_dir(target.root) as staged:
        copy = RunFolder(staged)
        for old, new in (
            (source.config, copy.config),
            (source.history, copy.history),
            (source.scores(), copy.scores()),
        ):
            if old.exists():
                shutil.copyfile(old, new)
        write_result(copy.result, replace(result, sweep=sweep, trial=key, taken_from=origin))
