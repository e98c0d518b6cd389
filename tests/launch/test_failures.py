"""Which errors end a training, and which only interrupt it."""

from __future__ import annotations

import pickle

import pytest
from ray.exceptions import ActorDiedError
from ray.train import ControllerError, WorkerGroupError

from stdcl.errors import UserError
from stdcl.launch.worker_group import (
    TrainingDiverged,
    TrainingFailed,
    _Fatal,
    _translate,
    fatal_error,
    is_divergence,
    is_lost_worker,
)
from stdcl.train.trainer import Diverged

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
    user = _translate(ControllerError(pickle.loads(pickle.dumps(_Fatal("user", "the data are missing")))))
    assert isinstance(user, UserError)
    assert str(user) == "the data are missing"
    diverged = _translate(ControllerError(_Fatal("diverged", "the loss is nan")))
    assert isinstance(diverged, TrainingDiverged)
    assert is_divergence(diverged)
    assert is_divergence(Diverged("nan"))
    failed = _translate(ControllerError(_Fatal("failed", "rank 0: ValueError: a fault")))
    assert type(failed) is TrainingFailed
    lost = _translate(WorkerGroupError("lost", {1: DEAD}))
    assert isinstance(lost, TrainingFailed)
    assert "resources.max_failures" in str(lost)
