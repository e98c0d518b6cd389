"""One rank of a training: in a process of one's own, or in a Ray Train worker group that serves one after another."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from stdcl.config import ResourcesConfig, RunConfig
from stdcl.launch.cut_off import leaving_when_cut_off
from stdcl.launch.desk import Desk
from stdcl.launch.device import CARDS, Cards, device_of_rank, own_device
from stdcl.launch.drain import Together, taken_away
from stdcl.launch.malloc import forget_freed_memory, keep_freed_memory
from stdcl.launch.package import check_package
from stdcl.locks import exclusive
from stdcl.parallel.comm import Comm, LocalComm, ProcessGroupComm, RankOrderComm
from stdcl.parallel.shared_memory import shared_memory_comm
from stdcl.results.layout import RunFolder
from stdcl.results.row import EpochRow
from stdcl.version import code_version

TAKEOVER_SECONDS = 120.0
"""How long a run folder is waited for that an earlier attempt, already cut off, still holds.

The processes of a killed driver end by themselves, but Ray gives its workers a low priority: on a busy machine that
takes a while. The other ranks wait in a collective meanwhile, which must not time out."""

JOB_NUMBER = "job"
"""Reported with each row by every rank of a group; alone after a job's last row and all that came after it."""


class TrainingLoop(Protocol):
    """What trains: ``stdcl.training.trainer.training``, or a stand-in with the same contract."""

    def __call__(
        self, config: RunConfig, run_dir: Path, *, comm: Comm, device: torch.device, sweep: str, trial: str
    ) -> Iterator[EpochRow]: ...


@dataclass(frozen=True)
class Job:
    """One training as it is handed to its ranks."""

    config: RunConfig
    run_dir: Path
    """Absolute; on a file system that every rank sees."""
    sweep: str
    trial: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables set in every rank. It may hold secrets: it travels in memory and is never printed or written."""
    code: str = field(default_factory=code_version)
    """Version of the command that started it; every rank must have the same."""
    cards: Cards = CARDS


def session_loop(stop: Callable[[], bool] | None = None) -> TrainingLoop:
    """Return the real training loop (imported late: a rank needs it, a driver does not).

    Args:
        stop: asked after each step whether to leave, with the same answer on every rank.
    """
    from stdcl.training.trainer import training

    return training if stop is None else partial(training, stop=stop)


def _saving_in_time(loop: TrainingLoop, comm: Comm, device: torch.device) -> TrainingLoop:
    """Let the real training loop save when a node is about to be taken away."""
    plain, more = (loop.func, loop.keywords) if isinstance(loop, partial) else (loop, {})
    asked = taken_away(comm, device) if plain is session_loop() else None
    if asked is None:
        return loop
    from stdcl.training.trainer import training

    return partial(training, **more, save_now=asked)


def run_rank(job: Job, comm: Comm, device: torch.device, loop: TrainingLoop) -> Generator[EpochRow, None, None]:
    """Yield the training's rows on this rank, holding the run folder (rank 0) while it lasts.

    Raises:
        ForeignCode: this process has other code than the one that made the job.
    """
    check_package(job.code)
    os.environ.update(job.environment)
    torch.set_num_threads(max(1, int(job.config.resources.cpus_per_worker)))
    if device.type == "cpu":
        keep_freed_memory()
    wait = TAKEOVER_SECONDS
    if comm.size > 1:
        wait = min(wait, 0.7 * job.config.resources.collective_timeout)
    lock = (
        exclusive(RunFolder(job.run_dir).lock, f"the run folder {job.run_dir}", wait)
        if comm.rank == 0
        else nullcontext()
    )
    loop = _saving_in_time(loop, comm, device)
    with lock:
        yield from loop(job.config, job.run_dir, comm=comm, device=device, sweep=job.sweep, trial=job.trial)


def run_alone(job: Job, loop: TrainingLoop) -> Iterator[EpochRow]:
    """Yield the rows of a training of one rank, in this process and without a process group."""
    yield from run_rank(job, LocalComm(), own_device(job.config.resources, job.cards), loop)


def train_worker(
    job: Job, number: int, loop: TrainingLoop, device: torch.device, dismissed: Callable[[], bool]
) -> None:
    """Run one rank inside a Ray Train worker group, reporting each row (a barrier: every rank reports it).

    Args:
        job: what to train.
        number: which of the group's jobs it is.
        loop: what trains.
        device: where this rank computes.
        dismissed: whether this rank was asked to leave early.
    """
    import ray.train

    from stdcl.training.trainer import Stopped

    comm: Comm = ProcessGroupComm()
    if device.type == "cpu":
        comm = shared_memory_comm(RankOrderComm(comm), job.config.resources.collective_timeout)
    leaving = Together(dismissed, comm, device)
    real = loop is session_loop()
    rows = run_rank(job, comm, device, session_loop(leaving) if real else loop)
    try:
        for row in rows:
            ray.train.report({**row, JOB_NUMBER: number})
            if not real and leaving():
                break
    except Stopped:
        pass
    finally:
        rows.close()


def _is_dismissed(desk: Desk, rank: int, number: int) -> bool:
    return rank == 0 and desk.dismissed() >= number


def serve(desk: Desk, loop: TrainingLoop, resources: ResourcesConfig, cards: Cards = CARDS) -> None:
    """Be a rank of a worker group that trains one job after another: the latest, then those that follow.

    Every rank takes part in every job. An error in one ends the process, and with it the group.
    """
    import ray
    import ray.train

    device = device_of_rank(resources, cards)
    head = ray.get_runtime_context().gcs_address
    try:
        with leaving_when_cut_off(head, resources.collective_timeout):
            # A group that starts again can find a job on the desk that the first of its ranks did not see yet.
            ranks = ProcessGroupComm()
            number = int(ranks.all_reduce(torch.tensor([desk.latest()], device=device), "max").item())
            while (job := desk.job(number)) is not None:
                train_worker(pickle.loads(job), number, loop, device, partial(_is_dismissed, desk, ranks.rank, number))
                forget_freed_memory()
                ray.train.report({JOB_NUMBER: number})
                number += 1
    except Exception as error:
        # Of an exception that leaves this process only the text and its notes arrive.
        error.add_note(traceback.format_exc())
        raise
