"""Start one training and follow it: in this process with one worker, as a Ray Train worker group with more.

Ray Train places the workers, forms their process group and starts the group again after lost workers. What a training
has reached lies in its run folder alone: Ray's own checkpoints, names and snapshots are not used, so any launch of the
same run folder goes on where the last one stood.
"""

from __future__ import annotations

import logging
import math
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
from ray.util.queue import Empty, Queue

from stdcl.config import ResourcesConfig, RunConfig
from stdcl.errors import UserError
from stdcl.launch.cluster import connected, environment_to_hand_on, oversubscribed, per_worker, waiting_now
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
from stdcl.launch.worker import Job, TrainingLoop, run_alone, session_loop, train_worker
from stdcl.results.layout import RunFolder
from stdcl.results.row import EpochRow
from stdcl.training.checkpoint import CheckpointError

QUEUE_ROWS = 8
"""Epoch rows buffered between the workers and the driver."""

START_ATTEMPTS = 10
"""How often a worker group may break in starting before the training is given up. For places it waits without end."""

WAITS_BETWEEN_WORDS = 40
"""Attempts to get places (15 s each) between two words about it."""

ABORT_SECONDS = 20.0


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
    """In the controller: passes rank 0's rows to the queue, and ends the run at errors that would come again."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        self._queue.put(("row", dict(metrics[0])))

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        found = fatal_error(worker_exceptions)
        if found is None:
            what = "; ".join(f"rank {rank}: {first_line(error)}" for rank, error in sorted(worker_exceptions.items()))
            self._queue.put(("event", f"workers lost, starting again from the last checkpoint ({what})"))
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
    """In the controller: what it puts into the queue beside rows."""

    def __init__(self, queue: Queue, resources: ResourcesConfig) -> None:
        self._queue = queue
        self._resources = resources
        self._waits = self._breaks = 0

    def controller(self, handle: Any) -> None:
        self._queue.put(("controller", handle))

    def waits(self) -> None:
        if self._waits % WAITS_BETWEEN_WORDS == 0:
            self._queue.put(("event", waiting_now(self._resources)))
        self._waits += 1

    def breaks(self, error: BaseException) -> None:
        self._breaks += 1
        if self._breaks > START_ATTEMPTS:
            raise Fatal("setup", f"the worker group did not start in {START_ATTEMPTS} attempts ({one_sentence(error)})")
        self._queue.put(("event", f"the workers did not start, trying again ({first_line(error)})"))


class GroupTraining:
    """A training by a group of Ray Train workers, followed row by row.

    Args:
        job: what to train.
        loop: what trains.
        scratch: a folder on the shared file system for Ray Train's own small files; removed at the end.

    Call order: ``following()`` until it returns None or raises; ``abort()`` at any moment instead. Both are to be
    called from one thread.
    """

    def __init__(self, job: Job, loop: TrainingLoop, scratch: Path) -> None:
        self._folder = scratch / uuid.uuid4().hex[:12]
        self._queue = Queue(maxsize=QUEUE_ROWS, actor_options={"num_cpus": 0})
        self._controller: Any = None
        self._error: BaseException | None = None
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
        cuda = resources.gpus_per_worker > 0
        signals = _Signals(self._queue, resources)
        transport = {k: v for k, v in job.environment.items() if k.startswith(("NCCL_", "GLOO_"))}

        def train() -> None:
            train_worker(job, loop)

        return TorchTrainer(
            train,
            torch_config=_TransportConfig(
                backend="nccl" if cuda else "gloo", timeout_s=math.ceil(resources.collective_timeout)
            ),
            scaling_config=ray.train.ScalingConfig(
                num_workers=resources.workers,
                use_gpu=cuda,
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
                    _Reports(self._queue),
                    ControllerHandle(signals.controller),
                    StartWatch(signals.waits, signals.breaks),
                    PlacementGuard(),
                ],
                # The process group is formed before the worker function runs.
                worker_runtime_env={"env_vars": transport} if transport else None,
                logging_config=ray.train.LoggingConfig(log_level="ERROR"),
            ),
        )

    def _next(self, timeout: float) -> tuple[str, Any] | None:
        try:
            kind, value = self._queue.get(timeout=timeout) if timeout else self._queue.get(block=False)
        except Empty:
            return None
        return str(kind), value

    def following(self, stop: Callable[[], bool] = lambda: False) -> EpochRow | str | None:
        """Wait for what comes next: a row, or a text when something else happened.

        None when every rank has returned, or when ``stop`` says so.

        Raises:
            UserError: as raised by a rank.
            TrainingFailed: a rank failed, or more workers were lost than ``resources.max_failures`` allows.
        """
        while True:
            # Read before looking into the queue: a row that came before the end must not be missed.
            running = self._thread.is_alive()
            item = self._next(0.2 if running else 0.0)
            if item is None:
                if running and stop():
                    self.abort()
                    return None
                if running:
                    continue
                break
            kind, value = item
            if kind == "controller":
                self._controller = value
            else:
                return cast("EpochRow | str", value)
        self._close()
        if self._error is not None:
            raise translate(self._error) from self._error
        return None

    def abort(self) -> None:
        """Stop every rank, at once and whatever it is doing, and free its places. Nothing happens if it has ended."""
        deadline = time.monotonic() + ABORT_SECONDS
        while self._thread.is_alive() and self._controller is None and time.monotonic() < deadline:
            item = self._next(0.2)
            if item is not None and item[0] == "controller":
                self._controller = item[1]
        if self._thread.is_alive() and self._controller is not None:
            reply = abort(self._controller)
            while not ray.wait([reply], timeout=0.1)[0] and time.monotonic() < deadline:
                while self._next(0.0) is not None:  # the controller may be waiting for room in the queue
                    pass
            self._thread.join(max(0.0, deadline - time.monotonic()))
        self._close()

    def _close(self) -> None:
        self._queue.shutdown(force=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def follow_group(
    job: Job, loop: TrainingLoop, scratch: Path, stop: Callable[[], bool] = lambda: False
) -> Iterator[EpochRow | str]:
    """Yield the rows of a worker group, and texts about what else happens.

    Closing the iterator early, or ``stop`` saying so, stops the group.
    """
    group = GroupTraining(job, loop, scratch)
    try:
        while (item := group.following(stop)) is not None:
            yield item
    finally:
        group.abort()


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
