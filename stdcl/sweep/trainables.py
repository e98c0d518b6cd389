"""A trial as Ray Tune runs it: a training whose rows are handed to Tune one per step.

Neither class uses Tune's checkpoints. What a trial has reached lies in its run folder, so a trial that is started
again, by Tune or by another ``stdcl sweep``, goes on by itself.
"""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ray import tune
from ray.util import get_node_ip_address

from stdcl.config import ResourcesConfig, RunConfig
from stdcl.config.sweep import Trial
from stdcl.errors import UserError, not_written
from stdcl.launch.cluster import per_worker
from stdcl.launch.device import CARDS, Cards, NoCard
from stdcl.launch.failures import ClusterSetupFailed, TrainingFailed, is_divergence, one_sentence
from stdcl.launch.package import ForeignCode
from stdcl.launch.ray_workarounds import HEAD
from stdcl.launch.worker import Job, TrainingLoop, run_alone, session_loop
from stdcl.launch.worker_group import WorkerGroup
from stdcl.results.ask import read_ask
from stdcl.results.layout import RunFolder
from stdcl.results.progress import close_progress, reopen_progress
from stdcl.results.row import EpochRow
from stdcl.results.state import HELD, Ending
from stdcl.version import code_version

_log = logging.getLogger(__name__)

TrialStatus = Literal["running", "diverged"] | Ending

STATUS = "trial_status"
EPOCHS_DONE = "epoch"
"""Of a row: also the number of complete epochs, and so the time axis of schedulers."""
ERROR = "error"
SETUP_FAILED = "cluster_setup_failed"
"""Set beside ``ERROR`` if the trial's workers could not start on the cluster: the trial itself did nothing wrong."""
LOOK_SECONDS = 1.0
"""Between two looks for what is asked of a trial."""
EVENT = "event"
"""Of a result that is no row: a text about what else happened."""


@dataclass(frozen=True)
class TrialContext:
    """What the trials of a sweep share. It reaches them in memory: ``environment`` may hold secrets."""

    sweep: str
    trials_folder: Path
    scratch: Path
    loop: TrainingLoop
    environment: Mapping[str, str] = field(repr=False)
    copies: int | None = None
    """Checkpoints that a trial may hold at a moment, where the sweep's disk budget says so."""
    code: str = field(default_factory=code_version)
    """Version of the driver."""
    cards: Cards = CARDS


def payload(trial: Trial) -> dict[str, Any]:
    """Return what Tune carries of a trial: two texts. It keeps several copies of every trial until its own end."""
    return {"key": trial.key, "config": json.dumps(trial.config.model_dump(mode="json"))}


def trial_key(trial: Any) -> str:
    """Return the key of one of Tune's trials (also its name and the name of its folder)."""
    return str(trial.config["trial"]["key"])


def trial_resources(resources: ResourcesConfig) -> tune.PlacementGroupFactory:
    """Return what Tune is to reserve for a trial.

    With several workers that is only a mark that keeps the trial's process on the head node (the workers reserve
    their own places): if it asked for a CPU, the processes could fill the cluster so that no worker would start; and
    a node that is taken away must not take the process with it.
    """
    if resources.workers > 1:
        return tune.PlacementGroupFactory([{HEAD: 0.001}])
    return tune.PlacementGroupFactory([per_worker(resources)])


class _TrainingTrial(tune.Trainable):  # type: ignore[misc]
    """Steps through the rows of a training. Never raises for a training that fails: Tune would repeat the fault."""

    _trial_context: TrialContext
    _job: Job
    _rows: Iterator[EpochRow | str] | None
    _last: EpochRow
    _looked: float = 0.0

    def setup(self, config: dict[str, Any], trial_context: TrialContext | None = None) -> None:
        if trial_context is None:
            raise TypeError("trial_context is given through tune.with_parameters")
        logging.getLogger("ray.train").setLevel(logging.ERROR)
        self._trial_context = trial_context
        # Ray Train reads its own settings from here.
        os.environ.update(trial_context.environment)
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in the same process."""
        self._make_way()
        self._take(new_config)
        return True

    def _take(self, config: Mapping[str, Any]) -> None:
        shared, trial = self._trial_context, config["trial"]
        config_of_run = RunConfig.model_validate(json.loads(trial["config"]))
        if shared.copies is not None:
            kept = config_of_run.checkpoints.model_copy(update={"copies": shared.copies})
            config_of_run = config_of_run.model_copy(update={"checkpoints": kept})
        self._job = Job(
            config=config_of_run,
            run_dir=shared.trials_folder / trial["key"],
            sweep=shared.sweep,
            trial=trial["key"],
            environment=shared.environment,
            code=shared.code,
            cards=shared.cards,
        )
        self._rows, self._last = None, {}

    def _open(self) -> Iterator[EpochRow | str]:
        raise NotImplementedError

    def step(self) -> dict[str, Any]:
        """Return the next epoch's row, or a text about what else happened (``EVENT``)."""
        from stdcl.training.trainer import Stopped  # a trial's process needs it, the driver does not

        try:
            if held := self._held():
                return self._result(held)
            if self._rows is None:
                reopen_progress(RunFolder(self._job.run_dir).progress)
                self._rows = self._open()
            row = next(self._rows, None)
            if row is None and (held := self._held()):
                return self._result(held)
            if row is None:
                raise RuntimeError("the training ended without a last row")
            if isinstance(row, str):
                return {STATUS: "running", EVENT: row, "done": False}
            self._last = row
            if row["done"]:
                # What comes after the last row belongs to the training as well.
                for _ in self._rows:
                    pass
            return self._result("finished" if row["done"] else "running")
        except Stopped:
            return self._result(self._held() or "interrupted")
        except NoCard as error:
            return {**self._result("failed", f"on node {get_node_ip_address()}: {error}"), SETUP_FAILED: True}
        except UserError as error:
            return self._result("failed", str(error))
        except (ClusterSetupFailed, ForeignCode) as error:
            return {**self._result("failed", str(error)), SETUP_FAILED: True}
        except Exception as error:
            return self._result(
                "diverged" if is_divergence(error) else "failed",
                # Says whose error it is.
                str(error) if isinstance(error, TrainingFailed) else one_sentence(error),
                trace=traceback.format_exc(),
            )

    def _held(self) -> Ending | None:
        """How this trial is to end, where somebody has asked for that."""
        asked = read_ask(RunFolder(self._job.run_dir).ask)
        return asked if asked in HELD else None

    def _asked_to_leave(self) -> bool:
        """As ``_held``; asked after every step, so it looks now and then."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return False
        self._looked = now
        return self._held() is not None

    def _result(self, status: TrialStatus, error: str = "", trace: str = "") -> dict[str, Any]:
        row: dict[str, Any] = {**self._last, STATUS: status, "done": status != "running"}
        if status in HELD:
            self.cleanup()
        if status != "running":
            close_progress(RunFolder(self._job.run_dir).progress, "failed" if status == "diverged" else status)
        if error:
            row |= {ERROR: error, "trace": trace}
            self._rows = None
        return row

    def cleanup(self) -> None:
        """Stop the training where it stands, and let go of whatever it holds."""
        self._leave()

    def _make_way(self) -> None:
        """End the training for the next one, if it has not ended."""
        self._leave()

    def _leave(self) -> None:
        """Stop the training where it stands, if it has not ended."""
        rows, self._rows = self._rows, None
        if rows is not None:
            rows.close()  # type: ignore[attr-defined]
            if read_ask(RunFolder(self._job.run_dir).ask) == "pruned":
                self._reduce()

    def _reduce(self) -> None:
        """Leave of a trial that was stopped early, and never goes on, what a finished one keeps."""
        from stdcl.training.checkpoint import candidates, leave_one, reduce_to_weights

        root = RunFolder(self._job.run_dir).checkpoints
        try:
            leave_one(root)
            for folder in candidates(root) if self._job.config.checkpoints.keep == "weights" else ():
                reduce_to_weights(folder)
        except OSError as error:
            _log.warning("%s", not_written(root, error))


class LocalTrial(_TrainingTrial):
    """A trial of one worker: the loop runs in the trial's own process, which serves one trial after another."""

    def _open(self) -> Iterator[EpochRow | str]:
        loop = self._trial_context.loop
        return run_alone(self._job, session_loop(self._asked_to_leave) if loop is session_loop() else loop)


class RayTrainTrial(_TrainingTrial):
    """A trial of several workers: this process follows a Ray Train worker group, which serves one trial after another.

    Reports come through a queue of its own and not through Tune's session, and stopping a trial aborts Train's
    controller: with Ray's own callback a trial can lose its last report, wait for ever, or keep its places on the
    cluster after it was stopped.
    """

    _group: WorkerGroup | None = None

    def _open(self) -> Iterator[EpochRow | str]:
        shared = self._trial_context
        if self._group is not None and self._group.takes(self._job):
            self._group.hand(self._job)
        else:
            self._end_group()
            self._group = WorkerGroup(self._job, shared.loop, shared.scratch)
        # A paused one leaves after its epoch, which is saved.
        return self._group.rows(lambda: self._held() == "stopped")

    def _make_way(self) -> None:
        """Of a trial that was stopped early the group is kept for the next one."""
        if self._group is not None and self._rows is not None:
            self._group.leave()
        super()._make_way()

    def cleanup(self) -> None:
        super().cleanup()
        self._end_group()

    def _end_group(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            group.end()
