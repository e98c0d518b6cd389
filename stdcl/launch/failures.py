"""What the failure of a training means: whose it is, whether another attempt makes sense, and its cause in a sentence.

A cause is shown without Ray's wrappers, tracebacks and terminal colours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from stdcl.errors import UserError
from stdcl.launch.ray_workarounds import LOST_WORKERS, SETUP_FAILURES, TEXT_AROUND_A_CAUSE, node_of

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_SOURCE_LINE = re.compile(r"^\[\S+\.(?:cc|cpp|cu|h):\d+\]\s*")
"""As gloo and NCCL begin their messages."""
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning)\b")

LONGEST = 400


class TrainingFailed(Exception):
    """A training ended in an error that another attempt would meet again, or in too many lost workers."""


class TrainingDiverged(TrainingFailed):
    """The loss of a training was not finite."""


class ClusterSetupFailed(TrainingFailed):
    """The cluster could not place a worker group or connect its ranks: the training did not begin."""


class Fatal(Exception):
    """Tells Ray Train's controller not to start the group again. Carries plain text, so that it always unpickles."""

    def __init__(self, kind: Literal["user", "diverged", "failed", "setup"], message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message


def is_divergence(error: BaseException) -> bool:
    """Whether ``error`` says that the loss was not finite."""
    from stdcl.training.trainer import Diverged

    return isinstance(error, (TrainingDiverged, Diverged))


def is_lost_worker(error: BaseException) -> bool:
    """Whether ``error`` speaks of a worker or a connection that went away, so that a new attempt makes sense."""
    if isinstance(error, LOST_WORKERS):
        return True
    # torch.distributed's errors, and our mailbox's.
    if {cls.__name__ for cls in type(error).__mro__} & {
        "DistNetworkError", "DistBackendError", "DistStoreError", "LostRank",
    }:  # fmt: skip
        return True
    # gloo raises plain RuntimeErrors.
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        mark in text
        for mark in ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
    )


def fatal_error(errors: Mapping[int, BaseException]) -> tuple[int, BaseException] | None:
    """Return (rank, error) of the error that ends the training, or None if the group was only broken from outside.

    When one rank goes, the others' collectives fail as well: those errors are consequences.
    """
    lost = [error for error in errors.values() if is_lost_worker(error)]
    if any(not isinstance(error, RuntimeError) for error in lost):
        return None
    own = [(rank, error) for rank, error in sorted(errors.items()) if not is_lost_worker(error)]
    return own[0] if own else None


def not_connected(error: BaseException) -> Fatal:
    """Return what to raise when ranks that live cannot form their process group."""
    node = node_of(error)
    where = f"on node {node}: " if node else ""
    return Fatal(
        "setup",
        f"the workers cannot connect to each other ({where}{one_sentence(error)}). Every node must reach the others at "
        "the addresses that 'ray list nodes' shows; GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME names another interface",
    )


def refused(error: BaseException) -> Fatal:
    """Return what to raise when a rank finds, before it connects, that it cannot train on its node."""
    node = node_of(error)
    return Fatal("setup", f"{f'on node {node}: ' if node else ''}{root_cause(error)}")


def translate(error: BaseException) -> Exception:
    """Return what Ray Train's ``fit`` raised as one of the errors above, or as the user's."""
    cause = getattr(error, "controller_failure", error)
    if isinstance(cause, Fatal):
        kinds = {
            "user": UserError,
            "diverged": TrainingDiverged,
            "failed": TrainingFailed,
            "setup": ClusterSetupFailed,
        }
        return kinds[cause.kind](cause.message)
    failures = getattr(error, "worker_failures", None)
    if failures:
        first = "; ".join(f"rank {rank}: {first_line(failure)}" for rank, failure in sorted(failures.items()))
        return TrainingFailed(f"workers were lost more often than resources.max_failures allows; last: {first}")
    if isinstance(cause, SETUP_FAILURES):
        return ClusterSetupFailed(f"the worker group did not start ({one_sentence(cause)})")
    return TrainingFailed(one_sentence(cause))


def first_line(error: BaseException) -> str:
    """Return the kind of an error and its first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


def root_cause(error: BaseException) -> BaseException:
    """Return the exception that Ray's wrappers hold (a task's error, a controller's, a health check's)."""
    for _ in range(10):
        for name in ("controller_failure", "health_check_failure", "cause"):
            inner = getattr(error, name, None)
            if isinstance(inner, BaseException) and inner is not error:
                error = inner
                break
        else:
            break
    return error


def one_sentence(error: BaseException | str) -> str:
    """Return what went wrong as one line.

    Args:
        error: an exception, or what Ray made of one: its text with a traceback of the process that it came from.
    """
    if isinstance(error, BaseException):
        inner = root_cause(error)
        text = str(inner)
        if type(inner).__module__ == "ray.exceptions":
            return one_sentence(text)  # of a process that died: what Ray says of it
        kind = type(inner).__name__
        line = _first(text)
        return f"{kind}: {line}" if line else kind
    lines = [line.rstrip() for line in _COLOURS.sub("", error).splitlines()]
    raised = [line for line in lines if _EXCEPTION.match(line)]
    said = [line for line in lines if not TEXT_AROUND_A_CAUSE.match(line)]
    return _shortened(
        (raised or said[-1:] or [line.strip() for line in lines if line.strip()] or ["no reason given"])[-1]
    )


def _first(text: str) -> str:
    lines = [line.strip() for line in _COLOURS.sub("", text).splitlines() if line.strip()]
    return _shortened(_SOURCE_LINE.sub("", lines[0])) if lines else ""


def _shortened(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 4]} ..."
