"""``requests/``: what a sweep's driver is asked for, from any machine that sees the folder, and what it answers.

A request is a file, ``<id>.json``; the driver obeys it, removes it and leaves ``<id>.answer``, which the asker removes.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from stdcl import atomic
from stdcl.errors import UserError

Verb = Literal["stop", "pause", "unpause", "retry"]
VERBS: tuple[Verb, ...] = get_args(Verb)
ANSWER_SECONDS = 20.0


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        verb: what to do.
        trials: keys of trials; empty for the whole sweep.
    """

    verb: Verb
    trials: tuple[str, ...] = ()


def ask(folder: Path, request: Request) -> Path:
    """Leave a request; returns where the answer will be.

    Raises:
        OSError: it could not be written.
    """
    name = f"{time.time_ns():020d}-{os.urandom(4).hex()}"
    atomic.write_json(folder / f"{name}.json", asdict(request))
    return folder / f"{name}.answer"


def wait_for_answer(
    path: Path,
    seconds: float = ANSWER_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> str | None:
    """Return the answer and remove it; None if there is none in time."""
    deadline = clock() + seconds
    while True:
        with suppress(OSError):
            said = path.read_text(encoding="utf-8")
            path.unlink()
            return said.strip()
        if clock() >= deadline:
            return None
        sleep(0.1)


def obey(folder: Path, act: Callable[[Request], str]) -> int:
    """Obey every request in the order of asking; returns how many there were.

    Args:
        folder: of the requests.
        act: does what a request asks for, and returns the answer; of a ``UserError`` the text is the answer.
    """
    found = sorted(folder.glob("*.json"))
    for path in found:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            said = act(request(content["verb"], tuple(map(str, content["trials"]))))
        except UserError as error:
            said = str(error)
        except (OSError, ValueError, KeyError, TypeError) as error:
            said = f"not a request that this version of stdcl knows ({type(error).__name__}: {error})"
        with suppress(OSError):
            path.unlink()
            atomic.write_text(path.with_suffix(".answer"), said + "\n")
    return len(found)


def request(verb: str, trials: tuple[str, ...] = ()) -> Request:
    """Return a request.

    Raises:
        ValueError: there is no such verb.
    """
    known = next((each for each in VERBS if each == verb), None)
    if known is None:
        raise ValueError(f"{verb!r} is none of {', '.join(VERBS)}")
    return Request(known, trials)
