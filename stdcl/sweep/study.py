"""Search: Optuna proposes configurations and decides which trials stop early, Ray Tune runs them.

The study in Optuna's storage is the only memory of a search. A new driver opens it and goes on: trials that were cut
off keep their numbers and parameters, trials that failed are put back into the queue with theirs (run folders resume),
and proposals and decisions are functions of what the study holds (``sampling``, ``pruning``).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from stdcl.config.contrast import long_keys
from stdcl.config.space import ACCURACY, Objective
from stdcl.config.sweep import Sweep, Trial
from stdcl.errors import UserError
from stdcl.sweep.names import TrialNames
from stdcl.sweep.pruning import EPOCHS, make_pruner
from stdcl.sweep.sampling import Space, make_sampler, study_space, suggest
from stdcl.sweep.stopping import StopRequest
from stdcl.sweep.storage import faults_said, open_storage, study_file
from stdcl.sweep.trainables import EPOCHS_DONE, ERROR, STATUS, payload

METRIC = ACCURACY
_DIRECTIONS: Mapping[Objective, StudyDirection] = {
    "accuracy": StudyDirection.MAXIMIZE,
    "seconds_per_epoch": StudyDirection.MINIMIZE,
}
IMPOSSIBLE_IN_A_ROW = 200
"""Proposals that may be impossible one after another before the space itself is refused."""

OURS = "sweep"
"""Attribute of the trials that this sweep runs. Others, which a notebook adds, inform the sampler alone."""

Row = Mapping[str, Any]
"""Of a run's history."""


def open_study(sweep: Sweep, folder: Path, epochs: int) -> tuple[optuna.Study, str]:
    """Open or make the sweep's study; return it with what ``optuna-dashboard`` is to be given.

    Args:
        sweep: the search.
        folder: of the study.
        epochs: of one trial.

    Raises:
        UserError: the file cannot be used, or holds another kind of study.
    """
    config = sweep.config.search_settings
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage, shown = open_storage(config, folder)
    directions = [_DIRECTIONS[name] for name in config.objectives]
    study = optuna.create_study(
        storage=storage, study_name=sweep.config.name, directions=directions, load_if_exists=True
    )
    if study.directions != directions:
        found = ", ".join(direction.name.lower() for direction in study.directions)
        wanted = ", ".join(f"{_DIRECTIONS[name].name.lower()} {name}" for name in config.objectives)
        raise UserError(
            f"{shown}: the study '{sweep.config.name}' is there with other directions ({found}; expected: {wanted}). "
            "Move the file away, or give the sweep another name (--set name=...)"
        )
    study.set_user_attr("question", sweep.config.question)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(config.objectives))
    study.sampler = make_sampler(config)
    study.pruner = make_pruner(config, epochs)
    return study, shown


@contextmanager
def opened(sweep: Sweep, folder: Path, epochs: int) -> Iterator[tuple[optuna.Study, str]]:
    """Give ``open_study`` for the body, in which faults of the study's file are said in a sentence, too."""
    study, shown = open_study(sweep, folder, epochs)
    with faults_said(study_file(sweep.config.search_settings, folder)):
        yield study, shown


def _is_ours(trial: FrozenTrial) -> bool:
    return OURS in trial.user_attrs or "trial" in trial.user_attrs


def judged(study: optuna.Study) -> list[FrozenTrial]:
    """Return the sweep's trials that are judged: complete ones and those stopped early."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [trial for trial in trials if _is_ours(trial)]


def counted(study: optuna.Study) -> int:
    """Return how many of the sweep's trials are judged."""
    return len(judged(study))


def to_requeue(study: optuna.Study, space: Space) -> list[FrozenTrial]:
    """Return the failed trials that are to be put back into the queue: each once, with its parameters."""
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get("retry_of") for trial in trials}
    return [
        trial
        for trial in trials
        if trial.state == TrialState.FAIL
        and _is_ours(trial)
        and trial.number not in again
        and space.complete(trial.params)
        and "impossible" not in trial.user_attrs
    ]


def requeue(study: optuna.Study, space: Space) -> int:
    """Put failed trials back into the queue.

    Returns:
        How many trials are to be continued or repeated: these, and those that an earlier driver left running.
    """
    for trial in to_requeue(study, space):
        study.enqueue_trial(trial.params, user_attrs={OURS: study.study_name, "retry_of": trial.number})
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    return len(waiting) + len(cut_off(study))


def cut_off(study: optuna.Study) -> list[FrozenTrial]:
    """Return the sweep's trials that are open: at a driver's start, those that an earlier one left so."""
    return [trial for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if _is_ours(trial)]


def known_trials(study: optuna.Study, sweep: Sweep) -> dict[str, Trial]:
    """Return the trials that the study has proposed so far, by key."""
    out: dict[str, Trial] = {}
    trials = study.get_trials(deepcopy=False)
    names = TrialNames(trials)
    for old in trials:
        if "trial" in old.user_attrs:
            trial = trial_of(old, sweep, names)
            out[trial.key] = trial
    return out


def trial_of(old: FrozenTrial, sweep: Sweep, names: TrialNames) -> Trial:
    """Return the sweep's trial that a trial of the study has proposed."""
    return names.named(sweep.make_trial("", long_keys(old.params), sweep.config.seeds[0]), old.number)


def whole_epochs(sweep: Sweep) -> int:
    """Return the epochs of a whole training, where a trial has none of its own (an encoder's recipe)."""
    return sweep.boundary_trials()[0].config.training.epochs


def accuracy_of(sweep: Sweep, trial: FrozenTrial) -> float:
    """Return what a complete trial reached on the held-out sequences, whatever else it was judged by."""
    return float(trial.values[sweep.config.search_settings.objectives.index(ACCURACY)])


_OBJECTIVES: Mapping[Objective, Callable[[Row], float]] = {
    "accuracy": lambda row: float(row[METRIC]),
    "seconds_per_epoch": lambda row: float(row["total_seconds"]) / int(row[EPOCHS_DONE]),
}
"""What a finished trial's last row says of each objective."""


class _Open:
    """An open trial of the study."""

    def __init__(self, trial: optuna.Trial, reported: Mapping[int, float], decisions: Mapping[str, Any]) -> None:
        self.trial = trial
        self._reported = set(reported)
        self._decisions = dict(decisions)

    def report(self, row: Row) -> None:
        """Report a row's epoch, once (a trial that goes on from a checkpoint can repeat an epoch).

        With several objectives Optuna takes no reports, and stops nothing early.
        """
        if len(self.trial.study.directions) > 1:
            return
        value = row.get(METRIC)
        if value is None or EPOCHS_DONE not in row:
            return
        step = int(row[EPOCHS_DONE]) - 1
        if step not in self._reported and math.isfinite(value):
            self._reported.add(step)
            self.trial.report(float(value), step)

    def is_to_stop(self, epochs: int) -> bool:
        """Decide after the last epoch that was reported; each decision is made once, and stays on record."""
        if not self._reported or max(self._reported) + 1 != epochs:
            return False
        name = f"after epoch {epochs}"
        if name not in self._decisions:
            stops = self.trial.should_prune()
            self._decisions[name] = "stopped" if stops else "kept"
            if stops:
                self.trial.set_user_attr(name, self._decisions[name])
        return bool(self._decisions[name] == "stopped")


class StudySearch(Searcher):  # type: ignore[misc]
    """Proposes trials from an Optuna study and tells it what became of them.

    Args:
        study: the study.
        sweep: makes trials of parameters.
        trials: how many the study is to judge in all.
        on_trial: called with each proposed trial, before it is run.
        on_stopped: called with a trial and its last row if the decision to stop it was still to be carried out.
        on_note: called with what is worth telling.
        history: the rows that a trial's run folder already holds.
        stop: the end of the experiment; trials cut off by it stay open and are resumed later.
    """

    def __init__(
        self,
        study: optuna.Study,
        sweep: Sweep,
        *,
        trials: int,
        on_trial: Callable[[Trial], None],
        on_stopped: Callable[[Trial, Row], None],
        on_note: Callable[[str], None],
        history: Callable[[Trial], Sequence[Row]],
        stop: StopRequest,
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._study = study
        self._sweep = sweep
        self._space = study_space(sweep.config.space)
        self._objectives = sweep.config.search_settings.objectives
        self._epochs = whole_epochs(sweep)
        self._on_trial = on_trial
        self._on_stopped = on_stopped
        self._on_note = on_note
        self._history = history
        self._stop = stop
        self._left = trials - counted(study)
        self._cut_off = cut_off(study)
        self._open: dict[str, _Open] = {}
        self._running: dict[str, str] = {}
        self._held: tuple[_Open, Trial] | None = None
        self._names = TrialNames(study.get_trials(deepcopy=False))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial; None while the same configuration is still being trained; FINISHED at the end."""
        with self._stop.on_error():
            return self._suggest(trial_id)
        return None

    def _suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        while self._left > 0:
            found, trial = self._held or self._next()
            if trial.key in self._running.values():
                # It shares the other's run folder, and will find it complete.
                self._held = found, trial
                return None
            self._held = None
            self._left -= 1
            found.trial.set_user_attr("trial", trial.key)
            found.trial.set_user_attr("fingerprint", trial.fingerprint)
            if trial.config.training.epochs != self._epochs:
                found.trial.set_user_attr(EPOCHS, trial.config.training.epochs)
            self._on_trial(trial)
            last = self._catch_up(found, trial)
            if last is None:
                self._open[trial_id], self._running[trial_id] = found, trial.key
                return {"trial": payload(trial)}
            self._study.tell(found.trial, state=TrialState.PRUNED)
            self._on_stopped(trial, last)
        return str(Searcher.FINISHED)

    def _catch_up(self, found: _Open, trial: Trial) -> Row | None:
        """Report what the run folder holds beyond the study; return the row after which to stop, if any."""
        for row in self._history(trial):
            found.report(row)
            if EPOCHS_DONE in row and found.is_to_stop(int(row[EPOCHS_DONE])):
                return row
        return None

    def _next(self) -> tuple[_Open, Trial]:
        reason = ""
        for _ in range(IMPOSSIBLE_IN_A_ROW):
            found = self._take()
            try:
                parameters = suggest(found.trial, self._space)
            except ValueError as error:
                reason = f"queued with a value that is not in the space ({error})"
                self._refuse(found, reason)
                self._on_note(f"trial {found.trial.number} of the study is left out: {reason}")
                continue
            try:
                trial = self._sweep.make_trial("", parameters, self._sweep.config.seeds[0])
                return found, self._names.named(trial, found.trial.number)
            except UserError as error:
                reason = str(error)
                self._refuse(found, reason)
        raise UserError(f"{self._sweep.where}: almost nothing in 'space' is a possible configuration, last: {reason}")

    def _refuse(self, found: _Open, reason: str) -> None:
        found.trial.set_user_attr("impossible", reason)
        self._study.tell(found.trial, state=TrialState.FAIL)

    def _take(self) -> _Open:
        """Open a trial that was cut off, the first that waits, or a new one."""
        if self._cut_off:
            old = self._cut_off.pop(0)
            return _Open(optuna.Trial(self._study, old._trial_id), old.intermediate_values, old.user_attrs)
        if not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            # Marked from its first moment: a process killed here leaves a trial that is known as ours.
            self._study.enqueue_trial({}, user_attrs={OURS: self._study.study_name})
        trial = self._study.ask()
        trial.set_user_attr(OURS, self._study.study_name)
        return _Open(trial, {}, {})

    def judge(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Report a result to the study; return whether it stops the trial. (Tune asks its Stopper first of all.)"""
        found = self._open.get(trial_id)
        if found is None or result.get(STATUS) != "running" or EPOCHS_DONE not in result:
            return False
        found.report(result)
        return found.is_to_stop(int(result[EPOCHS_DONE]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        with self._stop.on_error():
            found = self._open.pop(trial_id, None)
            self._running.pop(trial_id, None)
            if found is not None and not self._stop.requested:
                self._tell(found, {STATUS: "failed", ERROR: "the trial's process died"} if error else result or {})

    def _tell(self, found: _Open, result: Mapping[str, Any]) -> None:
        trial = found.trial
        status = result.get(STATUS, "failed")
        if status in ("failed", "diverged"):
            trial.set_user_attr("error", str(result.get(ERROR, "ended without a result"))[:1000])
        if status == "paused":
            return  # it stays open, and goes on in a later invocation
        if status == "failed":
            self._study.tell(trial, state=TrialState.FAIL)
            return
        if status == "diverged":
            # A value, so that the sampler learns to stay away.
            found.report({EPOCHS_DONE: int(result.get(EPOCHS_DONE, 0)) + 1, METRIC: 0.0})
        else:
            found.report(result)
        if status == "finished":
            self._study.tell(trial, [_OBJECTIVES[name](result) for name in self._objectives])
        else:
            self._study.tell(trial, state=TrialState.PRUNED)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing is left to do: ``judge`` has had the result."""

    def save(self, checkpoint_path: str) -> None:
        """Write nothing of use: the study is in its storage."""
        Path(checkpoint_path).write_text("the study is in Optuna's storage\n", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search is continued from Optuna's storage")

    def __getstate__(self) -> dict[str, Any]:
        # Ray stores experiments with all they hold; this one is never restored.
        return {}
