"""Everything that reaches into Ray's inside: private names, developer-level hooks, and the wording of messages.

Each item says what Ray lacks, in which version that was seen, and where it is discussed. A test in
``tests/launch/test_ray_workarounds.py`` fails when the hook no longer bites, so that a new version of Ray is tried by
running that file. Nothing else in the package may name ``ray.*._internal`` or ``ray._private``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray._private import state, worker
from ray._private.grpc_utils import init_grpc_channel
from ray._private.services import canonicalize_bootstrap_address
from ray.core.generated.gcs_service_pb2 import CheckAliveRequest
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
from ray.exceptions import NodeDiedError, RayActorError
from ray.job_config import JobConfig
from ray.train.torch import TorchConfig
from ray.train.v2._internal.exceptions import (
    InsufficientClusterResourcesError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
)

# Developer-level: ``ray.train.RunConfig(callbacks=...)`` takes them, but only ``UserCallback`` is exported.
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.controller.state import ReschedulingState

from stdcl.errors import UserError

LOST_WORKERS = (RayActorError, NodeDiedError, WorkerHealthCheckFailedError)
"""What a rank's error is when its process or node went away. (Ray 2.60: the health check's is not exported.)"""

SETUP_FAILURES = (WorkerGroupStartupTimeoutError, WorkerGroupStartupFailedError, InsufficientClusterResourcesError)
"""What Ray Train's controller raises when a worker group cannot be placed or started. (Ray 2.60: not exported.)"""

ANSWER_SECONDS = 5.0
"""How long a head is given to say whether it takes our token."""

HEAD = "node:__internal_head__"
"""The resource of the head node: a small part of it pins a process there. (Ray 2.60: no public label for it.)"""

TEXT_AROUND_A_CAUSE = re.compile(r"^(?:Failure # \d+ |The actor died |The actor experienced |ray::|\s|\(pid=|$)")
"""Lines by which Ray surrounds the cause of a failure. (Ray 2.60: the text is all that Tune keeps of some errors.)"""


class ControllerHandle(ControllerCallback):  # type: ignore[misc]
    """Gives the handle of Ray Train's controller away, so that its run can be aborted.

    Ray 2.60 aborts a run on Ctrl-C in the process that called ``fit`` alone: a Tune trial that is stopped leaves its
    workers and their places behind (ray-project/ray#54305, #56011).

    Args:
        give: called in the controller's process with the handle.
    """

    def __init__(self, give: Callable[[Any], None]) -> None:
        self._give = give

    def after_controller_start(self, train_run_context: Any) -> None:
        self._give(ray.get_runtime_context().current_actor)


class StartWatch(ControllerCallback):  # type: ignore[misc]
    """Tells each time that a worker group could not be started and Ray Train is about to try again.

    Ray 2.60 counts a group that waits for places like one that broke in starting, and says either in its own log alone.

    Args:
        on_wait: called when the places were not free within ``RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S``.
        on_break: called with the error of a group that broke in starting; what it raises ends the run.
    """

    def __init__(self, on_wait: Callable[[], None], on_break: Callable[[BaseException], None]) -> None:
        self._on_wait = on_wait
        self._on_break = on_break

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        if not isinstance(current_state, ReschedulingState):
            return
        cause = getattr(current_state.training_failed_error, "controller_failure", None)
        if isinstance(cause, WorkerGroupStartupTimeoutError):
            self._on_wait()
        elif isinstance(cause, BaseException):
            self._on_break(cause)


def draining_nodes() -> Mapping[str, int]:
    """Return the ids of nodes that are about to be taken away, with the time of that in ms since 1970 (0: unknown).

    Ray 2.60 tells the ranks of a Train worker group alone, by a barrier, and a Tune trial not at all.
    """
    found: Mapping[str, int] = state.state.get_draining_nodes()
    return found


def abort(controller: Any) -> Any:
    """Ask a controller to stop its workers and to free their places; return the reference of its answer."""
    return controller.abort.remote()


class PlacementGuard(WorkerGroupCallback):  # type: ignore[misc]
    """Frees the places of a worker group that failed while it was being formed.

    Ray 2.60 forgets them when the process group cannot be set up, or a worker dies in that moment, and removes them
    with the driver only (as before ray-project/ray#58515): on a full cluster every later training would wait for ever.
    """

    @contextmanager
    def on_worker_group_start(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            frame = error.__traceback__
            while frame is not None:
                places = frame.tb_frame.f_locals.get("pg_handle")
                if places is not None:
                    places.shutdown()
                    break
                frame = frame.tb_next
            raise


_TorchBackend: Any = TorchConfig().backend_cls

PEERS_SECONDS = 5.0
"""How long a rank whose process group failed is given to show that it lives."""


class GuardedBackend(_TorchBackend):  # type: ignore[misc]
    """Ray Train's torch backend with a step before the process group forms, and a say in what its failure means.

    Ray 2.60 offers no hook between the start of the workers and ``init_process_group``, and treats an error in it as
    one of its own (ray-project/ray#37461 is the address that gloo chooses there).
    """

    @staticmethod
    def prepare() -> None:
        """Run on every rank before the process group forms."""
        raise NotImplementedError

    @staticmethod
    def refusal(error: BaseException) -> Exception:
        """Return what to raise for a ``UserError`` of ``prepare``."""
        raise NotImplementedError

    @staticmethod
    def failure(error: BaseException) -> Exception:
        """Return what to raise for an error in forming the group while all ranks live."""
        raise NotImplementedError

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        try:
            worker_group.execute(self.prepare)
        except UserError as error:
            raise self.refusal(error) from None
        try:
            super().on_start(worker_group, backend_config)
        except RayActorError:
            raise  # Ray starts the group again
        except Exception as error:
            # So does it if a rank has died: the others' errors are consequences.
            answers = worker_group.execute_async(self.prepare)
            ray.get(ray.wait(answers, num_returns=len(answers), timeout=PEERS_SECONDS)[0])
            raise self.failure(error) from None


def node_of(error: BaseException) -> str | None:
    """Return the address of the node that a task's error came from. (Ray 2.60: only the text says it.)"""
    found = re.search(r"\bip=([0-9A-Fa-f.:]+)", str(error))
    return found[1] if found else None


class PathOfWorkers(JobConfig):  # type: ignore[misc]
    """Settings of a job whose workers get one folder first on their path, and nothing else of the driver's.

    Ray 2.60 gives them the driver's current folder and its script's, ahead of what is installed, unless the job has a
    working directory.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(_py_driver_sys_path=[str(folder)])

    def _runtime_env_has_working_dir(self) -> bool:
        """What Ray asks before it adds the two folders."""
        return True


def refuses_token(address: str) -> bool:
    """Whether the head of a cluster answers that the token of this process is missing or wrong.

    Ray 2.60 tries for 20 seconds, with a line of its own for each, and then says that nothing answers there.

    Args:
        address: HOST:PORT, or ``auto``.
    """
    import grpc

    try:
        found = canonicalize_bootstrap_address(address)
    except ConnectionError:
        return False  # ``auto`` and no cluster here, as Ray will say
    if found is None:
        return False
    with init_grpc_channel(found) as channel:
        try:
            NodeInfoGcsServiceStub(channel).CheckAlive(CheckAliveRequest(), timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            return bool(error.code() == grpc.StatusCode.UNAUTHENTICATED)
    return False


@contextmanager
def short_messages() -> Iterator[None]:
    """Show the first sentence of what Ray's nodes tell a driver, for as long as the body runs.

    Ray 2.60 prints the last 20 lines of a dead raylet's log, its dump of counters, whatever ``log_to_driver`` says.
    """
    real = worker.print_to_stdstream

    def shortened(data: Any, *more: Any, **named: Any) -> None:
        real({**data, "lines": [first_sentence(line) for line in data["lines"]]}, *more, **named)

    worker.print_to_stdstream = shortened
    try:
        yield
    finally:
        worker.print_to_stdstream = real


def first_sentence(text: str) -> str:
    """Return a message of Ray's without the lines of a log that follow it."""
    return text.partition("\n")[0].partition(" Last 20 lines of")[0]


def came_up_late(error: BaseException) -> bool:
    """Whether ``ray.init`` failed because the machine was too busy for Ray's time limits.

    Ray allows its node 30 seconds and its dashboard some; it raises a bare Exception then (Ray 2.60;
    ray-project/ray#62883, #50474).
    """
    return any(mark in str(error) for mark in ("timed out during startup", "dashboard.log"))


@dataclass(frozen=True)
class Death:
    """Why the process of a trial died."""

    cause: BaseException | str
    """The error, or what Ray wrote of it."""
    never_began: bool
    """The process could not be set up, so that the next trial's could not either."""


def death_of(trial: Any) -> Death:
    """Return why the process of one of Tune's trials died.

    Read from where this machine's Tune wrote it just now: its own ``Trial.get_error`` looks where the file is copied
    to later, and finds nothing yet in a callback (Ray 2.60).
    """
    pickled, text = trial.pickled_error_file, trial.error_file
    with suppress(Exception):  # an error of a class that is not known here
        error = cloudpickle.loads(Path(pickled).read_bytes())
        return Death(error, bool(getattr(error, "actor_init_failed", False)))
    with suppress(OSError):
        if text:
            return Death(Path(text).read_text(errors="replace").rpartition("Failure # ")[2], False)
    return Death("", False)


def forget_finished(trials: list[Any]) -> None:
    """Take finished trials but the last off Ray Tune's own list, and what they hold from them.

    Ray 2.60 walks through all trials of an experiment in every step, and keeps copies of each one's configuration and
    last result: a trial costs more the more there were before it.

    Args:
        trials: the list that Tune gives to a callback at the end of a step.
    """
    *forgotten, _ = [trial for trial in trials if trial.is_finished()] or [None]
    if not forgotten:
        return
    trials[:] = [trial for trial in trials if trial not in forgotten]
    for trial in forgotten:
        trial.config, trial.evaluated_params, trial.experiment_tag = {}, {}, ""
        trial.run_metadata = type(trial.run_metadata)()
