"""Each hook into Ray's inside still bites: what it holds on to is there, and does what it is needed for.

No cluster runs here; ``tests/ray`` and ``tests/cluster`` have the same on real ones.
"""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import ray
from ray.core.generated.gcs_service_pb2 import CheckAliveReply
from ray.core.generated.gcs_service_pb2_grpc import (
    NodeInfoGcsServiceServicer,
    add_NodeInfoGcsServiceServicer_to_server,
)
from ray.exceptions import ActorUnschedulableError, NodeDiedError, RayActorError, RayTaskError
from ray.train import ControllerError
from ray.train.torch import TorchConfig
from ray.train.v2._internal.callbacks.backend_setup import BackendSetupCallback
from ray.train.v2._internal.exceptions import RayTrainError, WorkerHealthCheckFailedError
from ray.train.v2._internal.execution import controller as controllers
from ray.train.v2._internal.execution.controller.state import ReschedulingState, RunningState
from ray.train.v2._internal.execution.failure_handling.default import RETRYABLE_CONTROLLER_ERRORS
from ray.train.v2._internal.execution.worker_group import worker_group as groups
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.util import get_node_ip_address

from stdcl.launch import ray_workarounds as workarounds
from stdcl.launch.worker_group import _TransportConfig


def test_a_dead_rank_is_reported_by_the_errors_that_are_recognised() -> None:
    assert issubclass(ActorUnschedulableError, workarounds.LOST_WORKERS) is issubclass(
        ActorUnschedulableError, RayActorError
    )
    assert issubclass(NodeDiedError, workarounds.LOST_WORKERS)
    assert "WorkerHealthCheckFailedError(" in inspect.getsource(inspect.getmodule(groups.WorkerGroup))  # type: ignore[arg-type]
    assert isinstance(WorkerHealthCheckFailedError("x", RayActorError()), workarounds.LOST_WORKERS)


def test_what_ray_retries_in_starting_a_group_is_recognised() -> None:
    assert set(RETRYABLE_CONTROLLER_ERRORS) <= set(workarounds.SETUP_FAILURES)
    assert all(issubclass(kind, RayTrainError) for kind in workarounds.SETUP_FAILURES)
    source = inspect.getsource(groups)
    assert all(f"raise {kind.__name__}(" in source for kind in workarounds.SETUP_FAILURES)


def test_the_head_node_has_the_resource_that_pins_to_it() -> None:
    from ray._common.constants import HEAD_NODE_RESOURCE_NAME

    assert workarounds.HEAD == HEAD_NODE_RESOURCE_NAME


def test_the_controller_hands_itself_over_and_can_be_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(current_actor="handle"))
    workarounds.ControllerHandle(given.append).after_controller_start(None)
    assert given == ["handle"]
    assert inspect.iscoroutinefunction(controllers.controller.TrainController.abort)
    assert '"after_controller_start"' in inspect.getsource(controllers.controller.TrainController._start)


def test_nodes_that_are_drained_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import state

    accessor = SimpleNamespace(get_draining_nodes=lambda: {"a": 5})
    monkeypatch.setattr(state.state, "_connect_and_get_accessor", lambda: accessor)
    assert workarounds.draining_nodes() == {"a": 5}


def test_a_group_that_waits_for_places_is_told_from_one_that_broke() -> None:
    told: list[str] = []
    watch = workarounds.StartWatch(lambda: told.append("waits"), lambda error: told.append(type(error).__name__))
    timeout, broken = workarounds.SETUP_FAILURES[0](2), workarounds.SETUP_FAILURES[1]("no")
    for cause in (timeout, broken):
        watch.after_controller_state_update(None, ReschedulingState(ControllerError(cause)))
    watch.after_controller_state_update(None, RunningState())
    assert told == ["waits", "WorkerGroupStartupFailedError"]
    source = inspect.getsource(controllers.controller.TrainController)
    assert '"after_controller_state_update"' in source
    assert "ReschedulingState(training_failed_error=training_failed_error)" in source


class _Places:
    placement_group = None
    freed = 0

    def wait(self, timeout: float) -> bool:
        return True

    def shutdown(self) -> None:
        self.freed += 1


class _Fails(workarounds.WorkerGroupCallback):  # type: ignore[misc,name-defined]
    """As ``Backend.on_start`` when the process group does not form."""

    def after_worker_group_start(self, worker_group: Any) -> None:
        raise RuntimeError("no process group")


def _failing_group(monkeypatch: pytest.MonkeyPatch, callbacks: list[Any]) -> _Places:
    """Ray's own code that starts a group, with stand-ins for all that needs a cluster; it fails at its end."""
    places = _Places()
    monkeypatch.setattr(groups, "SynchronizationActor", SimpleNamespace(options=_options))
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "node"))
    group = groups.WorkerGroup.__new__(groups.WorkerGroup)
    group.__dict__.update(
        _train_run_context=SimpleNamespace(scaling_config=None),
        _worker_group_context=SimpleNamespace(num_workers=1, resources_per_worker={"CPU": 1}),
        _callbacks=callbacks,
        _replica_group_callbacks=[],
        _worker_group_state=None,
        _worker_group_start_timeout_s=1.0,
        _collective_timeout_s=1.0,
        _collective_warn_interval_s=1.0,
        _manages_replica_groups=False,
        _create_placement_group=lambda *given: places,
        _create_workers=lambda *given, **more: [],
        _init_train_context=lambda *given: None,
        _assert_inactive=lambda: None,
    )
    monkeypatch.setattr(
        groups.WorkerGroup, "_check_cluster_resources_and_raise_if_insufficient", staticmethod(lambda *given: None)
    )
    with pytest.raises(RuntimeError, match="no process group"):
        group._start()
    return places


def _options(**given: Any) -> Any:
    return SimpleNamespace(remote=lambda **more: "actor")


def test_the_places_of_a_group_that_did_not_form_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _failing_group(monkeypatch, [workarounds.PlacementGuard(), _Fails()]).freed == 1


def test_ray_itself_still_forgets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails, ``PlacementGuard`` can go."""
    assert _failing_group(monkeypatch, [_Fails()]).freed == 0


class _Ranks:
    """A worker group whose process group does not form."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.prepared = 0

    def execute(self, function: Any, *given: Any, **more: Any) -> None:
        self.prepared += 1

    def execute_async(self, function: Any) -> list[Any]:
        return []

    def execute_single(self, rank: int, function: Any) -> Any:
        raise self.error


def test_ray_forms_the_process_group_through_our_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = BackendSetupCallback(_TransportConfig(backend="gloo"))._backend
    assert isinstance(backend, workarounds.GuardedBackend)
    assert type(backend).on_start is workarounds.GuardedBackend.on_start
    assert isinstance(backend, TorchConfig().backend_cls)
    monkeypatch.setattr(ray, "wait", lambda answers, **more: (answers, []))
    monkeypatch.setattr(ray, "get", lambda answers: answers)
    ranks = _Ranks(RuntimeError("Connection refused"))
    with pytest.raises(Exception, match="the workers cannot connect to each other"):
        backend.on_start(ranks, _TransportConfig(backend="gloo"))
    assert ranks.prepared == 1
    with pytest.raises(RayActorError):
        backend.on_start(_Ranks(RayActorError()), _TransportConfig(backend="gloo"))


def test_the_text_of_a_task_s_error_names_its_node() -> None:
    traceback = "Traceback (most recent call last):\n  File 'x.py', line 1, in f\nValueError: no"
    error = RayTaskError("f", traceback, ValueError("no"), proctitle="ray::f", pid=1, ip="10.0.0.2")
    assert workarounds.node_of(error) == "10.0.0.2"
    assert workarounds.node_of(error.as_instanceof_cause()) == "10.0.0.2"
    assert workarounds.node_of(ValueError("no")) is None


def test_workers_get_no_folder_of_the_driver_s_but_the_given_one(tmp_path: Path) -> None:
    from ray._private import worker

    config = workarounds.PathOfWorkers(tmp_path)
    assert list(config._get_proto_job_config().py_driver_sys_path) == [str(tmp_path)]
    source = inspect.getsource(worker.connect)
    assert source.count("code_paths.append(") == 2
    assert source.count("not job_config._runtime_env_has_working_dir()") == 2, "what both folders depend on"


def test_what_nodes_tell_a_driver_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import worker

    message = (
        "Raylet is terminated. Possible reasons include: (1) SIGKILL. Last 20 lines of the Raylet logs:\n"
        "    [state-dump] NodeManager.GC - 1 total\n    [state-dump] 2"
    )
    shown: list[Any] = []
    monkeypatch.setattr(worker, "print_to_stdstream", lambda data, ignore_prefix: shown.append(data))
    with workarounds.short_messages():
        worker.print_to_stdstream({"lines": [message], "pid": "raylet"}, ignore_prefix=False)
    worker.print_to_stdstream({"lines": [message]}, ignore_prefix=False)
    assert shown[0] == {"lines": ["Raylet is terminated. Possible reasons include: (1) SIGKILL."], "pid": "raylet"}
    assert shown[1] == {"lines": [message]}, "as it was"
    source = inspect.getsource(worker.listen_error_messages)
    assert "print_to_stdstream(" in source
    assert '"lines": [error_message]' in source


def test_ray_still_says_that_it_came_up_late_in_these_words() -> None:
    from ray._private import node, services

    assert "timed out during startup" in inspect.getsource(node)
    assert "dashboard.log" in inspect.getsource(services)
    assert workarounds.came_up_late(Exception("The current node timed out during startup. This could"))
    assert not workarounds.came_up_late(Exception("no permission"))


@pytest.mark.parametrize("never_began", [True, False])
def test_tune_keeps_why_a_trial_s_process_died_where_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, never_began: bool
) -> None:
    monkeypatch.setattr(Trial, "local_path", property(lambda self: str(tmp_path)))
    trial = Trial("none", stub=True)
    trial.handle_error(RayActorError(error_msg="killed", actor_init_failed=never_began))
    death = workarounds.death_of(trial)
    assert isinstance(death.cause, RayActorError)
    assert death.never_began == never_began
    Path(trial.pickled_error_file).write_bytes(b"of a class that is not known here")
    assert workarounds.death_of(trial).cause != ""
    assert not workarounds.death_of(trial).never_began


def test_tune_hands_out_its_own_list_of_trials_and_reads_no_finished_one() -> None:
    """Tune's own list is shortened: what it reads of finished trials is whether they are."""
    source = inspect.getsource(TuneController)
    assert "self._callbacks.on_step_end(iteration=self._iteration, trials=self._trials)" in source
    trials = [Trial("stub", config={"trial": number}, stub=True) for number in range(5)]
    for trial in trials[:3]:
        trial.set_status(Trial.TERMINATED)
        trial.update_last_result({"config": trial.config})
    before = list(trials)
    workarounds.forget_finished(trials)
    assert trials == before[2:]
    assert [trial.config for trial in before[:3]] == [{}, {}, {"trial": 2}]
    assert ["config" in trial.last_result for trial in before[:3]] == [False, False, True]
    assert [trial.get_json_state()[0] != "" for trial in before] == [True] * 5
    workarounds.forget_finished(trials)
    assert trials == before[2:]


def test_the_lines_around_a_cause_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trial, "local_path", property(lambda self: str(tmp_path)))
    trial = Trial("none", stub=True)
    trial.handle_error(RayActorError(error_msg="The actor died because of an error"))
    first = Path(trial.error_file).read_text().splitlines()[0]
    assert workarounds.TEXT_AROUND_A_CAUSE.match(first)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(None, False), (grpc.StatusCode.UNAUTHENTICATED, True), (grpc.StatusCode.UNAVAILABLE, False)],
)
def test_a_head_that_refuses_the_token_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, answer: grpc.StatusCode | None, expected: bool
) -> None:
    class Head(NodeInfoGcsServiceServicer):  # type: ignore[misc]
        def CheckAlive(self, request: Any, context: grpc.ServicerContext) -> CheckAliveReply:
            if answer is not None:
                context.abort(answer, "InvalidAuthToken")
            return CheckAliveReply()

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    server = grpc.server(ThreadPoolExecutor(1))
    add_NodeInfoGcsServiceServicer_to_server(Head(), server)
    host = get_node_ip_address()  # by which Ray replaces 127.0.0.1
    port = server.add_insecure_port(f"{host}:0")
    server.start()
    try:
        assert workarounds.refuses_token(f"{host}:{port}") is expected
    finally:
        server.stop(None).wait()
