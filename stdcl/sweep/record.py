"""What became of a trial, as a row of the results store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from stdcl.config import fingerprint
from stdcl.config.sweep import Trial
from stdcl.errors import UserError
from stdcl.results.layout import SweepFolder
from stdcl.results.result import RunResult, read_result
from stdcl.results.store import TrialRow, append, next_attempt, read
from stdcl.tracking.wandb_identity import read_identity
from stdcl.version import code_version

Ending = Literal["finished", "failed", "pruned"]


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

    def is_finished(self, trial: Trial) -> bool:
        """Whether the trial's training is complete.

        Raises:
            UserError: the folder of that name holds the result of another configuration.
        """
        return self._result(trial) is not None

    def complete(self, trial: Trial) -> bool:
        """Whether the trial's training is complete; if so it has a row in the store afterwards.

        The training's own result is what counts: a driver that was killed between the end of a training and its row
        left only the row to add. Raises as ``is_finished``.
        """
        result = self._result(trial)
        if result is None:
            return False
        if trial.key not in self._finished_keys():
            how = {"taken_from": result.taken_from} if result.taken_from else {"recovered": True}
            self.record(trial, "finished", result.row, how)
        return True

    def _result(self, trial: Trial) -> RunResult | None:
        folder = self._folder.run(trial.key)
        result = read_result(folder.result)
        if result is not None and result.fingerprint not in ("", trial.fingerprint):
            raise UserError(
                f"{folder.root}: holds the result of another configuration ({result.fingerprint}; expected "
                f"{trial.fingerprint}); move it away"
            )
        return result

    def _finished_keys(self) -> set[str]:
        rows = read(self._folder.results)
        return set() if rows.empty else set(rows.loc[rows["status"] == "finished", "key"])

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
        config, attempt = trial.config, next_attempt(self._folder.results, trial.key)
        result = read_result(self._folder.run(trial.key).result)
        epochs = int(row["epoch"]) if "epoch" in row else None
        seconds = _number(row, "total_seconds")
        accuracy = _number(row, "accuracy")
        entry = TrialRow(
            sweep=self._sweep,
            key=trial.key,
            attempt=attempt,
            status=status,
            arm="baseline" if trial.arm == "baseline" else "grid",
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
            data_hash=result.data_hash if result is not None else "",
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
            more=dict(more or {}),
        )
        append(self._folder.results, entry)
        return entry


def _number(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    return float(value) if value is not None else None
