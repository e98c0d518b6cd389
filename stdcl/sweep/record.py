"""What became of a trial, as a row of the results store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from stdcl.config import fingerprint
from stdcl.config.sweep import Trial
from stdcl.errors import UserError
from stdcl.results.ask import read_ask, write_ask
from stdcl.results.layout import SweepFolder
from stdcl.results.measures import METRIC_PREFIX
from stdcl.results.plan import PlannedTrial
from stdcl.results.result import RunResult, read_result
from stdcl.results.state import HELD, Ending
from stdcl.results.status import Attempts, TrialStatus, ending_of, read_attempts_once, trial_status
from stdcl.results.store import TrialRow, append
from stdcl.tracking.wandb_identity import read_identity
from stdcl.training.checkpoint import Position, candidates, dataset_hash, position_of, reduce_to_weights
from stdcl.training.start_from import source_checkpoint
from stdcl.version import code_version


class Recorder:
    """Appends to a sweep's results store.

    Args:
        folder: the sweep's folder.
        sweep: its name.
        command: what repeats or continues the sweep.
    """

    def __init__(self, folder: SweepFolder, sweep: str, command: str) -> None:
        self._folder = folder
        self._sweep = sweep
        self._command = command
        self._sources: dict[str, Position] = {}

    @cached_property
    def _attempts(self) -> Attempts:
        """The store, read once: nothing here is to grow with the number of trials."""
        found = read_attempts_once(self._folder.results)
        if found.damaged:
            listed = "\n".join(f"  {path}: {reason}" for path, reason in found.damaged.items())
            raise UserError(
                f"{len(found.damaged)} file(s) of the results store are damaged:\n{listed}\n"
                "Move them away to go on without these attempts; the trials' own result.json files are beside them."
            )
        return found

    def status(self, trial: Trial) -> TrialStatus:
        """Return what is known of a trial; what a table says of it, it says here.

        Raises:
            UserError: the folder of that name holds the result of another configuration.
        """
        self._check_result(trial)
        planned = PlannedTrial(trial.key, trial.arm, trial.parameters, trial.seed, trial.fingerprint)
        return trial_status(planned, self._folder.run(trial.key), self._attempts)

    def goes_on_at(self, trial: Trial) -> Position | None:
        """Return where another attempt of a trial goes on; None where it begins anew, whatever its history says."""
        checkpoints = candidates(self._folder.run(trial.key).checkpoints)
        return position_of(checkpoints[0]) if checkpoints else None

    def begins_at(self, trial: Trial) -> Position:
        """Return where a trial begins that has no checkpoint: with ``what: training`` at its source's position.

        Raises:
            UserError: the source has no checkpoint, or has all epochs already.
        """
        init, epochs = trial.config.init_from, trial.config.training.epochs
        if init is None or init.what != "training":
            return Position(0)
        if init.run not in self._sources:  # read once: a checkpoint's checksums take a while
            found = position_of(source_checkpoint(Path(init.run)))
            self._sources[init.run] = found or Position(0)
        source = self._sources[init.run]
        if source.epoch >= epochs:
            raise UserError(
                f"{trial.key}: init_from.run: {init.run} has {source.epoch} epochs; set training.epochs to more than "
                f"that (it is {epochs})"
            )
        return source

    def epochs_left(self, trial: Trial) -> int:
        """Return how many epochs an invocation is to train of a trial. Raises as ``status`` and ``begins_at``."""
        if self.status(trial).state in ("finished", "pruned", *HELD):
            return 0
        return max(0, trial.config.training.epochs - self.next_at(trial).epoch)

    def next_at(self, trial: Trial) -> Position:
        """Return where the next attempt of a trial goes on or begins. Raises as ``begins_at``."""
        return self.goes_on_at(trial) or self.begins_at(trial)

    def epochs_of_new(self, trial: Trial) -> int:
        """Return how many epochs a trial trains that begins. Raises as ``begins_at``."""
        return trial.config.training.epochs - self.begins_at(trial).epoch

    def check_data(self, trials: Sequence[Trial], path: str, content_hash: Callable[[str], str]) -> None:
        """Check that what is on record was trained on the data as they are now.

        Args:
            trials: of the sweep, as far as they are known.
            path: of the data of the other ones.
            content_hash: gives that of the store at a path.

        Raises:
            UserError: data were prepared again since.
        """
        paths = {trial.key: trial.config.data.path for trial in trials}
        trained: dict[tuple[str, str], int] = {}
        for key, row in self._attempts.latest.items():
            if row.get("data_hash") and (key in paths or not trials):
                place = paths.get(key, path), str(row["data_hash"])
                trained[place] = trained.get(place, 0) + 1
        for (where, before), number in trained.items():
            now = content_hash(where)
            if now != before:
                raise UserError(
                    f"{where}: these data were prepared again: their content hash is {now[:16]}, and {number} "
                    f"trial(s) of the sweep '{self._sweep}' were trained on {before[:16]}. One table must not mix "
                    "both: put the former data back, or give the sweep another name (--set name=...)"
                )

    def complete(self, trial: Trial) -> bool:
        """Whether the trial's training is complete; if so it has a row in the store afterwards.

        A run folder's own result counts: a driver that was killed between the end of a training and its row left only
        the row to add. So does the store's row of a trial whose folder was deleted. Raises as ``status``.
        """
        result = self._check_result(trial)
        row = self._attempts.latest.get(trial.key, {})
        recorded = ending_of(row) == "finished" and row.get("fingerprint") in (None, "", trial.fingerprint)
        if result is None:
            return recorded and read_ask(self._folder.run(trial.key).ask) != "interrupted"
        if not recorded:
            how = {"taken_from": result.taken_from} if result.taken_from else {"recovered": True}
            self.record(trial, "finished", result.row, how)
            if trial.config.checkpoints.keep == "weights":  # its process was killed before it came to that, perhaps
                for folder in candidates(self._folder.run(trial.key).checkpoints):
                    reduce_to_weights(folder)
        return True

    def recover_pruned(self, trial: Trial, row: Mapping[str, Any]) -> None:
        """Add the row of a trial that was stopped early after ``row``, unless it is there."""
        if ending_of(self._attempts.latest.get(trial.key, {})) != "pruned":
            self.record(trial, "pruned", row, {"recovered": True})

    def ask(self, trial: Trial, ending: Ending) -> None:
        """Let the process that trains know how its attempt ends; one that cannot be told says ``interrupted``."""
        with suppress(OSError):
            write_ask(self._folder.run(trial.key).ask, ending)

    def held(self, trial: Trial) -> Ending | None:
        """Return ``paused`` or ``stopped`` for a trial that is to be left alone; None for others."""
        asked = read_ask(self._folder.run(trial.key).ask)
        return asked if asked in HELD else None

    def _check_result(self, trial: Trial) -> RunResult | None:
        folder = self._folder.run(trial.key)
        result = read_result(folder.result)
        if result is not None and result.fingerprint not in ("", trial.fingerprint):
            raise UserError(
                f"{folder.root}: holds the result of another configuration ({result.fingerprint}; expected "
                f"{trial.fingerprint}); move it away"
            )
        return result

    def record(
        self,
        trial: Trial,
        status: Ending,
        row: Mapping[str, Any],
        more: Mapping[str, Any] | None = None,
        *,
        error: str | None = None,
        started: datetime | None = None,
        finished: datetime | None = None,
    ) -> TrialRow:
        """Append one attempt.

        Args:
            trial: whose.
            status: what it came to.
            row: the last epoch's numbers, empty if there are none.
            more: further facts.
            error: of a failed attempt.
            started: when this attempt began.
            finished: when it ended.
        """
        config, attempt = trial.config, self._attempts.count.get(trial.key, 0)
        result = read_result(self._folder.run(trial.key).result)
        trained_on = result.data_hash if result is not None else ""
        if status == "pruned" and not trained_on:  # it is judged, and leaves no result
            trained_on = dataset_hash(self._folder.run(trial.key).checkpoints)
        epochs = int(row["epoch"]) if "epoch" in row else None
        seconds = _number(row, "total_seconds")
        accuracy = _number(row, "accuracy")
        entry = TrialRow(
            sweep=self._sweep,
            key=trial.key,
            attempt=attempt,
            status=status,
            arm=trial.arm,
            seed=trial.seed,
            parameters=trial.parameters,
            dataset=config.data.dataset,
            protocol=config.data.protocol,
            evaluated_on=config.data.evaluate_on,
            stream=config.data.stream,
            encoder=config.encoder.name,
            strategy=config.arm,
            fingerprint=fingerprint(config),
            code_version=result.code_version if result is not None else code_version(),
            data_hash=trained_on,
            synthetic=config.data.synthetic is not None,
            error=error,
            epochs=epochs,
            accuracy=accuracy,
            best_accuracy=_number(row, "best_accuracy"),
            best_epoch=int(row["best_epoch"]) if "best_epoch" in row else None,
            num_test=int(row["num_test"]) if "num_test" in row else None,
            total_seconds=seconds,
            seconds_per_epoch=seconds / epochs if seconds is not None and epochs else None,
            throughput=_number(row, "sequences_per_second"),
            peak_memory_mib=_number(row, "peak_memory_mib"),
            workers=config.resources.workers,
            started=started,
            finished=finished,
            wandb_id=read_identity(self._folder.run(trial.key).root).get("id"),
            command=self._command,
            more={
                **{name: row[name] for name in row if name.startswith(METRIC_PREFIX)},
                **(result.measured() if result is not None else {}),
                **(more or {}),
            },
        )
        append(self._folder.results, entry)
        self._attempts.add(entry)
        return entry


def _number(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    return float(value) if value is not None else None
