"""The training loop: one plain loop, the same on one rank and on many, resumable at any step.

The global batch of a step is a function of (seed, epoch, step); each rank takes its contiguous part. What is minimised
is the objective's concern, what else happens at each moment the callbacks'.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, cast

import torch

from stdcl import atomic
from stdcl.config import RunConfig, changed_keys, fingerprint, to_yaml
from stdcl.config.arms import stated_arm
from stdcl.config.model import InitConfig
from stdcl.data.dataset import Batch
from stdcl.data.loader import prefetch
from stdcl.data.sampler import epoch_order, global_batches, local_part
from stdcl.errors import UserError, not_written
from stdcl.parallel.comm import Comm
from stdcl.parallel.replicate import replicate
from stdcl.results.ask import read_ask
from stdcl.results.history import HistoryFile
from stdcl.results.layout import RunFolder
from stdcl.results.measures import measure
from stdcl.results.result import RunResult, read_result, write_result
from stdcl.results.row import SUMMARY, EpochRow, add_figures
from stdcl.results.state import Ending
from stdcl.seeding import item_keys
from stdcl.tracking.sink import Sinks
from stdcl.tracking.wandb_settings import settings_of
from stdcl.tracking.wandb_sink import WandbSink
from stdcl.training import checkpoint
from stdcl.training.callbacks import Callback, History, KeepScores, ShowProgress, Tracking
from stdcl.training.checkpoint import Position
from stdcl.training.components import autocast_dtype, build_components
from stdcl.training.evaluate import Evaluation, evaluate
from stdcl.training.gpu import set_arithmetic
from stdcl.training.metrics import Stopwatch, Sums, peak_memory, reset_peak_memory, steady_seconds
from stdcl.training.model import ModelOutput
from stdcl.training.objective import Objective
from stdcl.training.optim import build_optimizer, learning_rate, set_learning_rate
from stdcl.training.processor import arithmetic_facts
from stdcl.training.start_from import start_from
from stdcl.training.state import TrainState
from stdcl.version import code_version, execution_digest, package_versions

_log = logging.getLogger(__name__)


class Diverged(Exception):
    """The loss is not finite: the configuration does not train. Trying again gives the same."""


class Stopped(Exception):
    """The run ended early because it was asked to; a checkpoint of all that it has done is written."""


def training(
    config: RunConfig,
    run_dir: Path,
    *,
    comm: Comm,
    device: torch.device,
    sweep: str = "",
    trial: str = "",
    stop: Callable[[], bool] = lambda: False,
    save_now: Callable[[], bool] = lambda: False,
) -> Iterator[EpochRow]:
    """Train, and yield one row per epoch, the same on every rank.

    Resumes from the newest complete checkpoint in ``run_dir``. A run that is complete yields its last row again.

    Args:
        config: the resolved configuration.
        run_dir: the run's folder, on a file system that all ranks see.
        comm: the ranks.
        device: where this rank computes.
        sweep: name of the sweep (groups the W&B runs).
        trial: key of the trial in the sweep; the folder's name if empty.
        stop: asked after each step, with the same answer on every rank; True: write a checkpoint and leave.
        save_now: asked after each step as well; True: write a checkpoint and go on.

    Raises:
        UserError: the configuration does not fit the data, or ``run_dir`` holds another training.
        Diverged: the loss is not finite.
        Stopped: ``stop`` said so.
        CheckpointError: a checkpoint, or the history, could not be written (for example a full disk).
    """
    trainer = Trainer(config, run_dir, comm, device, sweep=sweep, trial=trial)
    trainer.callbacks = default_callbacks(trainer)
    trainer.stop, trainer.save_now = stop, save_now
    yield from trainer.run()


LONGEST_TAG = 64
"""Characters that W&B takes."""


def shown_name(key: str) -> str:
    """Return a trial's key without its fingerprint: what varies, and the seed."""
    return re.sub(r",[0-9a-f]{8}$", "", key)


def tags(config: RunConfig, sweep: str, trial: str = "") -> list[str]:
    """Return the labels by which a run is found: encoder, dataset, protocol, stream, arm, seed and sweep."""
    data, arm = config.data, stated_arm(trial) or config.arm
    named = (config.encoder.name, data.dataset, data.protocol, data.stream, arm, f"seed {config.training.seed}")
    return [tag[:LONGEST_TAG] for tag in (*named, sweep) if tag]


def default_callbacks(trainer: Trainer) -> list[Callback]:
    """Return the callbacks of every run: its history, its last scores, and tracking on rank 0."""
    config, name = trainer.config, trainer.trial
    settings, history = settings_of(config.tracking), trainer.folder.history
    shown = [
        WandbSink(
            settings,
            sweep=trainer.sweep or name,
            key=name,
            directory=trainer.run_dir,
            history=history,
            name=shown_name(name) if trainer.sweep else name,
            tags=tags(config, trainer.sweep, name),
        )
    ]
    return [
        History(HistoryFile(history), trainer.on_rank_zero),
        KeepScores(trainer.on_rank_zero),
        ShowProgress(trainer.folder.progress),
        Tracking(Sinks(shown if trainer.comm.rank == 0 else [])),
    ]


class Trainer:
    """One rank's training.

    Args:
        config: the resolved configuration.
        run_dir: the run's folder.
        comm: the ranks.
        device: where this rank computes.
        sweep: name of the sweep; empty if there is none.
        trial: key of the trial in the sweep; the folder's name if empty.

    Attributes:
        parts: data, model and method.
        state: everything that a checkpoint restores.
        callbacks: called in order at each moment; set them before ``run``.
        stop: asked after each step whether to leave; see ``training``.
        save_now: asked after each step whether to write a checkpoint.
    """

    def __init__(
        self,
        config: RunConfig,
        run_dir: Path,
        comm: Comm,
        device: torch.device,
        *,
        sweep: str = "",
        trial: str = "",
    ) -> None:
        self.config, self.run_dir, self.comm, self.device = config, run_dir, comm, device
        self.folder = RunFolder(run_dir)
        self.sweep, self.trial = sweep, trial or run_dir.name
        self.callbacks: list[Callback] = []
        self.stop: Callable[[], bool] = lambda: False
        self.save_now: Callable[[], bool] = lambda: False
        settings = config.training
        reset_peak_memory(device)
        set_arithmetic(settings, device)
        self.parts = build_components(config, comm, device)
        model = self.parts.model
        self.model = replicate(model, comm, device, share_buffers=settings.batch_norm == "local")
        self.objective = Objective(settings, self.parts.method, comm, device)
        self.state = TrainState(
            model=model,
            optimizer=build_optimizer(settings, model.parameters()),
            scaler=torch.amp.GradScaler(device.type, enabled=settings.precision == "float16"),
            method=self.parts.method,
            sums=Sums(device),
        )
        self._root = self.folder.checkpoints
        self._newest = ""  # name of the checkpoint that this attempt wrote last, or resumed from
        self._watch = Stopwatch(device)
        self._whole_epochs: list[float] = []  # training seconds of each that this attempt trained from its first step
        self._execution = execution_digest()
        self._code_versions = (code_version(),)

    # ---- the run ----------------------------------------------------------------------------------------------

    def run(self) -> Iterator[EpochRow]:
        """Resume, train to the last epoch, and yield each epoch's row with ``done``."""
        complete = self._complete_without_checkpoints()
        if complete is not None:
            yield {**complete, "done": True}
            return
        self.resume()
        state, epochs = self.state, self.config.training.epochs
        if state.position.epoch >= epochs and state.last_row:
            self._write_result(state.last_row)
            yield {**state.last_row, "done": True}
            return
        settings, facts = self.config.model_dump(mode="json"), self._facts()
        self._notify(lambda c: c.on_start(self, settings, facts))
        status: Ending = "interrupted"
        try:
            while state.position.epoch < epochs:
                row = self.epoch(state.position.epoch)
                done = row["epoch"] == epochs
                if done:
                    self._write_result(row)
                    self._finish()
                    # Before the last row is handed on: its receiver may end this process at once.
                    status = "finished"
                    self._notify(lambda c: c.on_end(self, _summary(row), status))  # noqa: B023 - called at once
                yield self._with_notices({**row, "done": done})
                if not done and self.stop():
                    if self._newest != state.position.name:
                        self.save(state.position)
                    raise Stopped(f"stopped after epoch {row['epoch']} of {epochs}, which is saved")
        except GeneratorExit:  # the caller stops iterating
            status = read_ask(self.folder.ask) or "interrupted"
            raise
        except (Stopped, KeyboardInterrupt):
            status = read_ask(self.folder.ask) or "interrupted"
            raise
        except BaseException:
            status = "failed"
            raise
        finally:
            if status != "finished":
                self._notify(lambda c: c.on_end(self, _summary(state.last_row), status))
                for text in self._with_notices({}).get("notices", ()):  # no row will carry them
                    _log.warning("%s", text)

    def _with_notices(self, row: EpochRow) -> EpochRow:
        found = [text for callback in self.callbacks for text in callback.take_notices()]
        return {**row, "notices": found} if found else row

    def _notify(self, call: Callable[[Callback], None]) -> None:
        for callback in self.callbacks:
            call(callback)

    def epoch(self, epoch: int) -> EpochRow:
        """Train one epoch (or the rest of one), evaluate, record, write the checkpoint."""
        config, data, state = self.config.training, self.parts.data, self.state
        begin = time.perf_counter()
        order = epoch_order(config.seed, epoch, data.train.num_items)
        batches = global_batches(order, config.batch_size, config.drop_last)
        first = state.position.step
        local = [local_part(batch, self.comm.rank, self.comm.size) for batch in batches[first:]]
        stream = prefetch(
            data.train,
            epoch,
            local,
            threads=self.config.resources.loader_threads,
            pin_memory=self.device.type == "cuda",
        )
        self.model.train()
        for step, batch in enumerate(stream, start=first):
            self._notify(lambda c: c.on_step_start(self, epoch, step))  # noqa: B023 - called at once
            with self._watch.running():
                self.step(batch.to(self.device), epoch, step, len(batches[step]), len(batches))
            self._notify(lambda c: c.on_step_end(self, epoch, step, len(batches)))  # noqa: B023 - called at once
            if step + 1 < len(batches):
                self._between_steps(Position(epoch, step + 1), len(batches))
        train_seconds = time.perf_counter() - begin
        row: EpochRow = {"epoch": epoch + 1}
        add_figures(row, self.objective.epoch_losses(state.sums.reduce(self.comm), epoch))
        step_seconds = self._watch.take()
        last = epoch == config.epochs - 1
        if last or (epoch + 1) % config.evaluate_every == 0:
            row.update(self.evaluate(epoch))
        seconds = time.perf_counter() - begin
        state.training_seconds += seconds
        row["seconds"] = seconds
        row["total_seconds"] = state.training_seconds
        row["train_seconds"] = train_seconds
        if first == 0:
            self._whole_epochs.append(train_seconds)
        row["sequences_per_second"] = sum(len(b) for b in batches[first:]) / train_seconds
        row["peak_memory_mib"] = peak_memory(self.comm, self.device)
        add_figures(row, self.objective.epoch_report(len(batches) - first, step_seconds))
        state.sums = Sums(self.device)
        state.last_row = row
        self._notify(lambda c: c.on_epoch_end(self, row))
        if not math.isfinite(row["loss"]):
            raise Diverged(
                f"epoch {epoch + 1}: the loss is {row['loss']}; lower training.learning_rate or check the data"
            )
        state.position = Position(epoch + 1, 0)
        if last or (epoch + 1) % config.checkpoint_every == 0:
            self.save(state.position)
        return row

    def _between_steps(self, position: Position, steps: int) -> None:
        """Write a checkpoint where one is due, and leave where that is asked for."""
        every, stop, save_now = self.config.training.checkpoint_every_steps, self.stop(), self.save_now()
        if stop or save_now or (every and position.step % every == 0):
            self.save(position)
        if stop:
            raise Stopped(
                f"stopped after step {position.step} of {steps} of epoch {position.epoch + 1}, which is saved"
            )

    def step(self, batch: Batch, epoch: int, step: int, global_size: int, steps: int) -> None:
        """Take one optimiser step.

        Args:
            batch: this rank's sequences, on its device.
            epoch: from 0.
            step: within the epoch, from 0.
            global_size: sequences of this step over all ranks.
            steps: of the epoch.
        """
        config, state = self.config.training, self.state
        rate = learning_rate(config, epoch, step, steps)
        set_learning_rate(state.optimizer, rate)
        items = batch.items.cpu().numpy()
        keys = torch.from_numpy(item_keys(config.seed, "encoder", epoch, items)).to(self.device)
        dtype = next(state.model.parameters()).dtype
        output: ModelOutput = self.model(batch.x.to(dtype), batch.labels, keys, batch.present)
        terms = self.objective(output, batch, number=state.global_step, epoch=epoch, global_size=global_size)
        for name, share in terms.local.items():
            state.sums.add_local(name, share)
        for name, value in terms.common.items():
            state.sums.add_common(name, value)
        state.optimizer.zero_grad(set_to_none=True)
        state.scaler.scale(terms.total).backward()  # type: ignore[no-untyped-call]
        if config.gradient_clip is not None:
            state.scaler.unscale_(state.optimizer)
            torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.gradient_clip)
        state.scaler.step(state.optimizer)
        if state.scaler.is_enabled():
            before = state.scaler.get_scale()
            state.scaler.update()
            if state.scaler.get_scale() < before:
                # The gradients overflowed and the weights stayed: so must the method's state.
                self.parts.method.rollback()
        state.sums.add_common("steps", 1.0)
        state.sums.add_common("lr", rate)
        state.global_step += 1

    def evaluate(self, epoch: int) -> EpochRow:
        """Score the test part, and return its accuracy, the best so far, and every metric."""
        self._notify(lambda c: c.on_evaluate(self, epoch))
        best = self.state.best
        if self.config.training.batch_norm == "local":
            # The last step left each rank statistics of its own; the checkpoint holds rank 0's.
            for buffer in self.parts.model.buffers():
                buffer.copy_(self.comm.broadcast(buffer))
        result: Evaluation = evaluate(
            self.parts.model.encoder,
            self.parts.data.test,
            self.comm,
            self.device,
            autocast=autocast_dtype(self.config),
            on_batch=lambda done, total: self._notify(lambda c: c.on_evaluate_batch(self, epoch, done, total)),
        )
        self._notify(lambda c: c.on_evaluated(self, epoch, result))
        if result.accuracy > best.accuracy:
            best.accuracy, best.epoch = result.accuracy, epoch
        row: EpochRow = {
            "accuracy": result.accuracy,
            "correct": result.correct,
            "num_test": len(result.labels),
            "best_accuracy": best.accuracy,
            "best_epoch": best.epoch + 1,
        }
        add_figures(row, measure(result.logits, result.labels))
        return row

    # ---- what outlives the process ----------------------------------------------------------------------------

    def save(self, position: Position) -> None:
        """Write a checkpoint from which training continues at ``position``; every rank calls this."""
        state, method = self.state, self.parts.method
        sums = state.sums.state(self.comm)
        if state.last_row.get("best_epoch") == state.last_row.get("epoch") and position.step == 0:
            state.best.checkpoint = position.name

        def content() -> dict[str, Any]:
            return {
                **state.state_dict(position, sums),
                "config": to_yaml(self.config),
                "code_version": code_version(),
                "code_versions": list(self._code_versions),
                "execution": self._execution,
                "ranks": self.comm.size,
            }

        self._notify(lambda c: c.on_save(self, position))
        identity = self.parts.identity
        beside = self.config.checkpoints.copies - 1
        checkpoint.save(
            self._root,
            position,
            identity,
            self.comm,
            self.device,
            content,
            method.save_shard,
            lambda: checkpoint.make_room(self._root, (self._newest, state.best.checkpoint), beside),
        )
        # The one before stays as well: this one may turn out to be damaged when it is needed.
        keep = dict.fromkeys(name for name in (position.name, self._newest, state.best.checkpoint) if name)
        self._newest = position.name
        self._prune(list(keep)[:beside])
        self._notify(lambda c: c.on_saved(self, position))

    def _prune(self, keep: Collection[str]) -> None:
        self.on_rank_zero(lambda: checkpoint.prune(self._root, keep))

    def _finish(self) -> None:
        """Leave what a finished training keeps of its checkpoints; its result is on the disk already."""
        keep = {self._newest, self.state.best.checkpoint}
        self._prune(keep)
        if self.config.checkpoints.keep == "weights" and self.comm.rank == 0:
            try:
                for folder in checkpoint.candidates(self._root):
                    checkpoint.reduce_to_weights(folder)
            except OSError as error:
                _log.warning("%s", not_written("the checkpoints stay whole: their weights", error))

    def on_rank_zero(self, work: Callable[[], None]) -> None:
        """Let rank 0 change the run folder; if it cannot, every rank raises ``CheckpointError``."""
        reason = ""
        if self.comm.rank == 0:
            try:
                work()
            except OSError as error:
                reason = f"{type(error).__name__}: {error}"
        checkpoint.fail_together(reason, f"{self.run_dir}: not written to", self.comm, self.device)

    def resume(self) -> None:
        """Restore the newest complete checkpoint, if there is one, and write the run's configuration."""
        found = checkpoint.newest(self._root) if self.comm.rank == 0 else None
        folder = checkpoint.agree(found, self._root, self.comm, self.device)
        if folder is not None:
            manifest = checkpoint.read_manifest(folder)
            saved = checkpoint.load_state(folder, self.device)
            if "optimizer" not in saved:
                raise UserError(
                    f"{self.folder.root}: {checkpoint.WEIGHTS_ALONE}. To train it again, move this run folder away; "
                    "init_from.what: encoder begins another run with its weights"
                )
            changed = changed_keys(saved["config"], self.config)
            checkpoint.check_identity(folder, manifest, self.parts.identity, changed)
            self.state.load_state_dict(saved, folder, self.comm)
            self._newest = folder.name
            before = tuple(saved.get("code_versions") or (saved["code_version"],))
            self._code_versions = (*before, *(each for each in self._code_versions if each != before[-1]))
            if saved.get("execution") != self._execution:
                self._execution = ""  # of several codes: no other run can be said to equal it
            if self.comm.rank == 0:
                _log.info("%s: resuming from %s", self.run_dir, folder.name)
        elif self.config.init_from is not None:
            self._start_from(self.config.init_from)
        self.on_rank_zero(lambda: atomic.write_text(self.folder.config, to_yaml(self.config)))

    def _complete_without_checkpoints(self) -> EpochRow | None:
        """The last row of a complete run whose checkpoints were deleted or reduced; None for any other."""
        found = checkpoint.candidates(self._root) if self.comm.rank == 0 else []
        result = read_result(self.folder.result)
        ended = result is not None and all(map(checkpoint.holds_weights_alone, found))
        gone = torch.tensor([ended], dtype=torch.int64, device=self.device)
        if not self.comm.broadcast(gone).item() or result is None:
            return None
        expected = (fingerprint(self.config), self.parts.identity.dataset_hash)
        if (result.fingerprint or expected[0], result.data_hash or expected[1]) != expected:
            raise UserError(
                f"{self.folder.root}: holds the result of another training (fingerprint {result.fingerprint}, data "
                f"{result.data_hash[:16]}; this one's are {expected[0]} and {expected[1][:16]}). {checkpoint.WAY_OUT}"
            )
        return result.row

    def _start_from(self, init: InitConfig) -> None:
        """Begin with another run's state, and with its history where its training is continued."""
        run = start_from(init, self.state, self.parts.identity, self.config.training.epochs, self.comm)
        source = RunFolder(run).history
        if init.what == "training" and source.exists():
            self.on_rank_zero(lambda: atomic.write_bytes(self.folder.history, source.read_bytes()))
        if self.comm.rank == 0:
            _log.info("%s: starting from %s (%s)", self.folder.root, run, init.what)

    def _facts(self) -> dict[str, Any]:
        return {
            "sweep": self.sweep,
            "trial": self.trial,
            "fingerprint": fingerprint(self.config),
            "seed": self.config.training.seed,
            "code_version": code_version(),
            "data_hash": self.parts.identity.dataset_hash,
            "split": self.parts.data.split,
            "workers": self.comm.size,
            "threads": max(1, int(self.config.resources.cpus_per_worker)),
            "device": self.device.type,
            **arithmetic_facts(self.config.training, self.device),
            "exchange": self.config.exchange,
            "execution": self._execution,
            "init_from": self.config.init_from.run if self.config.init_from is not None else "",
            "epochs_before": self.state.position.epoch,
        }

    def _measured_before(self) -> float | None:
        """What the attempt measured that completed this run, where this one only found it complete."""
        before = read_result(self.folder.result) if not self._whole_epochs and self.comm.rank == 0 else None
        return before.steady_epoch_seconds if before is not None else None

    def _write_result(self, row: EpochRow) -> None:
        facts = {name: value for name, value in self._facts().items() if name != "epochs_before"}
        result = RunResult(
            row,
            packages=package_versions(),
            code_versions=self._code_versions,
            steady_epoch_seconds=steady_seconds(self._whole_epochs) or self._measured_before(),
            **facts,
        )
        self.on_rank_zero(lambda: write_result(self.folder.result, result))


def _summary(row: EpochRow) -> EpochRow:
    return cast(EpochRow, {name: value for name, value in row.items() if name in SUMMARY})
