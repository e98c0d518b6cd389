"""Console progress of a sweep, and the record of finished attempts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ray import tune

from stdcl.config.sweep import Trial
from stdcl.errors import not_written
from stdcl.launch.failures import one_sentence
from stdcl.launch.ray_workarounds import death_of, forget_finished
from stdcl.results.progress import duration
from stdcl.results.state import HELD, Ending
from stdcl.results.wording import describe_epoch, describe_result
from stdcl.sweep.board import Board
from stdcl.sweep.record import Recorder
from stdcl.sweep.stopping import StopRequest
from stdcl.sweep.trainables import EPOCHS_DONE, ERROR, EVENT, SETUP_FAILED, STATUS, trial_key

Say = Callable[[str], None]

IDLE_SECONDS = 15.0
"""Without any trial that runs, until what they wait for is said."""
IDLE_WORDS_SECONDS = 600.0
"""Between two words about it."""

SETUP_FAILURES_IN_A_ROW = 2
"""After so many trials whose workers the cluster could not start, the next ones would fail as well."""


class Progress(tune.Callback):  # type: ignore[misc]
    """Follows the trials of one invocation.

    Args:
        trials: by key; trials of a search are added as they are proposed.
        board: told what each trial does.
        total: trials of the whole sweep.
        recorder: takes a row of each trial that ends.
        say: takes each line.
        stop: told of errors here.
        detail: takes the lines that the board shows better: of starts and epochs; ``say`` if None.
        news: what happened to the cluster since it was asked last.
        waiting: what the next trial waits for, in words.
        on_ended: told of each trial that ended (key, how); returns why no other may start, empty if one may.
        on_row: given each epoch's row.
    """

    def __init__(
        self,
        trials: dict[str, Trial],
        board: Board,
        total: int,
        recorder: Recorder,
        say: Say,
        stop: StopRequest,
        *,
        detail: Say | None = None,
        news: Callable[[], Sequence[str]] = tuple,
        waiting: Callable[[], str] = str,
        on_ended: Callable[[str, Ending], str] = lambda key, ending: "",
        on_row: Callable[[str, Mapping[str, Any]], None] = lambda key, row: None,
    ) -> None:
        self._on_row = on_row
        self._on_ended = on_ended
        self._news = news
        self._waiting = waiting
        self._running: set[str] = set()
        self._idle_since = time.monotonic()
        self._idle_patience = IDLE_SECONDS
        self.trials = trials
        self.failures: dict[str, str] = {}
        self._endings: dict[str, Ending] = {}
        self._board = board
        self._total = total
        self._recorder = recorder
        self._say = say
        self._detail = detail or say
        self._stop = stop
        self._noticed: set[str] = set()
        self._setup_failures = 0

    def __getstate__(self) -> dict[str, Any]:
        # Ray stores experiments with all they hold; this one is never restored.
        return {}

    # ---- Tune's hooks -----------------------------------------------------------------------------------------

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called by Tune all the time, whether something happens or not."""
        with self._stop.on_error():
            forget_finished(trials)
            for text in self._news():
                self._say(text)
            if self._running or self._stop.requested:
                self._idle_since, self._idle_patience = time.monotonic(), IDLE_SECONDS
            elif time.monotonic() - self._idle_since > self._idle_patience:
                self._idle_since, self._idle_patience = time.monotonic(), IDLE_WORDS_SECONDS
                if text := self._waiting():
                    self._say(text)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        key = trial_key(trial)
        if self._stop.held:
            self._recorder.ask(self.trials[key], "paused")
        self._board.begins(key, self.trials[key].config.training.epochs)
        self._running.add(key)
        self._line(key, "started", self._detail)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Mapping[str, Any], **info: Any
    ) -> None:
        key = trial_key(trial)
        if EVENT in result:
            self._line(key, str(result[EVENT]))
            return
        for notice in result.get("notices", ()):
            if notice not in self._noticed:
                self._noticed.add(notice)
                self._line(key, notice)
        if result[STATUS] in ("failed", "diverged") or EPOCHS_DONE not in result:
            return
        self._setup_failures = 0
        config = self.trials[key].config
        epochs, on = config.training.epochs, config.data.evaluate_on
        self._board.row(key, epochs, result)
        self._on_row(key, result)
        left = self._board.seconds_left()
        estimate = f"  about {duration(left)} left" if left else ""
        self._line(key, f"epoch {result[EPOCHS_DONE]}/{epochs}  {describe_epoch(result, on)}{estimate}", self._detail)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.discard(trial_key(trial))
        self._line(trial_key(trial), "its process died; starting again from the last checkpoint")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.discard(trial_key(trial))
        with self._stop.on_error():
            self._complete(trial_key(trial), trial.last_result or {})

    def _complete(self, key: str, result: Mapping[str, Any]) -> None:
        status = result.get(STATUS, "failed")
        if status == "finished":
            self._record(key, "finished", result)
            self._line(key, f"finished  {describe_result(result)}")
        elif status in HELD:
            self._record(key, status, result)
            back = "unpause" if status == "paused" else "retry"
            self._line(key, f"{status} on request; it goes on after `stdcl {back}`")
        elif status == "running":
            self._recorder.ask(self.trials[key], "pruned")
            self.stopped_early(key, result)
        else:
            self._fail(key, str(result.get(ERROR, "ended without a result")), result)
        self._count_setup_failures(str(result.get(ERROR, "")), status == "failed" and bool(result.get(SETUP_FAILED)))

    def stopped_early(self, key: str, row: Mapping[str, Any]) -> None:
        """Record and say that a trial ended with a row because others were better."""
        self._recorder.ask(self.trials[key], "pruned")
        self._record(key, "pruned", row)
        self._line(key, f"stopped early after epoch {row.get(EPOCHS_DONE)}: others were better")

    def _count_setup_failures(self, error: str, failed: bool) -> None:
        self._setup_failures = self._setup_failures + 1 if failed else 0
        if self._setup_failures == SETUP_FAILURES_IN_A_ROW:
            self._stop.request(f"the cluster could not start {self._setup_failures} trials in a row: {error}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.discard(trial_key(trial))
        with self._stop.on_error():
            death = death_of(trial)
            what = "the trial's process did not start" if death.never_began else "the trial's process died"
            error = f"{what}: {one_sentence(death.cause)}"
            self._fail(trial_key(trial), error, trial.last_result or {})
            self._count_setup_failures(error, death.never_began)

    def begin_again(self, key: str) -> None:
        """A trial that has ended is to run once more."""
        self._board.again(key, self._endings.pop(key, None))
        self.failures.pop(key, None)

    def active(self) -> list[str]:
        """Return the trials that have started and not ended."""
        return list(self._board.running())

    def close(self) -> None:
        """Record the trials that were cut off."""
        with self._stop.on_error():
            for key in self.active():
                done = self._board.epochs_done(key)
                self._record(key, "interrupted", {EPOCHS_DONE: done} if done else {})

    # ---- what they lead to ------------------------------------------------------------------------------------

    def _fail(self, key: str, error: str, result: Mapping[str, Any]) -> None:
        self.failures[key] = error
        self._record(key, "failed", result, error)
        self._line(key, f"FAILED: {error.splitlines()[0]}")

    def _record(self, key: str, status: Ending, result: Mapping[str, Any], error: str | None = None) -> None:
        started = self._board.since(key)
        self._endings[key] = status
        self._board.ends(key, status, error)
        more = {name: result[name] for name in ("trace",) if result.get(name)}
        if result.get(STATUS) == "diverged":
            more["diverged"] = True
        try:
            self._recorder.record(
                self.trials[key],
                status,
                result,
                more,
                error=error,
                started=started,
                finished=datetime.now(UTC),
            )
        except OSError as fault:  # of a full disk no other trial is to die
            self._line(key, f"{not_written('its row', fault)}; a finished trial's is added by the next invocation")
        if reason := self._on_ended(key, status):
            self._stop.request(reason)

    def _line(self, key: str, text: str, say: Say | None = None) -> None:
        (say or self._say)(f"[{self._board.settled}/{self._total}] {key}  {text}")
