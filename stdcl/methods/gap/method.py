"""GAP as a training method: heads, texts, and the matching loss over the global batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stdcl.config.paths import data_path
from stdcl.errors import UserError
from stdcl.methods.base import EpochCost, Features, FeatureShapes, Method, Step, Task
from stdcl.methods.gap.head import PartHeads
from stdcl.methods.gap.loss import matching
from stdcl.methods.gap.options import RANDOM, GAPOptions
from stdcl.methods.gap.parts import PARTS, part_joints
from stdcl.methods.gap.texts import Texts, random_texts, read_texts
from stdcl.methods.running import RunningMeans
from stdcl.parallel.comm import Comm, CountingComm
from stdcl.parallel.global_batch import gather_batch
from stdcl.seeding import torch_seed

TERM = "matching"
PAIRINGS = ("body", *PARTS)


class GAP(Method):
    """Matching of sequences with texts about their classes; the texts' features are constants.

    Args:
        options: the method section of a run.
        task: the data and the run.
        shapes: of the encoder's features.

    Raises:
        UserError: the encoder's map has no joints, the parts of its skeleton are not known, or the texts do not fit.
    """

    head: PartHeads

    def __init__(self, options: GAPOptions, task: Task, shapes: FeatureShapes) -> None:
        self._options = options
        self._task = task
        _, channels, _, joints = shapes.feature_map
        if joints != task.skeleton.num_joints:
            raise UserError(
                f"GAP needs a feature map with joints; this encoder's has {joints} places where skeleton "
                f"'{task.skeleton.name}' has {task.skeleton.num_joints} joints"
            )
        parts = options.part_joints or part_joints(task.skeleton, released_bones=options.parts == "released-bone")
        if options.texts == RANDOM:
            self._texts = random_texts(task.num_classes, options.dim, task.seed)
        else:
            self._texts = read_texts(data_path(options.texts, what="method.texts"), task.classes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(task.seed, "head"))
            self.head = PartHeads(shapes.pooled, channels, joints, parts, self._texts.dim, options.scale)
        self._placed: tuple[CountingComm, Texts, RunningMeans] | None = None

    def start(self, comm: Comm, device: torch.device, dtype: torch.dtype) -> None:
        """Move the texts to the device."""
        means = RunningMeans([f"similarity_{name}" for name in PAIRINGS], device)
        self._placed = CountingComm(comm), self._texts.to(device, dtype), means

    @property
    def _started(self) -> tuple[CountingComm, Texts, RunningMeans]:
        if self._placed is None:
            raise RuntimeError("the texts are not placed yet: call start() first")
        return self._placed

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Return ``{"skeletons": (n, 5, D)}``: unit rows times the learned scales."""
        return {"skeletons": self.head(features.feature_map, features.pooled)}

    def step(self, embeddings: Mapping[str, Tensor], step: Step) -> dict[str, Tensor]:
        """Return the mean of the five pairings' losses."""
        comm, texts, means = self._started
        own = embeddings["skeletons"]
        with torch.autocast(own.device.type, enabled=False):
            drawn = texts.draw(step.labels, step.items, seed=self._task.seed, epoch=step.epoch)
            batch = gather_batch(
                comm,
                own.to(texts.body.dtype).flatten(1),
                torch.stack([step.labels, drawn], dim=1),
                batch_size=self._task.batch_size,
                size=step.global_size,
            )
            labels, drawn = batch.numbers.unbind(1)
            skeletons = batch.rows.view(-1, *own.shape[1:])
            about = texts.look_up(labels, drawn)
            loss = matching(skeletons, about, labels).mean()
            cosines = functional.cosine_similarity(skeletons.detach(), about, dim=2)
        means.add(cosines.sum(dim=0), step.global_size)
        return {TERM: loss}

    def weights(self, epoch: int) -> Mapping[str, float]:
        """Return the weight of the term, 0 before ``start_epoch``."""
        return {TERM: self._options.weight if epoch >= self._options.start_epoch else 0.0}

    def report(self, cost: EpochCost) -> dict[str, float]:
        """Return ``gap/...``: mean cosine of a sequence and its text and the learned scale, of each pairing."""
        comm, _, means = self._started
        stats = means.close()
        stats |= {f"scale_{name}": value for name, value in zip(PAIRINGS, self.head.scale.tolist(), strict=True)}
        return {f"gap/{name}": value for name, value in (stats | cost.shares(comm)).items()}

    def state(self) -> dict[str, Any]:
        """Return what the texts are and the epoch's running sums. The texts themselves stay in their file."""
        _, texts, means = self._started
        return {"texts": texts.digest, "statistics": means.state()}

    def load(self, state: Mapping[str, Any], folder: Path) -> None:
        """Restore the running sums.

        Raises:
            UserError: the checkpoint was trained with other texts.
        """
        _, texts, means = self._started
        if state["texts"] != texts.digest:
            raise UserError(
                f"{folder}: trained with other texts ({state['texts']}); method.texts is now {self._options.texts} "
                f"({texts.digest})"
            )
        means.load(state["statistics"])
