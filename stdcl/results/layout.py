"""The paths of a run folder and of a sweep folder, each named once."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Which = Literal["last", "best"]
"""A run's checkpoint: of the last epoch, or of the epoch that was best on the evaluated sequences themselves."""

JOURNAL, DATABASE = "journal.log", "study.db"
"""A search's study, as a journal or as an SQLite database."""

PLAN_ADDED = "plan-added.jsonl"
"""Beside a plan: the trials that were added to it."""

FIGURE = "accuracy.png"
"""Name of a report's figure."""


def what_else(path: Path, wanted: Literal["run", "sweep"]) -> str:
    """Say what a path is that is not the folder of the kind ``wanted``, with the command for it.

    Empty where it is of that kind, perhaps incomplete, and where nobody knows.
    """
    sweep, run = SweepFolder(path), RunFolder(path)
    if path.is_file():
        return "this is a file, not a folder"
    is_run = run.checkpoints.is_dir() or run.history.is_file()
    if (wanted == "run" and is_run) or (wanted == "sweep" and sweep.plan.is_file()):
        return ""
    if sweep.plan.is_file():
        return (
            f"this is a sweep's folder; its runs are the folders in {sweep.trials}, its table is made by"
            f" `{shlex.join(['stdcl', 'table', str(path)])}`"
        )
    if is_run:
        return f"this is the folder of one run; `{shlex.join(['stdcl', 'evaluate', str(path)])}` scores it"
    if (path / "manifest.json").is_file():
        return f"this is prepared data; `{shlex.join(['stdcl', 'data', 'info', str(path)])}` shows it"
    return ""


def place_below(run: str, storage: Path) -> str:
    """Name a run folder as others may read it: below the storage folder, else by its last part."""
    folder = Path(run)
    if not folder.is_absolute():
        return run
    return folder.relative_to(storage).as_posix() if folder.is_relative_to(storage) else folder.name


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
        root: the folder; every rank of the run sees it.
    """

    root: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.root.name

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.yaml"

    @property
    def history(self) -> Path:
        """One row per epoch (``results.history``)."""
        return self.root / "history.jsonl"

    @property
    def result(self) -> Path:
        """What a complete run came to (``results.result``)."""
        return self.root / "result.json"

    @property
    def progress(self) -> Path:
        """What the run is doing at this moment (``results.progress``)."""
        return self.root / "progress.json"

    @property
    def ask(self) -> Path:
        """How the attempt under way is to end (``results.ask``)."""
        return self.root / "ask"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.root / "checkpoints"

    @property
    def lock(self) -> Path:
        """Held by the process that trains."""
        return self.root / "lock"

    @property
    def ray(self) -> Path:
        """Ray Train's own files, of no meaning once the attempt is over."""
        return self.root / "ray"

    def scores(self, which: Which = "last") -> Path:
        """Per-sequence scores of a checkpoint (``results.scores``)."""
        return self.root / ("scores.parquet" if which == "last" else "scores-best.parquet")

    def features(self, which: Which = "last") -> Path:
        """The vectors before the classifier of a checkpoint's encoder (``results.features``)."""
        return self.root / ("features.parquet" if which == "last" else "features-best.parquet")

    def evaluation(self, which: Which = "last") -> Path:
        """The accuracies of a checkpoint, per class."""
        return self.root / ("evaluation.json" if which == "last" else "evaluation-best.json")


@dataclass(frozen=True)
class SweepFolder:
    """The folder of a sweep, ``<storage>/<sweep>``.

    Attributes:
        root: the folder.
    """

    root: Path

    @property
    def sweep_file(self) -> Path:
        """The sweep as it was last run, overrides included."""
        return self.root / "sweep.yaml"

    @property
    def plan(self) -> Path:
        """Its trials (``results.plan``)."""
        return self.root / "plan.json"

    @property
    def plan_added(self) -> Path:
        """Trials that a search has proposed since the plan was written (``results.plan``)."""
        return self.root / PLAN_ADDED

    @property
    def lock(self) -> Path:
        """Held by the driver."""
        return self.root / "lock"

    @property
    def driver(self) -> Path:
        """That it has a driver (``results.heartbeat``)."""
        return self.root / "driver.json"

    @property
    def requests(self) -> Path:
        """What the driver is asked for (``results.requests``)."""
        return self.root / "requests"

    @property
    def log(self) -> Path:
        """What its commands said, in order (``sweep.log``)."""
        return self.root / "sweep.log"

    @property
    def results(self) -> Path:
        """The store of results, one row per attempt (``results.store``)."""
        return self.root / "results"

    @property
    def study(self) -> Path:
        """Optuna's storage."""
        return self.root / "study"

    @property
    def journal(self) -> Path:
        """A search's study, unless it is in the database."""
        return self.study / JOURNAL

    @property
    def database(self) -> Path:
        """A search's study, unless it is in the journal."""
        return self.study / DATABASE

    @property
    def importance(self) -> Path:
        """How much each parameter of a search matters (``results.importance``)."""
        return self.study / "importance.json"

    @property
    def report(self) -> Path:
        """Tables and figures."""
        return self.root / "report"

    @property
    def figure(self) -> Path:
        """The report's figure."""
        return self.report / FIGURE

    @property
    def tune(self) -> Path:
        """Ray Tune's own files, of no meaning for later invocations."""
        return self.root / "tune"

    @property
    def trials(self) -> Path:
        """Folder of the trials' run folders."""
        return self.root / "trials"

    def run(self, key: str) -> RunFolder:
        """The run folder of a trial."""
        return RunFolder(self.trials / key)
