"""Read what a run or a sweep left in its folder, for notebooks and scripts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stdcl.errors import UserError
from stdcl.results import store
from stdcl.results.history import read_history
from stdcl.results.layout import RunFolder, SweepFolder, Which, what_else
from stdcl.results.result import RunResult, read_result
from stdcl.results.row import EpochRow
from stdcl.results.scores import Scores, read_scores

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunRecord:
    """What a run's folder holds.

    Attributes:
        folder: its paths.
        result: of a finished run; None before its last epoch.
        history: one row per finished epoch.
    """

    folder: RunFolder
    result: RunResult | None
    history: list[EpochRow]

    def scores(self, which: Which = "last") -> Scores:
        """Read the scores of the evaluated sequences.

        Raises:
            UserError: the run has none, or the file is damaged.
        """
        return read_scores(self.folder.scores(which))


def load_run(folder: Path | str) -> RunRecord:
    """Read a run's folder.

    Raises:
        UserError: there is no such folder, it is no run's, or a file in it is damaged.
    """
    root = Path(folder)
    run = RunFolder(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give a run's folder, as `stdcl train` made it")
    if not run.config.is_file():
        other = what_else(root, "run") or f"it has no {run.config.name}"
        raise UserError(f"{root}: not a run's folder; {other}")
    return RunRecord(run, read_result(run.result), read_history(run.history))


def load_sweep(folder: Path | str) -> pd.DataFrame:
    """Read a sweep's results: one row per trial that was attempted, that of its latest attempt.

    Read the scores of a trial's sequences with ``load_run(folder / "trials" / key).scores()``, where ``key`` is the
    column of that name.

    Raises:
        UserError: there is no such folder, it is no sweep's, or files of its results are damaged or gone.
    """
    root = Path(folder)
    sweep = SweepFolder(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give a sweep's folder, as `stdcl sweep` made it")
    if not sweep.plan.is_file():
        other = what_else(root, "sweep") or f"it has no {sweep.plan.name}"
        raise UserError(f"{root}: not a sweep's folder; {other}")
    found = store.read(sweep.results)
    if found.empty and (complete := [run for run in sweep.trials.glob("*") if RunFolder(run).result.is_file()]):
        raise UserError(
            f"{sweep.results}: no rows, but {len(complete)} trial(s) of the sweep are complete; `stdcl sweep "
            f"{sweep.sweep_file}` writes theirs again without training"
        )
    return found
