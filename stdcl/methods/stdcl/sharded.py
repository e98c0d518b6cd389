"""The contrast over ranks: one step of all branches, and its state (STD-CL, eq. 6-9).

Every collective is in this file or in ``exchange``. Sharding by slot, choosing by (score, slot) and drawing by (seed,
step, slot) leave nothing that could depend on the number of ranks; a single rank runs the same code through
``LocalComm``. Each collective is unconditional and its shape is a function of the configuration alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stdcl.config.contrast import ContrastConfig
from stdcl.methods.stdcl import bank_files, whole_state
from stdcl.methods.stdcl.bank import Shard, SlotIndex, first_of_each
from stdcl.methods.stdcl.exchange import EXCHANGES
from stdcl.methods.stdcl.head import BRANCHES, branches_of
from stdcl.methods.stdcl.loss import info_nce, unit, unit_gradient
from stdcl.methods.stdcl.random_negatives import anchor_keys, draw_without_replacement
from stdcl.methods.stdcl.search import LocalCandidates, Searcher
from stdcl.methods.stdcl.selection import Selected, Selection, without_duplicates
from stdcl.methods.stdcl.statistics import Statistics
from stdcl.parallel.comm import Comm, CountingComm
from stdcl.parallel.placement import Placement


@dataclass(frozen=True)
class ContrastResult:
    """What a step gives back.

    Attributes:
        losses: ``{branch: ()}``, the loss over the global batch, equal on all ranks. Its gradient with respect to this
            rank's embeddings is the exact gradient of that global loss, so under data parallelism that averages over
            W ranks it must be multiplied by W.
        active: ``(batch_size,)`` bool, which anchors of the global batch took part.
        selected: what the global batch was compared with, equal on all ranks up to the order of columns.
    """

    losses: dict[str, Tensor]
    active: Tensor
    selected: Selected

    @property
    def selection(self) -> dict[str, Selection]:
        """Each branch's selection over the global batch, in its order, equal on all ranks."""
        return {branch: self.selected.of_branch(z) for z, branch in enumerate(self.losses)}


@dataclass(frozen=True)
class _Anchors:
    """The global batch: ``features`` (B, Z, D), ``slots`` (B,), and where this rank's own anchors are in it."""

    features: Tensor
    slots: Tensor
    own: Tensor


class Contrast:
    """Banks, sampling and loss of every branch of a strategy. Holds no parameters and keeps no graph alive."""

    def __init__(
        self,
        config: ContrastConfig,
        labels: Tensor,
        comm: Comm,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        dataset: str = "",
        branches: tuple[str, ...] = (),
    ) -> None:
        """Make empty banks.

        Args:
            config: the contrast section of a run.
            labels: ``(L,)`` integers, the class of each slot; equal on all ranks.
            comm: the ranks.
            device: where the banks live.
            dtype: float32, or float64 for a float64 model.
            seed: the run's seed; random negatives depend on it.
            dataset: what the slots stand for (content hash and split), written into saved banks and compared at load.
            branches: names of the embeddings; by default those of ``config.strategy``.
        """
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"banks are float32 or float64, not {dtype}")
        self.config = config
        self.branches = branches or branches_of(config.strategy)
        if not self.branches:
            raise ValueError(f"contrast.strategy {config.strategy!r} has no branch: there is nothing to contrast")
        self.comm = CountingComm(comm)
        self.device = torch.device(device)
        self.dtype = dtype
        self.seed = seed
        self.dataset = dataset
        self.slot_index = SlotIndex(labels, self.device)
        self.placement = Placement(labels.numel(), comm.size)
        rows = self.placement.rows(comm.rank)
        self.shards = [Shard(rows, config.embedding_dim, self.device, dtype) for _ in self.branches]
        self.written_step = torch.zeros(rows + 1, dtype=torch.int64, device=self.device)
        self.statistics = Statistics(self.branches, self.device)
        self._exchange = EXCHANGES[config.exchange](self.comm, self.placement)
        self._searcher = Searcher(
            self._exchange.searched,
            self._exchange.searcher_rank,
            self.slot_index.classes,
            self.slot_index.written.numel(),
            dtype,
            config.hard_negatives,
        )
        self._undo: tuple[Any, ...] | None = None

    # ---- a step -------------------------------------------------------------------------------------------------

    def step(self, embeddings: dict[str, Tensor], slots: Tensor, *, step: int, batch_size: int) -> ContrastResult:
        """Compare the global batch with the banks, write it into them, and return the losses.

        Every rank must call this in every step, also with no sequence of its own.

        Args:
            embeddings: ``{branch: (n, D)}`` of this rank's sequences; n may differ between ranks and may be 0. The
                global batch is their concatenation in rank order.
            slots: ``(n,)`` int64, the slot of each. A slot that is in the global batch more than once is written
                from its first appearance.
            step: number of the step since the start of training; with the seed it fixes the random negatives.
            batch_size: sequences of a full global batch: no step may bring more, and no rank more than its
                ``ceil(batch_size / W)``.
        """
        began = time.perf_counter()
        with torch.autocast(self.device.type, enabled=False):
            stacked = torch.stack([embeddings[branch] for branch in self.branches], dim=1).to(self.dtype)
            with torch.inference_mode():  # small operations cost an eighth less in it than without gradients alone
                z, scale = unit(stacked)
                anchors = self._gather_anchors(z, slots.to(self.device), batch_size)
                if self.config.readings.write == "before":
                    self._write(anchors, step)
                losses, gradient, active, selected = self._compare(anchors, step)
                if self.config.readings.write == "after":
                    self._write(anchors, step)
                gradient = unit_gradient(z, scale, gradient[anchors.own])
            joined: Tensor = _GlobalLoss.apply(stacked, losses.clone(), gradient.clone())  # type: ignore[no-untyped-call]
        self.statistics.seconds += time.perf_counter() - began
        return ContrastResult(dict(zip(self.branches, joined.unbind(), strict=True)), active, selected)

    def write(self, features: dict[str, Tensor], slots: Tensor, step: int = 0) -> None:
        """Fill slots from outside a step. Every rank must give the same arguments; no communication.

        Args:
            features: ``{branch: (n, D)}`` unit rows.
            slots: ``(n,)`` int64.
            step: when they count as written.
        """
        stacked = torch.stack([features[branch] for branch in self.branches], dim=1)
        own = torch.zeros(0, dtype=torch.int64, device=self.device)
        self._write(_Anchors(stacked.detach().to(self.dtype), slots, own), step)

    def rollback(self) -> None:
        """Undo the last step's write, for an optimiser step that was skipped. Once a step."""
        if self._undo is None:
            raise RuntimeError("nothing to roll back: no step was taken since the last one was undone")
        slots, new, rows, steps, before = self._undo
        self._undo = None
        self.slot_index.remove_last(slots, new)
        for shard, features in zip(self.shards, before, strict=True):
            shard.restore(rows, features)
        self.written_step.index_copy_(0, rows, steps)
        self._searcher.show(slots, self.slot_index.marks[slots])

    def _gather_anchors(self, z: Tensor, slots: Tensor, batch_size: int) -> _Anchors:
        share = -(-batch_size // self.comm.size)
        count = slots.numel()
        if count > share or len(z) != count:
            raise ValueError(
                f"rank {self.comm.rank} brought {len(z)} embeddings and {count} slots; with batch_size {batch_size} on "
                f"{self.comm.size} ranks both must be the same number, at most {share}"
            )
        torch._assert_async(((slots >= 0) & (slots < self.slot_index.num_slots)).all(), "a slot outside the bank")
        # One row a sequence: the slot, -1 for none, as 64 bits; then the numbers, from an even place to an even one.
        wide = z.shape[1] * z.shape[2]
        slot_words = 8 // z.element_size()
        mine = torch.zeros(share, slot_words + wide + wide % 2, dtype=self.dtype, device=self.device)
        mine_slots = mine.view(torch.int64)[:, 0]
        mine_slots.fill_(-1)
        mine_slots[:count] = slots
        mine[:count, slot_words : slot_words + wide] = z.view(count, wide)
        packed = self.comm.all_gather(mine).flatten(0, 1)
        filled = packed.view(torch.int64)[:, 0] >= 0
        torch._assert_async(filled.sum() <= batch_size, "more sequences than batch_size in the global batch")
        order = filled.logical_not().to(torch.int8).argsort(stable=True)[:batch_size]
        packed = packed[order]
        first = filled[: self.comm.rank * share].sum()
        return _Anchors(
            features=packed[:, slot_words : slot_words + wide].reshape(-1, *z.shape[1:]),
            slots=packed.view(torch.int64)[:, 0].contiguous(),
            own=first + torch.arange(count, device=self.device),
        )

    def _write(self, anchors: _Anchors, step: int) -> None:
        winners = first_of_each(anchors.slots)
        kept = torch.where(winners, anchors.slots, -1)
        rows, _ = self.placement.rows_on(self.comm.rank, kept)
        before = [shard.write(rows, anchors.features[:, i]) for i, shard in enumerate(self.shards)]
        steps = self.written_step[rows]
        self.written_step[rows] = step
        new = self.slot_index.add(anchors.slots, winners)
        self._searcher.show(anchors.slots, self.slot_index.marks[anchors.slots])
        self._undo = (anchors.slots, new, rows, steps, before)

    # ---- comparing ----------------------------------------------------------------------------------------------

    def _compare(self, anchors: _Anchors, step: int) -> tuple[Tensor, Tensor, Tensor, Selected]:
        """Return losses ``(Z,)``, their gradients ``(B, Z, D)`` by unit rows, active anchors and the selection."""
        features = self._exchange.rows([shard.features for shard in self.shards])
        positives, negatives = self.slot_index.counts(anchors.slots, self.config.readings.exclude_own_slot)
        active = self._active(anchors.slots, positives, negatives)
        drawn = self._draw(anchors.slots, negatives, step)
        drawn_rows, drawn_here = self._rows_here(drawn)
        selected = self._merge(self._search(features, anchors, drawn_rows, drawn_here), drawn)
        losses, coefficients = self._loss(selected, active)
        found_rows, found_here = self._rows_here(selected.slots[..., : sum(selected.widths[:2])])
        rows = torch.cat([found_rows, drawn_rows], dim=2)
        gradient = torch.stack([_weighted_rows(*x) for x in zip(features, rows, coefficients, strict=True)], dim=1)
        ages = self._ages(selected.slots, rows, torch.cat([found_here, drawn_here], dim=2), active, step)
        gradient, ages = self._exchange.reduce(gradient[:, :, : self.config.embedding_dim], ages.to(self.dtype))
        self.statistics.add(selected, active, anchors.slots >= 0, ages)
        return losses, gradient, active, selected

    def _active(self, slots: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        config = self.config
        if config.readings.shortage == "clamp":
            return (slots >= 0) & (positives > 0) & (negatives > 0)
        wanted = max(config.hard_negatives, config.random_negatives)
        return (slots >= 0) & (positives >= config.hard_positives) & (negatives >= wanted)

    def _draw(self, slots: Tensor, negatives: Tensor, step: int) -> Tensor:
        """Return ``(Z, B, N_R-)`` slots of random negatives, -1 where there are fewer."""
        count = self.config.random_negatives
        # STD-CL's branches keep their numbers whichever of them are there.
        numbers = [BRANCHES.index(b) if b in BRANCHES else i for i, b in enumerate(self.branches)]
        keys = [anchor_keys(self.seed, step, number, slots) for number in numbers]
        sizes = torch.where(slots >= 0, negatives, 0).repeat(len(keys))
        positions = draw_without_replacement(torch.cat(keys), sizes, count, in_turn=False)
        return self.slot_index.negative_at(slots.repeat(len(keys)), positions).view(len(keys), len(slots), count)

    def _rows_here(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return where slots are among the rows that this rank compares with, and whether they are."""
        return self._searcher.placement.rows_on(self._searcher.rank, slots)

    def _search(
        self, features: list[Tensor], anchors: _Anchors, drawn: Tensor, drawn_here: Tensor
    ) -> list[LocalCandidates]:
        """Compare all anchors with the rows here, for each branch; ``drawn`` ``(Z, B, N_R)`` are rows."""
        searcher, config = self._searcher, self.config
        own_rows = self._rows_here(anchors.slots)[0] if config.readings.exclude_own_slot else None
        places = searcher.places(self.slot_index.class_of(anchors.slots), own_rows)
        return [
            searcher.search(
                rows,
                anchors.features[:, z],
                places,
                searcher.buffer_places(drawn[z]),
                drawn_here[z],
                config.hard_positives,
            )
            for z, rows in enumerate(features)
        ]

    def _merge(self, local: list[LocalCandidates], drawn: Tensor) -> Selected:
        """Turn each rank's candidates into the selection over all ranks."""
        searcher, config = self._searcher, self.config
        wanted = (config.hard_positives, config.hard_negatives)
        scores = torch.stack([found.scores for found in local])
        slots = searcher.slots_of(torch.stack([found.rows for found in local]), searcher.rank)
        drawn_scores = torch.stack([found.drawn_scores for found in local])
        scores, slots, drawn_scores = self._exchange.merge(scores, slots, drawn_scores, wanted)
        found = scores > -torch.inf
        scores[..., : wanted[0]].neg_()
        return Selected(
            torch.cat([scores, drawn_scores], dim=2),
            torch.cat([found, drawn >= 0], dim=2),
            torch.cat([torch.where(found, slots, -1), drawn], dim=2),
            (*wanted, config.random_negatives),
        )

    def _loss(self, selected: Selected, active: Tensor) -> tuple[Tensor, Tensor]:
        """Return losses ``(Z,)`` and their derivatives ``(Z, B, P + N_H + N_R)`` by the chosen scores."""
        config = self.config
        real, widths = selected.real, tuple(w for w in selected.widths if w)
        if config.readings.negative_sets == "union":
            pulling, hard, random = selected.sets()
            real = torch.cat([pulling.real, hard.real, without_duplicates(random, hard)], dim=2)
            widths = (selected.widths[0], sum(selected.widths[1:]))
        return info_nce(
            selected.scores, real, active, widths, temperature=config.temperature, reduction=config.readings.reduction
        )

    def _ages(self, slots: Tensor, rows: Tensor, here: Tensor, active: Tensor, step: int) -> Tensor:
        """Return for each branch the sum of the ages (steps) of the chosen slots that this rank owns: ``(Z,)``."""
        rows, here = self._exchange.owned(slots, rows, here)
        ages = step - self.written_step.index_select(0, rows.view(-1)).view_as(rows)
        return torch.where(here & active.unsqueeze(1), ages, 0).sum(dim=(1, 2))

    # ---- between steps ------------------------------------------------------------------------------------------

    def _state(self) -> bank_files.BankState:
        by_branch = dict(zip(self.branches, self.shards, strict=True))
        return bank_files.BankState(
            self.dataset, self.slot_index, by_branch, self.written_step, self.placement, self.comm.rank
        )

    def save_shard(self, folder: Path) -> Path:
        """Write this rank's part of the banks into ``folder``; all ranks together write the whole. No communication."""
        return bank_files.save_shard(self._state(), folder)

    def load(self, folder: Path) -> None:
        """Take over the banks in ``folder``, whatever the number of ranks that wrote them.

        Raises:
            stdcl.methods.stdcl.bank_files.DamagedBank: files are missing or unreadable.
            UserError: the banks belong to another dataset, split or configuration; the message says which.
        """
        bank_files.load(self._state(), folder)
        self._loaded()

    def whole_state(self) -> dict[str, Any]:
        """Return the banks of all ranks as plain values and CPU tensors; every rank calls this."""
        return whole_state.gather(self._state(), self.comm)

    def load_whole_state(self, saved: Mapping[str, Any]) -> None:
        """Take over what :meth:`whole_state` gave, on any number of ranks. Raises as :meth:`load`."""
        whole_state.load(self._state(), saved)
        self._loaded()

    def _loaded(self) -> None:
        self._undo = None
        for slots in torch.split(torch.arange(self.slot_index.num_slots, device=self.device), 1 << 20):
            self._searcher.show(slots, self.slot_index.marks[slots])

    @property
    def memory_bytes(self) -> int:
        """Bytes of rank 0's shards of all branches (features alone). It owns the most slots; all ranks say the same."""
        return sum(shard.features[0].nbytes for shard in self.shards) * (self.placement.rows(0) + 1)

    def epoch_stats(self) -> dict[str, float]:
        """Return the means since the last call and start anew. See ``Statistics.close`` for the names."""
        stats = self.statistics.close()
        stats["bank_bytes"] = float(self.memory_bytes)
        stats["communication_bytes"] = self.comm.bytes_sent
        self.comm.reset()
        return stats


def _weighted_rows(features: Tensor, rows: Tensor, coefficients: Tensor) -> Tensor:
    """Return ``(B, D)``: for each anchor the sum of its chosen rows ``(B, T)``, each times its coefficient."""
    return torch.nn.functional.embedding_bag(rows, features, per_sample_weights=coefficients, mode="sum")


class _GlobalLoss(torch.autograd.Function):
    """Passes values on whose gradient was computed beforehand, so that backward needs no communication."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, losses: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return losses.clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output.view(1, -1, 1), None, None
