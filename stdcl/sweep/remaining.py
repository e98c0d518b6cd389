"""What a search has left to train, read from its study; nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from stdcl.config.sweep import Sweep, Trial
from stdcl.sweep import study as studies
from stdcl.sweep.names import TrialNames
from stdcl.sweep.sampling import study_space
from stdcl.sweep.storage import faults_said, read_storage, study_file


class Remaining(NamedTuple):
    """What an invocation of a search has to do.

    Attributes:
        judged: trials that count as done: finished, stopped early, diverged.
        begun: trials that are continued or repeated.
        new: trials that are still to be drawn.
    """

    judged: int
    begun: tuple[Trial, ...]
    new: int


def remaining(sweep: Sweep, folder: Path) -> Remaining:
    """Return what a search has left.

    Args:
        sweep: the search.
        folder: of its study, which need not exist.

    Raises:
        UserError: the study's file cannot be used.
    """
    wanted = sweep.config.search_settings.trials
    path = study_file(sweep.config.search_settings, folder)
    with faults_said(path):
        study = _there(sweep, path)
        if study is None:
            return Remaining(0, (), wanted)
        trials = study.get_trials(deepcopy=False)
        judged, names = studies.counted(study), TrialNames(trials)
        further = max(0, wanted - judged)
        open_ones = [
            *studies.cut_off(study),
            *(trial for trial in trials if trial.state == TrialState.WAITING),
            *studies.to_requeue(study, study_space(sweep.config.space)),
        ]
        by_number = {trial.number: trial for trial in trials}
        origins = [_proposed(trial, by_number) for trial in open_ones[:further]]
        begun = tuple(studies.trial_of(origin, sweep, names) for origin in origins if origin is not None)
    return Remaining(judged, begun, further - len(begun))


def _there(sweep: Sweep, path: Path) -> optuna.Study | None:
    if not path.is_file() or not path.stat().st_size:
        return None
    storage, name = read_storage(path), sweep.config.name
    if name not in {study.study_name for study in storage.get_all_studies()}:
        return None
    return optuna.load_study(study_name=name, storage=storage)


def _proposed(trial: FrozenTrial, by_number: dict[int, FrozenTrial]) -> FrozenTrial | None:
    """The trial, or the one that it repeats, whose run folder has a name; None for one that has begun nothing yet."""
    if "trial" in trial.user_attrs:
        return trial
    former = by_number.get(trial.user_attrs.get("retry_of", -1))
    return former if former is not None and "trial" in former.user_attrs else None
