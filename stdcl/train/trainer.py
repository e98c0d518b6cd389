"""The training loop: one plain loop, the same on one rank and on many, resumable at any step.

The global batch of a step is a function of (seed, epoch, step); each rank takes its contiguous part. A rank's loss is
W times its share of the global loss, so that data parallelism's average over W ranks is the gradient of the global
loss, whatever the number of ranks and however uneven their parts.
"""

from __future__ import annotations

import json
import logging
import math
import resource
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stdcl import atomic
from stdcl.config import RunConfig, changed_keys, fingerprint, to_yaml
from stdcl.data.dataset import Batch
from stdcl.data.loader import prefetch
from stdcl.data.sampler import epoch_order, global_batches, local_part
from stdcl.parallel.comm import Comm
from stdcl.parallel.replicate import replicate
from stdcl.seeding import item_keys
from stdcl.tracking.sink import JsonLines, Sinks
from stdcl.tracking.wandb_sink import WandbSettings, WandbSink
from stdcl.train import checkpoint
from stdcl.train.assemble import Assembly, assemble, autocast_dtype, slots_of
from stdcl.train.checkpoint import Position
from stdcl.train.evaluate import Evaluation, evaluate
from stdcl.train.metrics import Stopwatch, Sums
from stdcl.train.model import ModelOutput
from stdcl.train.optim import build_optimizer, learning_rate, set_learning_rate
from stdcl.version import code_version

_log = logging.getLogger(__name__)

Row = dict[str, Any]
HISTORY = "history.jsonl"
RESULT = "result.json"
CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"


class Diverged(Exception):
    """The loss is not finite: the configuration does not train. Trying again gives the same."""


def training(
    config: RunConfig,
    run_dir: Path,
    *,
    comm: Comm,
    device: torch.device,
    sweep: str = "",
    trial: str = "",
) -> Iterator[Row]:
    """Train, and yield a row an epoch, the same on every rank.

    Goes on from the newest whole checkpoint in ``run_dir``. A run that is complete yields its last row again.

    Args:
        config: the resolved configuration.
        run_dir: the run's folder, on a file system that all ranks see.
        comm: the ranks.
        device: where this rank computes.
        sweep: name of the sweep (groups the W&B runs).
        trial: key of the trial in the sweep; the folder's name if empty.

    Raises:
        UserError: the configuration does not fit the data, or ``run_dir`` holds another training.
        Diverged: the loss is not finite.
        CheckpointError: a checkpoint, or the history, could not be written (for example a full disk).
    """
    session = _Session(config, run_dir, comm, device, sweep, trial or run_dir.name)
    yield from session.run()


class _Session:
    def __init__(
        self,
        config: RunConfig,
        run_dir: Path,
        comm: Comm,
        device: torch.device,
        sweep: str,
        trial: str,
    ) -> None:
        self.config, self.run_dir, self.comm, self.device = config, run_dir, comm, device
        self.sweep, self.trial = sweep, trial
        self.parts: Assembly = assemble(config, comm, device)
        self.root = run_dir / CHECKPOINTS
        settings = config.training
        self.model = replicate(self.parts.model, comm, device, share_buffers=settings.batch_norm == "local")
        self.optimizer = build_optimizer(settings, self.parts.model.parameters())
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "float16")
        self.position = Position(0, 0)
        self.global_step = 0
        self.best_accuracy, self.best_epoch, self.best_checkpoint = -1.0, -1, ""
        self.newest_checkpoint = ""  # that this run has written or goes on from: a damaged one is neither
        self.last_row: Row = {}
        self.spent = 0.0  # seconds of training in all attempts
        self.sums = Sums(device)
        self.contrast_watch, self.step_watch = Stopwatch(device), Stopwatch(device)
        # The history is the run's own record: unlike what is shown elsewhere, it must be complete.
        self.history = JsonLines(run_dir / HISTORY)
        wandb = WandbSettings(
            project=config.tracking.project, entity=config.tracking.entity, mode=config.tracking.wandb
        )
        shown = [WandbSink(wandb, sweep=sweep or trial, key=trial, directory=run_dir)]
        self.sinks = Sinks(shown if comm.rank == 0 else [])

    # ---- the run ----------------------------------------------------------------------------------------------

    def run(self) -> Iterator[Row]:
        self._resume()
        epochs = self.config.training.epochs
        if self.position.epoch >= epochs and self.last_row:
            self._write_result(self.last_row)
            yield {**self.last_row, "done": True}
            return
        settings, facts = self.config.model_dump(mode="json"), self._facts()
        self._on_rank_zero(lambda: self.history.start(settings, facts))
        self.sinks.start(settings, facts)
        status = "pruned"  # what a run is when whoever iterates stops asking
        try:
            while self.position.epoch < epochs:
                row = self._epoch(self.position.epoch)
                done = row["epoch"] == epochs - 1
                if done:
                    self._write_result(row)
                    self._prune({self.newest_checkpoint, self.best_checkpoint})
                    # Before the last row is handed on: its receiver may end this process at once.
                    status = "finished"
                    self.sinks.finish(self._summary(row), status)
                yield {**row, "done": done}
        except GeneratorExit:
            raise
        except BaseException:
            status = "failed"
            raise
        finally:
            if status != "finished":
                self.sinks.finish(self._summary(self.last_row), status)

    def _epoch(self, epoch: int) -> Row:
        """Train one epoch (or the rest of one), evaluate, record, write the checkpoint."""
        config, data = self.config.training, self.parts.data
        begin = time.perf_counter()
        order = epoch_order(config.seed, epoch, data.train.num_items)
        batches = global_batches(order, config.batch_size, config.drop_last)
        first = self.position.step
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
            with self.step_watch.running():
                self._step(batch.to(self.device), epoch, step, len(batches[step]), len(batches))
            every = config.checkpoint_every_steps
            if every and (step + 1) % every == 0 and step + 1 < len(batches):
                self._save(Position(epoch, step + 1))
        train_seconds = time.perf_counter() - begin
        steps = len(batches) - first
        row: Row = {"epoch": epoch}
        row.update(self._epoch_losses(epoch))
        step_seconds, contrast_seconds = self.step_watch.take(), self.contrast_watch.take()
        last = epoch == config.epochs - 1
        if last or (epoch + 1) % config.evaluate_every == 0:
            row.update(self._evaluate(epoch))
        seconds = time.perf_counter() - begin
        self.spent += seconds
        row["seconds"] = seconds
        row["total_seconds"] = self.spent
        row["train_seconds"] = train_seconds
        row["sequences_per_second"] = sum(len(b) for b in batches[first:]) / train_seconds
        row["memory_mb"] = self._peak_memory()
        if self.parts.contrast is not None:
            stats = self.parts.contrast.epoch_stats()
            stats.pop("contrast_seconds")  # of the host; the stopwatch also sees a GPU's
            stats["bytes_per_step"] = stats.pop("communication_bytes") / max(steps, 1)
            stats["share_of_step"] = contrast_seconds / step_seconds if step_seconds else 0.0
            row.update({f"contrast/{name}": value for name, value in stats.items()})
        self.sums = Sums(self.device)
        self.last_row = row
        # The history first: a checkpoint that stands promises that the rows before it stand too.
        self._on_rank_zero(lambda: self.history.log_epoch(row, epoch))
        self.sinks.log_epoch(row, epoch)
        if not math.isfinite(row["loss"]):
            raise Diverged(f"epoch {epoch}: the loss is {row['loss']}; lower training.learning_rate or check the data")
        self.position = Position(epoch + 1, 0)
        if last or (epoch + 1) % config.checkpoint_every == 0:
            self._save(self.position)
        return row

    def _step(self, batch: Batch, epoch: int, step: int, global_size: int, steps: int) -> None:
        config = self.config.training
        rate = learning_rate(config, epoch, step, steps)
        set_learning_rate(self.optimizer, rate)
        items = batch.items.cpu().numpy()
        keys = torch.from_numpy(item_keys(config.seed, "encoder", epoch, items)).to(self.device)
        dtype = next(self.parts.model.parameters()).dtype
        output: ModelOutput = self.model(batch.x.to(dtype), batch.labels, keys, batch.present)
        total = self._loss(output, batch, epoch, global_size)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        if config.gradient_clip is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.parts.model.parameters(), config.gradient_clip)
        self.scaler.step(self.optimizer)
        if self.scaler.is_enabled():
            before = self.scaler.get_scale()
            self.scaler.update()
            if self.scaler.get_scale() < before and self.parts.contrast is not None:
                # The gradients overflowed and the weights stayed: so must the bank.
                self.parts.contrast.rollback()
        self.sums.add_common("steps", 1.0)
        self.sums.add_common("lr", rate)
        self.global_step += 1

    def _loss(self, output: ModelOutput, batch: Batch, epoch: int, global_size: int) -> Tensor:
        """Return W times this rank's share of the global loss (eq. 10), and add its terms to the epoch's sums."""
        smoothing = self.config.training.label_smoothing
        ce = functional.cross_entropy(output.logits, batch.labels, reduction="sum", label_smoothing=smoothing)
        self.sums.add_local("ce", ce)
        self.sums.add_local("items", float(len(batch.labels)))
        self.sums.add_local("correct", (output.logits.detach().argmax(1) == batch.labels).sum())
        total = ce / global_size
        for name, term in output.own_losses.items():
            share = term * (len(batch.labels) / global_size)
            self.sums.add_local(f"own/{name}", share)
            total = total + share
        contrast = self.parts.contrast
        if contrast is not None:
            settings = self.config.contrast
            weights = {
                "spatial": settings.weight_spatial,
                "temporal": settings.weight_temporal,
                "global": settings.weight_global,
            }
            with self.contrast_watch.running():
                result = contrast.step(
                    output.embeddings,
                    slots_of(self.config, self.parts.data, batch.items),
                    step=self.global_step,
                    batch_size=self.config.training.batch_size,
                )
            for branch, loss in result.losses.items():
                self.sums.add_common(f"contrast/{branch}", loss)
                # Before start_epoch the term is kept at weight 0: every parameter then has a gradient on every rank.
                weight = weights[branch] if epoch >= settings.start_epoch else 0.0
                total = total + weight * loss
        return total * self.comm.size

    def _epoch_losses(self, epoch: int) -> Row:
        sums = self.sums.reduce(self.comm)
        steps, items = sums["steps"], sums["items"]
        row: Row = {
            "ce": sums["ce"] / items,
            "train_accuracy": sums["correct"] / items,
            "learning_rate": sums["lr"] / steps,
        }
        total = row["ce"]
        settings = self.config.contrast
        for name, value in sums.items():
            if name.startswith("own/"):
                row[name] = value / steps
                total += row[name]
            if name.startswith("contrast/"):
                branch = name.removeprefix("contrast/")
                row[f"loss_{branch}"] = value / steps
                if epoch >= settings.start_epoch:
                    total += getattr(settings, f"weight_{branch}") * row[f"loss_{branch}"]
        row["loss"] = total
        return row

    def _evaluate(self, epoch: int) -> Row:
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
        )
        if result.accuracy > self.best_accuracy:
            self.best_accuracy, self.best_epoch = result.accuracy, epoch
        return {
            "accuracy": result.accuracy,
            "correct": result.correct,
            "num_test": len(result.labels),
            "best_accuracy": self.best_accuracy,
            "best_epoch": self.best_epoch,
        }

    def _peak_memory(self) -> float:
        """Return the largest peak memory of a rank so far, in MiB (GPU memory on CUDA, resident memory else)."""
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device) / 2**20
        else:
            unit = 1 if sys.platform == "darwin" else 1024
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
        own = torch.tensor([peak], dtype=torch.float64, device=self.device)
        return float(self.comm.all_reduce(own, "max").item())

    # ---- what outlives the process ----------------------------------------------------------------------------

    def _save(self, position: Position) -> None:
        model, contrast = self.parts.model, self.parts.contrast
        sums = self.sums.state(self.comm)
        if self.last_row.get("best_epoch") == self.last_row.get("epoch") and position.step == 0:
            self.best_checkpoint = position.name

        def state() -> dict[str, Any]:
            return {
                "model": model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "position": [position.epoch, position.step],
                "global_step": self.global_step,
                "best": [self.best_accuracy, self.best_epoch, self.best_checkpoint],
                "last_row": json.dumps(self.last_row),
                "sums": sums,
                "contrast_sums": contrast.statistics.state() if contrast is not None else [],
                "spent": self.spent,
                "config": to_yaml(self.config),
                "code_version": code_version(),
                "ranks": self.comm.size,
            }

        def shard(folder: Path) -> None:
            if contrast is not None:
                contrast.save_shard(folder)

        checkpoint.save(self.root, position, self.parts.identity, self.comm, self.device, state, shard)
        # The one before stays as well: this one may turn out to be damaged when it is needed.
        keep = {position.name, self.newest_checkpoint, self.best_checkpoint}
        self.newest_checkpoint = position.name
        self._prune(keep)

    def _prune(self, keep: Collection[str]) -> None:
        self._on_rank_zero(lambda: checkpoint.prune(self.root, keep))

    def _on_rank_zero(self, work: Callable[[], None]) -> None:
        """Let rank 0 change the run folder; if it cannot, every rank ends."""
        reason = ""
        if self.comm.rank == 0:
            try:
                work()
            except OSError as error:
                reason = f"{type(error).__name__}: {error}"
        checkpoint.fail_together(reason, f"{self.run_dir}: not written to", self.comm, self.device)

    def _resume(self) -> None:
        config_file = self.run_dir / CONFIG
        found = checkpoint.newest(self.root) if self.comm.rank == 0 else None
        folder = checkpoint.agree(found, self.root, self.comm, self.device)
        if folder is None:
            self._on_rank_zero(lambda: atomic.write_text(config_file, to_yaml(self.config)))
            return
        manifest = checkpoint.read_manifest(folder)
        state = checkpoint.load_state(folder, self.device)
        checkpoint.check_identity(folder, manifest, self.parts.identity, changed_keys(state["config"], self.config))
        self.parts.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.position = Position(*state["position"])
        self.newest_checkpoint = folder.name
        self.global_step = state["global_step"]
        self.best_accuracy, self.best_epoch, self.best_checkpoint = state["best"]
        self.last_row = json.loads(state["last_row"])
        self.spent = state["spent"]
        self.sums.load(state["sums"], self.comm)
        if self.parts.contrast is not None:
            self.parts.contrast.load(folder)
            self.parts.contrast.statistics.load(state["contrast_sums"])
        self._on_rank_zero(lambda: atomic.write_text(config_file, to_yaml(self.config)))
        if self.comm.rank == 0:
            _log.info("%s: going on from %s", self.run_dir, folder.name)

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
            "resume_epoch": self.position.epoch,
        }

    def _summary(self, row: Row) -> Row:
        keys = ("epoch", "accuracy", "best_accuracy", "best_epoch", "num_test", "total_seconds", "memory_mb")
        return {key: row[key] for key in keys if key in row}

    def _write_result(self, row: Row) -> None:
        result = {"status": "finished", "row": row, **{k: v for k, v in self._facts().items() if k != "resume_epoch"}}
        self._on_rank_zero(lambda: atomic.write_json(self.run_dir / RESULT, result))
