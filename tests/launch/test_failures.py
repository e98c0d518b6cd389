"""Which errors end a training, and which only interrupt it."""

from __future__ import annotations

import pickle

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal import exceptions as ray_train_exceptions

from stdcl.errors import UserError
from stdcl.launch.failures import (
    LONGEST,
    ClusterSetupFailed,
    Fatal,
    TrainingDiverged,
    TrainingFailed,
    fatal_error,
    is_divergence,
    is_lost_worker,
    one_sentence,
    root_cause,
    translate,
)
from stdcl.training.trainer import Diverged

GLOO = RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:41098: Connection reset by peer")
TIMEOUT = RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 60000ms for recv operation")
DEAD = ActorDiedError()
FAULT = ValueError("a fault")


def test_dead_workers_and_broken_connections_are_lost_workers() -> None:
    assert is_lost_worker(DEAD)
    assert is_lost_worker(GLOO)
    assert is_lost_worker(TIMEOUT)
    assert not is_lost_worker(FAULT)
    assert not is_lost_worker(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_lost_worker(UserError("no"))


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ({1: DEAD}, None),
        ({0: GLOO, 1: DEAD}, None),
        ({0: TIMEOUT}, None),
        ({0: FAULT}, (0, FAULT)),
        ({0: GLOO, 1: FAULT}, (1, FAULT)),
        ({0: FAULT, 1: DEAD}, None),
    ],
)
def test_the_error_that_ends_a_training_is_the_one_that_comes_again(
    errors: dict[int, Exception], expected: tuple[int, Exception] | None
) -> None:
    assert fatal_error(errors) == expected


def test_errors_arrive_as_what_they_were() -> None:
    user = translate(ControllerError(pickle.loads(pickle.dumps(Fatal("user", "the data are missing")))))
    assert isinstance(user, UserError)
    assert str(user) == "the data are missing"
    diverged = translate(ControllerError(Fatal("diverged", "the loss is nan")))
    assert isinstance(diverged, TrainingDiverged)
    assert is_divergence(diverged)
    assert is_divergence(Diverged("nan"))
    failed = translate(ControllerError(Fatal("failed", "rank 0: ValueError: a fault")))
    assert type(failed) is TrainingFailed
    lost = translate(WorkerGroupError("lost", {1: DEAD}))
    assert isinstance(lost, TrainingFailed)
    assert "resources.max_failures" in str(lost)


def _of_a_task(error: Exception) -> Exception:
    text = f"Traceback (most recent call last):\n  File 'x.py', line 1, in f\n{type(error).__name__}: {error}"
    return RayTaskError("f", text, error, proctitle="ray::f").as_instanceof_cause()


NOT_CONNECTED = RuntimeError(
    "[/pytorch/gloo/transport/tcp/pair.cc:144] Gloo connectFullMesh failed with [..] timed out connecting: SO_ERROR: "
    "Connection refused, remote=[127.0.1.1]:38137\nand more"
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("no\nmore"), "ValueError: no"),
        (KeyError(), "KeyError"),
        (_of_a_task(ValueError("no")), "ValueError: no"),
        (ControllerError(_of_a_task(ValueError("no"))), "ValueError: no"),
        (
            NOT_CONNECTED,
            "RuntimeError: Gloo connectFullMesh failed with [..] timed out connecting: SO_ERROR: Connection refused, "
            "remote=[127.0.1.1]:38137",
        ),
        pytest.param(str(_of_a_task(ValueError("no"))), "ValueError: no", id="a task's own text"),
        ("\x1b[36mray::f()\x1b[39m (pid=1)\n  x\npandas.errors.ParserError: no\n", "pandas.errors.ParserError: no"),
        ("", "no reason given"),
        ("only words", "only words"),
        ("x" * 1000, "x" * (LONGEST - 4) + " ..."),
    ],
)  # fmt: skip
def test_one_sentence_without_wrappers_and_colours(error: Exception | str, expected: str) -> None:
    assert one_sentence(error) == expected


def test_a_process_killed_by_the_system_is_described_by_ray_itself() -> None:
    text = (
        "The actor died unexpectedly before finishing this task.\n\tclass_name: LocalTrial\n\tactor_id: 12\n\tip: "
        "10.0.0.2\nThe actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
    )
    expected = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
    assert one_sentence(text) == expected


def test_the_root_cause_is_below_every_wrapper() -> None:
    inner = ValueError("no")
    assert root_cause(ControllerError(RayTaskError("f", "Traceback", inner, proctitle="p"))) is inner
    assert root_cause(inner) is inner


@pytest.mark.parametrize(
    "name", ["WorkerGroupStartupTimeoutError", "WorkerGroupStartupFailedError", "InsufficientClusterResourcesError"]
)
def test_a_group_that_does_not_start_is_the_fault_of_the_cluster(name: str) -> None:
    kind = getattr(ray_train_exceptions, name)
    failed = translate(ControllerError(kind(2) if "Timeout" in name else kind("why it failed")))
    assert isinstance(failed, ClusterSetupFailed)
    assert str(failed).startswith(f"the worker group did not start ({name}: ")


def test_ranks_that_cannot_connect_are_the_fault_of_the_cluster() -> None:
    failed = translate(ControllerError(pickle.loads(pickle.dumps(Fatal("setup", "the workers cannot connect")))))
    assert isinstance(failed, ClusterSetupFailed)
    assert str(failed) == "the workers cannot connect"
