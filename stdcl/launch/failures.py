"""The cause of a failure in one sentence: without Ray's wrappers, tracebacks and terminal colours."""

from __future__ import annotations

import re

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_SOURCE_LINE = re.compile(r"^\[\S+\.(?:cc|cpp|cu|h):\d+\]\s*")
"""As gloo and NCCL begin their messages."""
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning)\b")
_WRAPPER = re.compile(r"^(?:Failure # \d+ |The actor died |The actor experienced |ray::|\s|\(pid=|$)")

LONGEST = 400


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
    said = [line for line in lines if not _WRAPPER.match(line)]
    return _shortened(
        (raised or said[-1:] or [line.strip() for line in lines if line.strip()] or ["no reason given"])[-1]
    )


def _first(text: str) -> str:
    lines = [line.strip() for line in _COLOURS.sub("", text).splitlines() if line.strip()]
    return _shortened(_SOURCE_LINE.sub("", lines[0])) if lines else ""


def _shortened(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 4]} ..."
