"""What a request does to the trials of a sweep: the same with a driver and without one.

A trial is held by the file ``ask`` in its run folder, which its process looks for while it trains and before it starts;
to let it go on is to remove the file.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stdcl.errors import UserError, nearest
from stdcl.locks import exclusive
from stdcl.results.ask import forget_ask, read_ask, write_ask
from stdcl.results.requests import ANSWER_SECONDS, Request, ask, wait_for_answer
from stdcl.results.state import Ending, State
from stdcl.results.status import SweepStatus

_NAMED = 3

_ENDED: dict[State, str] = {
    "finished": "is finished",
    "pruned": "was stopped early by the scheduler, which has judged it",
}


@dataclass(frozen=True)
class Steered:
    """What became of a request.

    Attributes:
        said: the answer.
        released: trials that may go on now.
    """

    said: str
    released: tuple[str, ...] = ()


def find_trial(status: SweepStatus, word: str) -> str:
    """Return the key that ``word`` means: a whole key, or a part of one trial's key alone.

    Raises:
        UserError: no trial's, or several.
    """
    if word in status.trials:
        return word
    found = [key for key in status.trials if word in key]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
        raise UserError(f"'{word}' is part of {len(found)} trials' names: {listed}; give more of it")
    raise UserError(
        f"{status.folder.root.name} has no trial '{word}'{nearest(word, status.trials)}; `stdcl status "
        f"{status.folder.root.name}` lists them"
    )


def steer(status: SweepStatus, request: Request) -> Steered:
    """Hold or release trials as a request says; the whole sweep's stop and pause are the driver's own.

    Raises:
        UserError: there is no such trial, or it is in a state in which that makes no sense.
    """
    keys = [find_trial(status, word) for word in request.trials]
    if request.verb == "stop":
        return _hold(status, keys, "stopped")
    if request.verb == "pause":
        return _hold(status, keys, "paused")
    if request.verb == "unpause":
        return _unpause(status, keys)
    return _retry(status, keys)


def command_of(status: SweepStatus) -> str:
    """Return the command that goes on with a sweep: what was typed, else one that reads its own file."""
    if status.driver is not None:
        return status.driver.command
    return shlex.join(["stdcl", "sweep", str(status.folder.sweep_file)])


def steer_from_outside(status: SweepStatus, request: Request) -> str:
    """Let a request be obeyed: by the sweep's driver where one lives, else here.

    Raises:
        UserError: as ``steer``; nothing runs that could be stopped; or the folder cannot be written to.
    """
    folder, beat = status.folder, status.driver
    request = replace(request, trials=tuple(find_trial(status, word) for word in request.trials))
    try:
        if beat is not None and beat.alive():
            answer = wait_for_answer(path := ask(folder.requests, request))
            return answer or (
                f"the driver (process {beat.pid} on {beat.host}) has not answered within {ANSWER_SECONDS:g} s; the "
                f"request stays in {path.parent} until it does"
            )
        with exclusive(folder.lock, f"the sweep '{status.plan.sweep}'"):
            if request.verb in ("stop", "pause") and not request.trials:
                raise UserError(f"no driver of {folder.root.name} runs: there is nothing to {request.verb}")
            return f"{steer(status, request).said}\nno driver runs; to continue: {command_of(status)}"
    except OSError as error:
        raise UserError(f"{folder.root}: not written to ({error.strerror})") from None


def _hold(status: SweepStatus, keys: Sequence[str], ending: Ending) -> Steered:
    for key in keys:
        state = status.trials[key].state
        if state in _ENDED:
            raise UserError(f"{key} {_ENDED[state]}: there is nothing to stop")
    lines = []
    for key in keys:
        write_ask(status.folder.run(key).ask, ending)
        back = "unpause" if ending == "paused" else "retry"
        what = (
            "leaves after its step; with several workers a paused one after its epoch, a stopped one at once"
            if status.trials[key].state == "running"
            else "does not start"
        )
        lines.append(f"{key}: {ending}; it {what}, until `stdcl {back}`")
    return Steered("\n".join(lines))


def _unpause(status: SweepStatus, keys: Sequence[str]) -> Steered:
    asks = {key: read_ask(status.folder.run(key).ask) for key in keys or status.trials}
    found = [key for key, asked in asks.items() if asked == "paused"]
    if other := [key for key in keys if key not in found]:
        raise UserError(f"{other[0]} is not paused, but {status.trials[other[0]].state}")
    for key in found:
        forget_ask(status.folder.run(key).ask)
    return Steered(f"{len(found)} trial(s) go on", tuple(found))


def _retry(status: SweepStatus, keys: Sequence[str]) -> Steered:
    again = [key for key, trial in status.trials.items() if trial.state in ("failed", "stopped")]
    for key in keys:
        trial = status.trials[key]
        if trial.state == "finished" and not trial.has_folder:
            write_ask(status.folder.run(key).ask, "interrupted")
        elif trial.state == "finished":
            raise UserError(f"{key} is finished; to train it again, move {status.folder.run(key).root} away first")
        elif key not in again:
            raise UserError(f"{key} is {trial.state}: there is nothing to try again")
    chosen = list(keys) or again
    for key in chosen:
        if read_ask(status.folder.run(key).ask) == "stopped":
            forget_ask(status.folder.run(key).ask)
    return Steered(f"{len(chosen)} trial(s) are tried again", tuple(chosen))
