"""Start one training and follow it: in this process with one worker, as a Ray Train worker group with more.

Ray Train places the workers, forms their process group and starts the group again after lost workers. What a training
has reached lies in its run folder alone: Ray's own checkpoints, names and snapshots are not used, so any launch of the
same run folder goes on where the last one stood. A group whose training ended undisturbed can take the next one: its
processes, their imports and their process group are most of what the start of a training costs.
"""

from __future__ import annotations

import logging
import math
import pickle
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import ray
import ray.train
from ray.train import UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

from stdcl.config import ResourcesConfig, RunConfig
from stdcl.errors import UserError
from stdcl.launch.cluster import connected, environment_to_hand_on, oversubscribed, per_worker, waiting_now
from stdcl.launch.desk import Desk, Item
from stdcl.launch.device import check_card
from stdcl.launch.failures import (
    Fatal,
    TrainingFailed,
    fatal_error,
    first_line,
    is_divergence,
    not_connected,
    one_sentence,
    refused,
    translate,
)
from stdcl.launch.network import use_interface_of_node
from stdcl.launch.package import ForeignCode
from stdcl.launch.ray_workarounds import ControllerHandle, GuardedBackend, PlacementGuard, StartWatch, abort
from stdcl.launch.signals import StopRequest
from stdcl.launch.worker import JOB_NUMBER, Job, TrainingLoop, run_alone, serve, session_loop
from stdcl.results.layout import RunFolder
from stdcl.results.row import EpochRow
from stdcl.training.checkpoint import CheckpointError

DESK_ROOM = 8
"""Epoch rows buffered between the workers and the driver."""

START_ATTEMPTS = 10
"""How often a worker group may break in starting before the training is given up. For places it waits without end."""

WAITS_BETWEEN_WORDS = 40
"""Attempts to get places (15 s each) between two words about it."""

ABORT_SECONDS = 20.0

LEAVE_SECONDS = 15.0
"""Within which ranks end a job early. To start a new group takes about as long."""

END_SECONDS = 10.0
"""Within which the ranks of a group without a job leave by themselves."""


class _Backend(GuardedBackend):
    """Forms the process group through each rank's own interface, and says in a sentence why it could not."""

    prepare = staticmethod(use_interface_of_node)
    refusal = staticmethod(refused)
    failure = staticmethod(not_connected)


def _use_card_and_interface() -> None:
    check_card()
    use_interface_of_node()


class _CardBackend(_Backend):
    """``_Backend`` of ranks that drive a GPU each."""

    prepare = staticmethod(_use_card_and_interface)


class _TransportConfig(TorchConfig):  # type: ignore[misc]
    """``TorchConfig`` with ``_Backend``, of GPUs where they use NCCL."""

    @property
    def backend_cls(self) -> type[_Backend]:
        return _CardBackend if self.backend == "nccl" else _Backend


class _Reports(UserCallback):  # type: ignore[misc]
    """In the controller: passes rank 0's rows to the desk, and ends the run at errors that would come again."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        row = dict(metrics[0])
        number = row.pop(JOB_NUMBER)
        self._desk.put("row" if row else "ended", row, number)

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        found = fatal_error(worker_exceptions)
        if found is None:
            what = "; ".join(f"rank {rank}: {first_line(error)}" for rank, error in sorted(worker_exceptions.items()))
            self._desk.put("event", f"workers lost, starting again from the last checkpoint ({what})")
            return
        rank, error = found
        if isinstance(error, UserError):
            raise Fatal("user", str(error))
        if is_divergence(error):
            raise Fatal("diverged", str(error))
        if isinstance(error, CheckpointError):
            raise Fatal("failed", str(error))
        if isinstance(error, ForeignCode):
            raise Fatal("setup", str(error))
        notes = "\n".join(getattr(error, "__notes__", ()))
        raise Fatal("failed", f"rank {rank}: {type(error).__name__}: {error}\n{notes}".rstrip())


class _Signals:
    """In the controller: what it puts on the desk beside rows."""

    def __init__(self, desk: Desk, resources: ResourcesConfig) -> None:
        self._desk = desk
        self._resources = resources
        self._waits = self._breaks = 0

    def controller(self, handle: Any) -> None:
        self._desk.put("controller", handle)

    def waits(self) -> None:
        if self._waits % WAITS_BETWEEN_WORDS == 0:
            self._desk.put("event", waiting_now(self._resources))
        self._waits += 1

    def breaks(self, error: BaseException) -> None:
        self._breaks += 1
        if self._breaks > START_ATTEMPTS:
            raise Fatal("setup", f"the worker group did not start in {START_ATTEMPTS} attempts ({one_sentence(error)})")
        self._desk.put("event", f"the workers did not start, trying again ({first_line(error)})")


class WorkerGroup:
    """A group of Ray Train workers, followed row by row.

    Args:
        job: what to train first.
        loop: what trains.
        scratch: a folder on the shared file system for Ray Train's own small files; removed at the end.

    Call order: ``following()`` until it returns None or raises; then ``hand`` the next job where it ``takes`` it, and
    follow again; ``end()`` at last. ``abort()`` at any moment instead. All are to be called from one thread.
    """

    def __init__(self, job: Job, loop: TrainingLoop, scratch: Path) -> None:
        self._folder = scratch / uuid.uuid4().hex[:12]
        self._resources = job.config.resources
        self._desk = Desk(DESK_ROOM)
        self._idle = self._disturbed = self._closed = False
        self._number = -1
        self._controller: Any = None
        self._error: BaseException | None = None
        self.hand(job)
        trainer = self._trainer(job, loop)

        def fit() -> None:
            try:
                trainer.fit()
            except BaseException as error:  # handed to the thread that follows
                self._error = error

        self._thread = threading.Thread(target=fit, name="ray-train", daemon=True)
        self._thread.start()

    def _trainer(self, job: Job, loop: TrainingLoop) -> TorchTrainer:
        resources = job.config.resources
        on_cards, cards = resources.gpus_per_worker > 0, job.cards
        desk = self._desk
        signals = _Signals(desk, resources)
        transport = {k: v for k, v in job.environment.items() if k.startswith(("NCCL_", "GLOO_"))}

        def train() -> None:
            serve(desk, loop, resources, cards)

        return TorchTrainer(
            train,
            torch_config=_TransportConfig(
                backend=cards.backend if on_cards else "gloo", timeout_s=math.ceil(resources.collective_timeout)
            ),
            scaling_config=ray.train.ScalingConfig(
                num_workers=resources.workers,
                use_gpu=on_cards,
                resources_per_worker=per_worker(resources),
                placement_strategy=resources.placement,
            ),
            run_config=ray.train.RunConfig(
                name=self._folder.name,
                storage_path=str(self._folder.parent),
                failure_config=ray.train.FailureConfig(
                    max_failures=resources.max_failures, controller_failure_limit=-1
                ),
                callbacks=[
                    _Reports(desk),
                    ControllerHandle(signals.controller),
                    StartWatch(signals.waits, signals.breaks),
                    PlacementGuard(),
                ],
                # The process group is formed before the worker function runs.
                worker_runtime_env={"env_vars": transport} if transport else None,
                logging_config=ray.train.LoggingConfig(log_level="ERROR"),
            ),
        )

    def hand(self, job: Job) -> None:
        """Give the group what it is to train next."""
        self._idle = False
        self._number += 1
        self._desk.hand(pickle.dumps(job))

    def takes(self, job: Job) -> bool:
        """Whether the group can train this job: it has ended one, nothing happened to it, and it has the same places.

        A group that has lost workers ends with its training: the next one has all of ``max_failures`` again.
        """
        while not self._closed and (item := self._next(0.0)) is not None:
            self._disturbed |= item.kind == "event"
        return (
            self._idle and not self._disturbed and self._thread.is_alive() and job.config.resources == self._resources
        )

    def _next(self, timeout: float) -> Item | None:
        """What comes next; the controller's handle is kept.

        A group that lost a worker between two jobs may serve the ended one again: what that brings is passed over.
        """
        item = self._desk.get(timeout)
        while item is not None and item.job not in (-1, self._number):
            item = self._desk.get(timeout)
        if item is not None and item.kind == "controller":
            self._controller = item.value
        return item

    def following(self, stop: Callable[[], bool] = lambda: False) -> EpochRow | str | None:
        """Wait for what comes next: a row, or a text when something else happened.

        None when every rank is at the end of the job, or when ``stop`` says so.

        Raises:
            UserError: as raised by a rank.
            TrainingFailed: a rank failed, or more workers were lost than ``resources.max_failures`` allows.
        """
        while True:
            # Read before looking at the desk: a row that came before the end must not be missed.
            running = self._thread.is_alive()
            item = self._next(0.2 if running else 0.0)
            if item is None:
                if running and stop():
                    self.abort()
                    return None
                if running:
                    continue
                break
            if item.kind == "ended":
                self._idle = True
                return None
            if item.kind != "controller":
                self._disturbed |= item.kind == "event"
                return cast("EpochRow | str", item.value)
        self._close()
        if self._error is not None:
            raise translate(self._error) from self._error
        return None

    def rows(self, stop: Callable[[], bool] = lambda: False) -> Iterator[EpochRow | str]:
        """Yield all that ``following`` returns of one job. Closing the iterator early stops the group."""
        try:
            while (item := self.following(stop)) is not None:
                yield item
        finally:
            if not self._idle:
                self.abort()

    def leave(self) -> None:
        """Let the ranks end a job early, after a step; stop them where they have not after ``LEAVE_SECONDS``."""
        deadline = time.monotonic() + LEAVE_SECONDS
        if not self._idle and not self._closed:
            self._desk.dismiss(self._number)
        while not self._idle and self._thread.is_alive() and time.monotonic() < deadline:
            item = self._next(0.2)
            if item is not None:
                self._idle = item.kind == "ended"
                self._disturbed |= item.kind == "event"
        if not self._idle:
            self.abort()

    def end(self) -> None:
        """Let the ranks of a group without a job leave, and free its places; stop those of a group that has one."""
        if self._idle and not self._closed:
            self._desk.close()
            self._thread.join(END_SECONDS)
        self.abort()

    def abort(self) -> None:
        """Stop every rank, at once and whatever it is doing, and free its places. Nothing happens if it has ended."""
        if self._closed:
            return
        deadline = time.monotonic() + ABORT_SECONDS
        while self._thread.is_alive() and self._controller is None and time.monotonic() < deadline:
            self._next(0.2)
        if self._thread.is_alive() and self._controller is not None:
            reply = abort(self._controller)
            while not ray.wait([reply], timeout=0.1)[0] and time.monotonic() < deadline:
                while self._next(0.0) is not None:  # the controller may be waiting for room
                    pass
            self._thread.join(max(0.0, deadline - time.monotonic()))
        self._close()

    def _close(self) -> None:
        if not self._closed:
            self._closed, self._idle = True, False
            self._desk.end()
            shutil.rmtree(self._folder, ignore_errors=True)


def follow_group(job: Job, loop: TrainingLoop, scratch: Path) -> Iterator[EpochRow | str]:
    """Yield the rows of a worker group of one job, and texts about what else happens.

    Closing the iterator early stops the group.
    """
    group = WorkerGroup(job, loop, scratch)
    try:
        yield from group.rows()
    finally:
        group.end()


def launch(
    config: RunConfig,
    run_dir: Path,
    *,
    sweep: str = "",
    trial: str = "",
    on_row: Callable[[EpochRow], None] = lambda row: None,
    on_event: Callable[[str], None] = lambda text: None,
    on_signal: Callable[[str], None] = lambda name: None,
    loop: TrainingLoop | None = None,
) -> EpochRow:
    """Train one configuration to its end, from wherever its run folder stands.

    Args:
        config: the training; ``resources.workers`` decides between this process and a worker group.
        run_dir: its folder; with several nodes, one that all of them see.
        sweep: name of the sweep it belongs to, empty if none.
        trial: name of the trial, for tracking.
        on_row: called with each epoch's numbers.
        on_event: called with a text when something else is worth telling.
        on_signal: called with the name of the first SIGINT or SIGTERM. One worker then writes a checkpoint after its
            step and leaves; a group is stopped at once. The second signal ends one worker at once as well.
        loop: what trains; the real loop if None.

    Returns:
        The last row.

    Raises:
        UserError: bad data or resources.
        TrainingFailed: an error in training.
        Stopped: a signal asked for it, and all that was done is saved.
        KeyboardInterrupt: a signal asked for it; the last checkpoint counts.
    """
    stop = StopRequest()
    if note := oversubscribed(config.resources):
        on_event(note)
    job = Job(config, run_dir.absolute(), sweep, trial, environment_to_hand_on())
    last: EpochRow = {}
    if config.resources.workers == 1:
        try:
            with stop.on_signals(on_signal):
                for last in run_alone(job, loop or session_loop(stop)):
                    on_row(last)
        except CheckpointError as error:
            raise TrainingFailed(str(error)) from error
        return last
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    scratch = RunFolder(job.run_dir).ray
    try:
        with connected(config.resources), stop.on_signals(on_signal, at_once=True):
            for item in follow_group(job, loop or session_loop(), scratch):
                if isinstance(item, str):
                    on_event(item)
                else:
                    last = item
                    on_row(last)
        # With what a launch that was killed has left there.
        shutil.rmtree(scratch, ignore_errors=True)
    finally:
        with suppress(OSError):
            scratch.rmdir()
    return last
