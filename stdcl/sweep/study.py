"""Search: Optuna proposes configurations, Ray Tune runs them, ASHA stops weak ones.

The study in Optuna's storage is the only memory of a search. Ray's snapshots are not needed to continue it: a new
driver opens the study, puts trials that were cut off or failed back into the queue with the same parameters (their run
folders resume), and gives the scheduler what earlier trials had reached.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from stdcl.config.sweep import ARM_GRID, Choices, FloatRange, OptunaConfig, Parameter, Sweep, Trial
from stdcl.errors import UserError
from stdcl.sweep.names import TrialNames
from stdcl.sweep.stopping import Stop
from stdcl.sweep.trainables import EPOCHS_DONE, ERROR, STATUS, payload

METRIC = "accuracy"
IMPOSSIBLE_IN_A_ROW = 200
"""Proposals that may be impossible one after another before the space itself is refused."""

Curve = Sequence[tuple[int, float]]
"""(epochs done, accuracy) in order."""


def distributions(space: Mapping[str, Parameter]) -> dict[str, BaseDistribution]:
    """Return Optuna's form of a search space."""
    out: dict[str, BaseDistribution] = {}
    for key, parameter in space.items():
        if isinstance(parameter, Choices):
            out[key] = CategoricalDistribution(parameter.values)
        elif isinstance(parameter, FloatRange):
            out[key] = FloatDistribution(parameter.low, parameter.high, log=parameter.log)
        else:
            out[key] = IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return out


def open_storage(config: OptunaConfig, folder: Path) -> tuple[BaseStorage, str]:
    """Open the study's storage; return it with what ``optuna-dashboard`` is to be given."""
    folder.mkdir(parents=True, exist_ok=True)
    if config.storage == "sqlite":
        url = f"sqlite:///{folder / 'study.db'}"
        return RDBStorage(url), url
    path = folder / "journal.log"
    return JournalStorage(JournalFileBackend(str(path))), str(path)


def open_study(sweep: Sweep, folder: Path) -> tuple[optuna.Study, str]:
    """Open or make the sweep's study; return it with what ``optuna-dashboard`` is to be given."""
    config = sweep.config.optuna or OptunaConfig()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage, shown = open_storage(config, folder)
    study = optuna.create_study(
        storage=storage, study_name=sweep.config.name, direction="maximize", load_if_exists=True
    )
    study.set_user_attr("question", sweep.config.question)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([METRIC])
    # A sampler that started from the same seed again would propose its first trials again.
    study.sampler = optuna.samplers.TPESampler(
        seed=(config.seed * 1_000_003 + len(study.trials)) % 2**32, n_startup_trials=config.startup_trials
    )
    return study, shown


def counted(study: optuna.Study) -> int:
    """Return how many trials the study has judged: complete ones and those stopped early."""
    return sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in study.trials)


def requeue(study: optuna.Study, space: Mapping[str, BaseDistribution]) -> int:
    """Put cut-off and failed trials back into the queue, each once, with their parameters; return how many wait.

    A trial that an earlier driver left RUNNING can never be finished by it: it is closed as FAIL, so that it does not
    push the sampler away from its neighbourhood for ever.
    """
    for trial in study.trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
    trials = study.trials
    again = {trial.user_attrs.get("retry_of") for trial in trials}
    for trial in trials:
        if (
            trial.state == TrialState.FAIL
            and trial.number not in again
            and set(trial.params) == set(space)
            and "impossible" not in trial.user_attrs
        ):
            study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number})
    return sum(trial.state == TrialState.WAITING for trial in study.trials)


def judged_curves(study: optuna.Study) -> list[tuple[int, Curve]]:
    """Return (number, curve) of each trial that the study has judged."""
    return [
        (trial.number, [(step + 1, value) for step, value in sorted(trial.intermediate_values.items())])
        for trial in study.trials
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    ]


def known_trials(study: optuna.Study, sweep: Sweep) -> dict[str, Trial]:
    """Return the trials that the study has proposed so far, by key."""
    out: dict[str, Trial] = {}
    names = TrialNames(study.trials)
    for old in study.trials:
        if "trial" in old.user_attrs:
            trial = names.named(sweep.make_trial(ARM_GRID, dict(old.params), sweep.config.seeds[0]), old.number)
            out[trial.key] = trial
    return out


class ContinuedASHA(ASHAScheduler):  # type: ignore[misc]
    """ASHA that can be told what trials reached before this driver started. (Ray keeps no state of schedulers.)"""

    def __init__(self, epochs: int, config: OptunaConfig) -> None:
        super().__init__(
            time_attr=EPOCHS_DONE,
            metric=METRIC,
            mode="max",
            # A trial that trains to its end must end by itself, not be stopped by the scheduler at its last report.
            max_t=epochs + 1,
            grace_period=min(config.grace_epochs, epochs),
            reduction_factor=config.reduction_factor,
        )

    def replay(self, trial_id: str, curve: Curve) -> None:
        """Take in the curve of a trial."""
        known = _Known(trial_id)
        for epochs_done, value in curve:
            self._brackets[0].on_result(known, epochs_done, value)


class _Known:
    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


class _Asked:
    """A proposed trial; reports each step once (a trial that goes on from a checkpoint can repeat an epoch)."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial
        self._reported: set[int] = set()

    def report(self, epochs_done: int, value: float) -> None:
        step = epochs_done - 1
        if step not in self._reported and math.isfinite(value):
            self._reported.add(step)
            self.trial.report(value, step)

    def report_row(self, result: Mapping[str, Any]) -> None:
        if result.get(METRIC) is not None and EPOCHS_DONE in result:
            self.report(int(result[EPOCHS_DONE]), float(result[METRIC]))


class StudySearch(Searcher):  # type: ignore[misc]
    """Proposes trials from an Optuna study and tells it what became of them.

    Args:
        study: the study.
        sweep: makes trials of parameters.
        epochs: of one trial.
        on_trial: called with each proposed trial, before it is run.
        history: the curve that a trial's run folder already holds.
        replay: takes a trial's earlier curve into the scheduler.
        stop: the end of the experiment; trials cut off by it stay RUNNING and are resumed later.
    """

    def __init__(
        self,
        study: optuna.Study,
        sweep: Sweep,
        *,
        on_trial: Callable[[Trial], None],
        history: Callable[[Trial], Curve],
        replay: Callable[[str, Curve], None],
        stop: Stop,
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._study = study
        self._sweep = sweep
        self._space = distributions(sweep.config.space)
        self._on_trial = on_trial
        self._history = history
        self._replay = replay
        self._stop = stop
        self._asked: dict[str, _Asked] = {}
        self._running: dict[str, str] = {}
        self._held: tuple[optuna.Trial, Trial] | None = None
        self._names = TrialNames(study.trials)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next trial, or None while the same configuration is still being trained."""
        with self._stop.on_error():
            return self._suggest(trial_id)
        return None

    def _suggest(self, trial_id: str) -> dict[str, Any] | None:
        asked, trial = self._held or self._ask()
        if trial.key in self._running.values():
            # It shares the other's run folder, and will find it complete.
            self._held = asked, trial
            return None
        self._held = None
        self._asked[trial_id], self._running[trial_id] = _Asked(asked), trial.key
        asked.set_user_attr("trial", trial.key)
        asked.set_user_attr("fingerprint", trial.fingerprint)
        curve = self._history(trial)
        for epochs_done, value in curve:
            self._asked[trial_id].report(epochs_done, value)
        self._replay(trial_id, curve)
        self._on_trial(trial)
        return {"trial": payload(trial)}

    def _ask(self) -> tuple[optuna.Trial, Trial]:
        reason = ""
        for _ in range(IMPOSSIBLE_IN_A_ROW):
            asked = self._study.ask(fixed_distributions=self._space)
            try:
                trial = self._sweep.make_trial(ARM_GRID, dict(asked.params), self._sweep.config.seeds[0])
                return asked, self._names.named(trial, asked.number)
            except UserError as error:
                reason = str(error)
                asked.set_user_attr("impossible", reason)
                self._study.tell(asked, state=TrialState.FAIL)
        raise UserError(f"{self._sweep.where}: almost nothing in 'space' is a possible configuration, last: {reason}")

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        with self._stop.on_error():
            self._asked[trial_id].report_row(result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        with self._stop.on_error():
            asked = self._asked.pop(trial_id, None)
            self._running.pop(trial_id, None)
            if asked is not None and not self._stop.requested:
                self._tell(asked, {STATUS: "failed", ERROR: "the trial's process died"} if error else result or {})

    def _tell(self, asked: _Asked, result: Mapping[str, Any]) -> None:
        trial = asked.trial
        status = result.get(STATUS, "failed")
        if status in ("failed", "diverged"):
            trial.set_user_attr("error", str(result.get(ERROR, "ended without a result"))[:1000])
        if status == "failed":
            self._study.tell(trial, state=TrialState.FAIL)
            return
        if status == "diverged":
            # A value, so that the sampler learns to stay away.
            asked.report(int(result.get(EPOCHS_DONE, 0)) + 1, 0.0)
        else:
            asked.report_row(result)
        if status == "finished":
            self._study.tell(trial, float(result[METRIC]))
        else:
            self._study.tell(trial, state=TrialState.PRUNED)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing of use: the study is in its storage."""
        Path(checkpoint_path).write_text("the study is in Optuna's storage\n", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search is continued from Optuna's storage")

    def __getstate__(self) -> dict[str, Any]:
        # Ray stores experiments with all they hold; this one is never restored.
        return {}
