"""``stdcl sweep``: check everything, then run what is missing of a sweep, and show its table.

Every invocation is the same: what is finished is known from the run folders, the rest is run by a new Ray Tune
experiment. So there is nothing to restore, and nothing that can fail to be restored.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from stdcl.config import RunConfig
from stdcl.config.load import set_words
from stdcl.config.model import InitConfig
from stdcl.config.paths import data_path, storage_path, variable
from stdcl.config.shipped import find_sweep
from stdcl.config.space import ACCURACY, OptunaConfig
from stdcl.config.sweep import Sweep, Trial, cell_name, load_sweep, with_cells
from stdcl.data.store import MANIFEST_FILE, read_manifest
from stdcl.errors import UserError
from stdcl.launch.cluster import (
    Cluster,
    capacity,
    connected,
    environment_to_hand_on,
    looking_at,
    oversubscribed,
    prepare_environment,
    waiting_now,
)
from stdcl.launch.device import CARDS, Cards
from stdcl.launch.nodes import check_nodes
from stdcl.launch.watch import NodeWatch
from stdcl.launch.worker import TrainingLoop, session_loop
from stdcl.locks import exclusive
from stdcl.report.display import one_line
from stdcl.report.files import write_report
from stdcl.report.table import sweep_table
from stdcl.report.wording import display
from stdcl.results.cleaning import size_of
from stdcl.results.history import read_history
from stdcl.results.importance import write_importance
from stdcl.results.layout import RunFolder, SweepFolder
from stdcl.results.state import HELD, Ending
from stdcl.results.status import TrialStatus
from stdcl.results.store import pack
from stdcl.sweep.disk import DiskBudget, open_budget
from stdcl.sweep.forecast import OTHER, Forecast, render_forecast
from stdcl.sweep.grounds import forecast, refuse_beyond
from stdcl.sweep.log import SweepLog
from stdcl.sweep.meters import Meters
from stdcl.sweep.plan import add_trial, check_same_question, left_out, write_plan, write_sweep
from stdcl.sweep.record import Recorder
from stdcl.sweep.reuse import Identity, equal_runs, take_over, wanted_identity
from stdcl.sweep.workload import Work, work_of
from stdcl.tracking import wandb_settings
from stdcl.tracking.wandb_sink import log_sweep_summary
from stdcl.training.checkpoint import Position, leave_one
from stdcl.training.start_from import settled
from stdcl.version import code_version, execution_digest

if TYPE_CHECKING:
    import optuna
    from ray.tune.search import Searcher

    from stdcl.sweep.board import Board
    from stdcl.sweep.progress import Progress
    from stdcl.sweep.remaining import Remaining
    from stdcl.training.components import Data

FAILED = 1
INTERRUPTED = 130

Say = Callable[[str], None]
Check = Callable[[RunConfig], Sequence[str]]
"""Checks a configuration against its data; returns what a user should know, a sentence each."""
OnBoard = Callable[["Board"], None]


def _print(text: str) -> None:
    print(text, flush=True)


class DataCheck:
    """Checks configurations against their data, which is opened once for all of equal section ``data``."""

    def __init__(self) -> None:
        self._opened: dict[str, Data] = {}

    def __call__(self, config: RunConfig) -> Sequence[str]:
        """Check one; a synthetic corpus is made if it is not there.

        Returns:
            What a user should know about these data with this configuration, a sentence each.

        Raises:
            UserError: the data are missing, or the configuration does not fit them.
        """
        from stdcl.training.components import check

        return check(config, self._open).remarks

    def _open(self, config: RunConfig) -> Data:
        from stdcl.data.synthetic import ensure_data
        from stdcl.training.components import open_data

        settings = config.data.model_dump_json()
        if settings not in self._opened:
            ensure_data(config)
            self._opened[settings] = open_data(config)
        return self._opened[settings]


def run_sweep(
    file: Path,
    overrides: Sequence[str] = (),
    *,
    dry_run: bool = False,
    hours: float | None = None,
    storage: Path | None = None,
    loop: TrainingLoop | None = None,
    cards: Cards = CARDS,
    check: Check | None = None,
    say: Say = _print,
    quiet: bool = False,
    on_board: OnBoard | None = None,
    command: str | None = None,
) -> int:
    """Run a sweep file, or continue it.

    Args:
        file: the sweep file, or the name of a shipped one.
        overrides: ``a.b=c`` texts.
        dry_run: check everything and list the trials; start nothing.
        hours: the most core-hours, or GPU-hours, that what is left of the sweep may take.
        storage: folder of all results; $STDCL_STORAGE or ./runs if None.
        loop: what trains; the real loop if None.
        cards: what ranks that were given a card do with it.
        check: what checks a configuration against its data; a ``DataCheck`` if None.
        say: takes each line of progress.
        quiet: say the table and what failed alone; the rest goes to the sweep's log.
        on_board: given what the trials are doing, once they start; then lines of epochs go to the log alone.
        command: that a user types to run and to continue it; ``stdcl sweep FILE`` with the overrides if None.

    Returns:
        0: all trials finished; 1: some failed; 130: interrupted.

    Raises:
        UserError: a fault in the file, the data, the cluster, or the sweep's folder.
    """
    sweep = load_settled(file, overrides)
    folder = SweepFolder((storage or storage_path()).absolute() / sweep.config.name)
    command = command or shlex.join(["stdcl", "sweep", str(file), *set_words(overrides)])
    if not check_same_question(folder, sweep) and sweep.config.warm_start:
        from stdcl.sweep.warm_start import sources

        sources(sweep, folder.root.parent)
    trials = sweep.trials()
    with_data = _with_data(sweep, trials, say) if dry_run else trials or sweep.boundary_trials()
    _check_against_data(sweep, with_data, check or DataCheck(), say)
    wandb_settings.check(_tracking(sweep))
    recorder = Recorder(folder, sweep.config.name, command)
    if with_data:
        recorder.check_data(trials, with_data[0].config.data.path, _content_hash)
    elsewhere: list[tuple[Trial, RunFolder]] = []
    left: Remaining | None = None
    if dry_run or hours is not None:
        elsewhere = equal_runs(
            _wanted(sweep, with_data if trials else (), loop or session_loop()), folder, folder.root.parent
        )
        left = _remaining(sweep, folder)
    if dry_run:
        _list_trials(sweep, trials, recorder, {trial.key: source for trial, source in elsewhere}, left, say)
        _say_warm_start(sweep, folder, say)
        say("")
    if dry_run or hours is not None:
        found = forecast(
            sweep,
            trials or sweep.boundary_trials(),
            {trial.key for trial in with_data},
            recorder,
            elsewhere={trial.key for trial, _ in elsewhere},
            remaining=left,
            storage=folder.root.parent,
            cluster=_cluster_there(),
            measure=hours is not None,
            say=say,
        )
        say(render_forecast(found))
        if hours is not None:
            refuse_beyond(found, hours)
    if dry_run:
        if any(cell.trials and cell.ground in ("none", OTHER) for cell in found.cells):
            measures = shlex.join(["stdcl", "plan", str(file), *set_words(overrides)])
            say(f"\n`{measures}` measures what no run here says, for some seconds")
        return 0
    with exclusive(folder.lock, f"the sweep '{sweep.config.name}'"):
        log = SweepLog(folder.log, say)
        log.begin(command, code_version(), shown=not quiet)
        with log.errors():
            write_sweep(folder, sweep)
            pack(folder.results)
            runner = _Runner(
                sweep, folder, command, loop or session_loop(), cards, log, recorder, quiet=quiet, on_board=on_board
            )
            with runner.obedience.running():
                outcome = runner.run_search() if sweep.config.search == "optuna" else runner.run_grid(trials)
            pack(folder.results)
            log(f"\n{write_report(folder.root)}\n")
            if not outcome.interrupted:
                show_on_wandb(sweep, folder)
            return _conclude(outcome, folder, command, log)


def _say_warm_start(sweep: Sweep, folder: SweepFolder, say: Say) -> None:
    if sweep.config.warm_start:
        from stdcl.sweep.warm_start import collect

        for beginning in collect(sweep, folder.root.parent, cache(_content_hash)):
            say(beginning.render())


def load_settled(file: Path | str, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep file, or a shipped one by name, with absolute paths of data and of another run."""
    return load_sweep(find_sweep(str(file)), overrides, settle=_with_settled_paths)


def plan_sweep(sweep: Sweep, *, measure: bool = True, storage: Path | None = None, say: Say = _print) -> Forecast:
    """Return what a sweep will cost; nothing is written.

    Args:
        sweep: see :func:`load_settled`.
        measure: whether settings of which no earlier run says anything are measured, some seconds each.
        storage: folder of all results; $STDCL_STORAGE or ./runs if None.
        say: takes each line of progress.

    Raises:
        UserError: a fault in the file, the data, or the sweep's folder.
    """
    root = (storage or storage_path()).absolute()
    trials = sweep.trials() or sweep.boundary_trials()
    there = _with_data(sweep, sweep.trials(), say)
    _check_against_data(sweep, there, DataCheck(), say)
    with_data = {trial.key for trial in there}
    folder = SweepFolder(root / sweep.config.name)
    recorder = Recorder(folder, sweep.config.name, "")
    wanted = _wanted(sweep, there if sweep.trials() else (), session_loop())
    return forecast(
        sweep,
        trials,
        with_data,
        recorder,
        elsewhere={trial.key for trial, _ in equal_runs(wanted, folder, root)},
        remaining=_remaining(sweep, folder),
        storage=root,
        cluster=_cluster_there(),
        measure=measure,
        say=say,
    )


def _remaining(sweep: Sweep, folder: SweepFolder) -> Remaining | None:
    """What a search has left; None for a grid, whose trials say it."""
    if sweep.config.search != "optuna":
        return None
    from stdcl.sweep.remaining import remaining

    return remaining(sweep, folder.study)


def _wanted(sweep: Sweep, trials: Sequence[Trial], loop: TrainingLoop) -> list[tuple[Trial, Identity]]:
    """What the trials' results will depend on, for those that may be taken over; a loop that is a stand-in has none."""
    if loop is not session_loop() or sweep.config.alone:
        return []
    digest, hash_of = execution_digest(), cache(_content_hash)
    return [(trial, wanted_identity(trial, hash_of(trial.config.data.path), digest)) for trial in trials]


def _cluster_there() -> Cluster | None:
    """The cluster at $RAY_ADDRESS; None for this machine."""
    address = variable("RAY_ADDRESS")
    if not address:
        return None
    with looking_at(address) as cluster:
        return cluster


def _content_hash(path: str) -> str:
    return read_manifest(data_path(path)).content_hash


def _hashes(trials: Sequence[Trial]) -> dict[str, str]:
    """The content hash of each store that trials read, by absolute path."""
    places = {str(data_path(path)) for path in {trial.config.data.path for trial in trials}}
    return {place: _content_hash(place) for place in sorted(places) if (Path(place) / MANIFEST_FILE).exists()}


def _tracking(sweep: Sweep) -> wandb_settings.WandbSettings:
    return wandb_settings.settings_of((sweep.trials() or sweep.boundary_trials())[0].config.tracking)


def show_on_wandb(sweep: Sweep, folder: SweepFolder) -> None:
    """Log the sweep's table and figure as a W&B run of their own, where the trials' runs go."""
    settings = _tracking(sweep)
    if settings.mode == "disabled":
        return
    shown = display(sweep_table(folder.root))
    figure = folder.figure
    log_sweep_summary(
        settings,
        sweep=sweep.config.name,
        directory=folder.root,
        config=sweep.config.model_dump(mode="json"),
        columns=[one_line(column) for column in shown.columns],
        rows=[[one_line(cell) for cell in row] for row in shown.rows],
        figure=figure if figure.is_file() else None,
    )


def _with_settled_paths(base: dict[str, Any]) -> dict[str, Any]:
    """Settle in the driver where data and another run are: a worker's current folder can be another.

    What is not right is left as it is: the check of the trials names it.
    """
    out, data = dict(base), base.get("data")
    with suppress(ValidationError):
        init = InitConfig.model_validate(base.get("init_from"))
        out["init_from"] = settled(init, (Path.cwd(), storage_path())).model_dump(mode="json")
    if isinstance(data, dict) and isinstance(data.get("path"), str) and data["path"]:
        out["data"] = {**data, "path": str(data_path(data["path"]))}
    return out


def _with_data(sweep: Sweep, trials: Sequence[Trial], say: Say) -> list[Trial]:
    """Return the trials that a dry run, which writes nothing, can check against their data."""
    from stdcl.data.synthetic import is_unmade

    made, unmade = list[Trial](), set[str]()
    for trial in trials or sweep.boundary_trials():
        if is_unmade(trial.config):
            unmade.add(trial.config.data.path)
        else:
            made.append(trial)
    for path in sorted(unmade):
        say(f"{path}: this synthetic corpus is made when the sweep runs; its trials are checked against it then")
    return made


def _check_against_data(sweep: Sweep, trials: Sequence[Trial], check: Check, say: Say) -> None:
    """Check every cell once (seeds do not matter); a search by the corners of its space. Say what the checks remark."""
    cells = {f"{trial.arm} {trial.parameters}": trial for trial in trials}
    faults: dict[str, list[str]] = {}
    remarks: dict[str, list[str]] = {}
    for trial in cells.values():
        name = cell_name(trial.arm, trial.parameters, stated=bool(sweep.arms))
        try:
            for remark in check(trial.config):
                remarks.setdefault(remark, []).append(name)
        except UserError as error:
            for line in str(error).splitlines():
                faults.setdefault(line, []).append(name)
    if faults:
        lines = [f"{sweep.where}: {with_cells(line, which, len(cells))}" for line, which in faults.items()]
        raise UserError("\n".join(lines))
    for remark, which in remarks.items():
        say(with_cells(remark, which, len(cells)))


def _list_trials(
    sweep: Sweep,
    trials: Sequence[Trial],
    recorder: Recorder,
    elsewhere: Mapping[str, RunFolder],
    left: Remaining | None,
    say: Say,
) -> None:
    say(f"{sweep.config.name}: {sweep.config.question}")
    resources = sweep.config.resources
    say(
        f"each trial: {resources.workers} worker(s), {resources.cpus_per_worker:g} CPU and "
        f"{resources.gpus_per_worker:g} GPU each"
    )
    if not trials:
        settings = sweep.config.search_settings
        say(f"{settings.trials} trials are drawn from: {', '.join(sweep.parameters)}")
        if left is not None and (left.judged or left.begun):
            say(f"{left.judged} of them are judged, {len(left.begun)} are to be continued, {left.new} to be drawn")
    for trial in trials:
        source = elsewhere.get(trial.key)
        if source is not None:
            standing = f"finished elsewhere: {source.root}"
        else:
            status = recorder.status(trial)
            standing = _standing(status, recorder.goes_on_at(trial))
            if status.state == "not started" and (before := recorder.begins_at(trial).epoch):
                standing += f": goes on with the training of init_from.run after epoch {before}"
        say(f"  {trial.key}  {trial.fingerprint}  {standing}")


def _standing(status: TrialStatus, at: Position | None) -> str:
    """A trial's state as its table has it, and what an invocation does with it (``at``: where a checkpoint goes on)."""
    state: str = status.state
    if state == "finished":
        return state if status.has_folder else "finished (its run folder is gone)"
    if state in HELD:
        return f"{state} (left alone until it is {'unpaused' if state == 'paused' else 'retried'})"
    reached = f" after epoch {status.epochs_done}" if status.epochs_done else ""
    what = {"failed": "tried again", "interrupted": "goes on"}.get(state, "")
    if what and at is None and reached:
        what = f"{'tried again' if state == 'failed' else 'begins anew'}, without a checkpoint"
    elif what and at is not None and at.epoch != status.epochs_done:
        what = f"{what} after epoch {at.epoch}"
    return f"{state}{reached}{f': {what}' if what else ''}"


@dataclass(frozen=True)
class _Outcome:
    failures: dict[str, str]
    interrupted: bool
    stopped: str = ""
    """Why the sweep ended itself before its last trial."""


def _conclude(outcome: _Outcome, folder: SweepFolder, command: str, say: Say) -> int:
    say(f"sweep folder: {folder.root}")
    if outcome.interrupted:
        say(f"interrupted; to resume from the last checkpoints:\n  {command}")
        return INTERRUPTED
    if outcome.failures or outcome.stopped:
        if outcome.failures:
            say(f"{len(outcome.failures)} trial(s) failed:")
        for key, error in outcome.failures.items():
            say(f"  {key}: {error.splitlines()[0]}")
        if outcome.stopped:
            say(f"stopped: {outcome.stopped}")
        what = (
            "when that is mended, this tries them again and runs the others"
            if outcome.stopped
            else "this tries them again"
        )
        say(f"{what}:\n  {command}")
        return FAILED
    return 0


class _Runner:
    """One invocation's part of a sweep."""

    def __init__(
        self,
        sweep: Sweep,
        folder: SweepFolder,
        command: str,
        loop: TrainingLoop,
        cards: Cards,
        log: SweepLog,
        recorder: Recorder,
        *,
        quiet: bool,
        on_board: OnBoard | None,
    ) -> None:
        prepare_environment(sweep.config.resources)
        from stdcl.sweep.obedience import Obedience
        from stdcl.sweep.stopping import StopRequest

        self._sweep, self._folder, self._loop, self._cards = sweep, folder, loop, cards
        self._say: Say = log.write if quiet else log
        self._write, self._on_board = log.write, on_board
        self._recorder = recorder
        self._stop = StopRequest()
        self._disk: DiskBudget | None = None
        self.obedience = Obedience(folder, command, self._stop, self._say)

    def run_grid(self, trials: Sequence[Trial]) -> _Outcome:
        """Run the trials that are not finished."""
        gone = left_out(self._folder, trials)
        if gone:
            self._say(
                f"{len(gone)} trial(s) of values that the file no longer names stay in {self._folder.trials}, out of "
                f"the table: {', '.join(gone[:3])}{', ...' if len(gone) > 3 else ''}"
            )
        write_plan(self._folder, self._sweep, trials)
        self._take_over(trials)
        todo = [trial for trial in trials if not self._recorder.complete(trial)]
        before = len(trials) - len(todo)
        self._say(f"{self._sweep.config.name}: {len(trials)} trials, {before} finished before")
        held = {trial.key: ending for trial in todo if (ending := self._recorder.held(trial))}
        if held:
            listed = ", ".join(f"{key} ({ending})" for key, ending in list(held.items())[:3])
            self._say(
                f"{len(held)} trial(s) are left alone, as was asked: {listed}{', ...' if len(held) > 3 else ''}; "
                "`stdcl unpause` and `stdcl retry` let them go on"
            )
        to_run = work_of(todo, lambda trial: self._recorder.next_at(trial).epoch)
        todo = [trial for trial in todo if trial.key not in held]
        if not todo:
            return _Outcome({}, False)
        with self._cluster(todo) as cluster:
            from stdcl.sweep.planned import PlannedTrials

            self._open_budget(cluster, todo, list(held))
            progress = self._progress({trial.key: trial for trial in trials}, len(trials), before, to_run)
            while todo:
                self._fit(cluster, progress, PlannedTrials(todo), len(todo))
                self.obedience.wait_while_paused()
                todo = [] if self._stop.requested else self._released(trials, progress)
        return self._outcome(progress)

    def _released(self, trials: Sequence[Trial], progress: Progress) -> list[Trial]:
        """The trials that may go on and have not: they were paused, stopped or had failed, and somebody asked."""
        released = set(self.obedience.take_released())
        again = [
            trial
            for trial in trials
            if trial.key in released and not self._recorder.complete(trial) and not self._recorder.held(trial)
        ]
        for trial in again:
            progress.begin_again(trial.key)
        return again

    def _take_over(self, trials: Sequence[Trial]) -> None:
        """Take over the results of equal finished runs elsewhere."""
        wanted = _wanted(self._sweep, trials, self._loop)
        for trial, source in take_over(wanted, self._folder, self._folder.root.parent):
            self._say(
                f"{trial.key}: finished elsewhere with equal configuration, data and code; taken from {source.root}"
            )

    def run_search(self) -> _Outcome:
        """Let the study propose trials until it has judged as many as asked for."""
        from stdcl.sweep import study as studies

        settings = self._sweep.config.search_settings
        epochs = studies.whole_epochs(self._sweep)
        with studies.opened(self._sweep, self._folder.study, epochs) as (study, shown):
            return self._search_in(study, shown, settings)

    def _search_in(self, study: optuna.Study, shown: str, settings: OptunaConfig) -> _Outcome:
        from stdcl.sweep import study as studies
        from stdcl.sweep import warm_start
        from stdcl.sweep.sampling import study_space

        hash_of = cache(_content_hash)
        for line in warm_start.add(
            study, self._sweep, lambda: warm_start.collect(self._sweep, self._folder.root.parent, hash_of)
        ):
            self._say(line)
        waiting = studies.requeue(study, study_space(self._sweep.config.space))
        before = studies.counted(study)
        known = studies.known_trials(study, self._sweep)
        write_plan(self._folder, self._sweep, list(known.values()))
        self._recover(studies.judged(study), known)
        self._say(
            f"{self._sweep.config.name}: {settings.trials} trials, {before} judged before, {waiting} to be continued"
        )
        self._say(f"the study: optuna-dashboard {shown}")
        if before >= settings.trials:
            self._write_importance(study)
            return _Outcome({}, False)
        with self._cluster(self._sweep.boundary_trials()) as cluster:
            further = settings.trials - before
            self._open_budget(cluster, self._sweep.boundary_trials(), list(known), further)
            progress = self._progress(known, settings.trials, before)
            self._search(cluster, study, settings, progress)
        self._write_importance(study)
        return self._outcome(progress)

    def _recover(self, judged: Sequence[optuna.trial.FrozenTrial], known: Mapping[str, Trial]) -> None:
        """Add the rows of trials that the study has judged and whose driver was killed before it wrote them."""
        for old in judged:
            trial = known.get(str(old.user_attrs.get("trial")))
            if trial is None or self._recorder.complete(trial) or "error" in old.user_attrs or old.last_step is None:
                continue
            rows = read_history(self._folder.run(trial.key).history)
            row = next((row for row in rows if row["epoch"] == old.last_step + 1), None)
            if row is not None:
                self._recorder.recover_pruned(trial, row)

    def _write_importance(self, study: optuna.Study) -> None:
        from stdcl.sweep.importance import importance

        found = importance(study, objective=self._sweep.config.search_settings.objectives.index(ACCURACY))
        if found is not None:
            write_importance(self._folder.importance, found)

    def _outcome(self, progress: Progress) -> _Outcome:
        reason = self._stop.reason
        return _Outcome(progress.failures, self._stop.requested and not reason, reason)

    def _search(self, cluster: Cluster, study: optuna.Study, settings: OptunaConfig, progress: Progress) -> None:
        from stdcl.sweep import study as studies

        def on_trial(trial: Trial) -> None:
            progress.trials[trial.key] = trial
            add_trial(self._folder, trial)

        search = studies.StudySearch(
            study,
            self._sweep,
            trials=settings.trials,
            on_trial=on_trial,
            on_stopped=lambda trial, row: progress.stopped_early(trial.key, row),
            on_note=self._say,
            history=lambda trial: read_history(self._folder.run(trial.key).history),
            stop=self._stop,
        )
        self._stop.judge = search.judge
        self._fit(cluster, progress, search, settings.trials - studies.counted(study))

    def _progress(
        self, trials: dict[str, Trial], total: int, before: int, to_run: Mapping[str, Work] | None = None
    ) -> Progress:
        from stdcl.sweep.board import Board
        from stdcl.sweep.progress import Progress

        name = self._sweep.config.name
        board = Board(name, total, before, lambda key: self._folder.run(key).progress, to_run=to_run)
        if self._on_board is not None:
            self._on_board(board)
        progress = Progress(
            trials,
            board,
            total,
            self._recorder,
            self._say,
            self._stop,
            detail=self._say if self._on_board is None else self._write,
            news=NodeWatch().news,
            waiting=lambda: waiting_now(self._sweep.config.resources),
            on_ended=self._count_on_disk,
            # On a machine alone nobody asks Ray for metrics.
            on_row=Meters(self._sweep.config.name).row if variable("RAY_ADDRESS") else lambda key, row: None,
        )
        self.obedience.active, self.obedience.seconds_left = progress.active, board.seconds_left
        return progress

    @contextmanager
    def _cluster(self, trials: Sequence[Trial]) -> Iterator[Cluster]:
        self._folder.tune.mkdir(parents=True, exist_ok=True)
        with connected(self._sweep.config.resources) as cluster:
            where = "Ray on this machine" if cluster.local else f"Ray at {cluster.address}"
            self._say(f"{where}: {cluster.describe()}; {self._concurrency(cluster)} trial(s) at a time")
            if note := oversubscribed(self._sweep.config.resources):
                self._say(note)
            if not cluster.local:
                for line in check_nodes(self._folder.root.parent, _hashes(trials)):
                    self._say(line)
            yield cluster

    def _concurrency(self, cluster: Cluster) -> int:
        """As many trials as fit at once: Tune itself does not see what the worker groups hold."""
        return self._sweep.config.at_once(capacity(cluster.nodes, self._sweep.config.resources))

    def _open_budget(self, cluster: Cluster, todo: Sequence[Trial], others: Sequence[str], further: int = 0) -> None:
        """Refuse a disk budget that is too small, before anything is trained."""
        if self._sweep.config.checkpoints.budget is None:
            return
        self._disk = open_budget(self._sweep, self._folder, todo, others, self._concurrency(cluster), further=further)

    def _count_on_disk(self, key: str, ending: Ending) -> str:
        """Count what an ended trial holds; return why no other trial may start."""
        if self._disk is None:
            return ""
        checkpoints = self._folder.run(key).checkpoints
        if ending == "pruned":  # its process may still be at it
            return self._disk.ended(key, None)
        if ending != "finished":
            leave_one(checkpoints)
        return self._disk.ended(key, size_of(checkpoints) if checkpoints.is_dir() else 0)

    def _fit(self, cluster: Cluster, progress: Progress, search: Searcher, trials: int) -> None:
        """Run so many trials as one Ray Tune experiment, in a folder of its own that is dropped at the end."""
        from ray import tune

        from stdcl.sweep.trainables import LocalTrial, RayTrainTrial, TrialContext, trial_key, trial_resources

        # What goes wrong with a trial is printed and recorded by Progress.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        resources = self._sweep.config.resources
        trial_context = TrialContext(
            sweep=self._sweep.config.name,
            trials_folder=self._folder.trials,
            scratch=self._folder.tune / "train",
            loop=self._loop,
            environment=environment_to_hand_on(),
            copies=None if self._disk is None else self._disk.copies,
            cards=self._cards,
        )
        kind = LocalTrial if resources.workers == 1 else RayTrainTrial
        trainable = tune.with_resources(
            tune.with_parameters(kind, trial_context=trial_context), trial_resources(resources)
        )
        for old in self._folder.tune.iterdir():
            shutil.rmtree(old, ignore_errors=True)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                max_concurrent_trials=self._concurrency(cluster),
                reuse_actors=not self._sweep.config.alone,
                trial_name_creator=trial_key,
                trial_dirname_creator=trial_key,
                search_alg=search,
                num_samples=trials,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(self._folder.tune),
                failure_config=tune.FailureConfig(max_failures=self._sweep.config.retries),
                # Trainings keep their own checkpoints.
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                callbacks=[progress],
                stop=self._stop,
                verbose=0,
            ),
        )
        with self._signals():
            tuner.fit()
        progress.close()
        if self._stop.error is not None:
            raise self._stop.error

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let the first Ctrl-C or SIGTERM end the sweep in order, and the second at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_signal(number: int, frame: FrameType | None) -> None:
            if self._stop.requested:
                raise KeyboardInterrupt
            self._stop.request()
            self._say(f"{signal.Signals(number).name}: stopping the trials (once more: at once)")

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, on_signal) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
