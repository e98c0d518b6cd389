"""The contrast over ranks: every collective of this package is here (STD-CL, eq. 6-9).

Both exchanges run the same steps. With ``candidates`` each rank compares all anchors with its own shard, and what
travels is anchors, best candidates and scores. With ``allgather`` the shards travel, and each rank compares all
anchors with the whole bank. Sharding by slot, choosing by (score, slot) and drawing by (seed, step, slot) leave nothing
that could depend on the number of ranks; a single rank runs the same code through ``LocalComm``.

Collectives of a step with ``candidates``: one all-gather of the anchors, one of the candidates, one all-reduce of the
drawn scores, one of the gradient. Each is unconditional and its shape is a function of the configuration alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stdcl.config.model import ContrastConfig
from stdcl.contrast import store
from stdcl.contrast.bank import ClassIndex, Ledger, Shard, first_of_each
from stdcl.contrast.draw import anchor_keys, draw_without_replacement
from stdcl.contrast.head import BRANCHES, branches_of
from stdcl.contrast.loss import Chosen, info_nce, unit, without_duplicates
from stdcl.contrast.ordering import best, best_rows
from stdcl.contrast.scores import TILE, score_buffer, score_rows
from stdcl.contrast.statistics import Statistics
from stdcl.parallel.comm import Comm, CountingComm, LocalComm
from stdcl.parallel.placement import Placement


@dataclass(frozen=True)
class ContrastResult:
    """What a step gives back.

    Attributes:
        losses: ``{branch: ()}``, the loss over the global batch, equal on all ranks. Its gradient with respect to this
            rank's embeddings is the exact gradient of that global loss, so under data parallelism that averages over
            W ranks it must be multiplied by W.
        active: ``(batch_size,)`` bool, which anchors of the global batch took part.
        selection: ``{branch: Selection}`` over the global batch, equal on all ranks.
    """

    losses: dict[str, Tensor]
    active: Tensor
    selection: dict[str, Selection]


@dataclass(frozen=True)
class Selection:
    """The slots an anchor was compared with, in the order of their rank; -1 where fewer exist than were asked for."""

    positives: Chosen
    hard_negatives: Chosen
    random_negatives: Chosen


@dataclass(frozen=True)
class _Anchors:
    """The global batch: ``features`` (B, Z, D), ``slots`` (B,), and where this rank's own anchors are in it."""

    features: Tensor
    slots: Tensor
    own: Tensor


@dataclass(frozen=True)
class _Found:
    """What one rank found among its rows: candidates ``(B, P + N)``, and the drawn slots' scores or zero ``(B, N_R)``.

    Scores of positives are negated, so that the best is the largest in both parts; fewer than asked for end in -inf.
    """

    scores: Tensor
    rows: Tensor
    drawn_scores: Tensor


@dataclass
class _View:
    """The rows that this rank compares with: its shard, or with ``allgather`` the whole bank."""

    placement: Placement
    rank: int
    comm: Comm
    index: ClassIndex
    hidden: Tensor
    buffer: Tensor | None = None
    features: list[Tensor] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.placement.rows(self.rank)

    def rows_of(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows of slots (``rows`` where not here) and whether they are here."""
        return self.placement.rows_on(self.rank, slots)

    def slots_of(self, rows: Tensor, rank: Tensor | int) -> Tensor:
        """Return the slots of rows of ``rank``'s part."""
        return rows * self.placement.size + rank


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
        """
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"banks are float32 or float64, not {dtype}")
        self.config = config
        self.branches = branches_of(config.strategy)
        if not self.branches:
            raise ValueError(f"contrast.strategy {config.strategy!r} has no branch: there is nothing to contrast")
        self.comm = CountingComm(comm)
        self.device = torch.device(device)
        self.dtype = dtype
        self.seed = seed
        self.dataset = dataset
        self.ledger = Ledger(labels, self.device)
        self.placement = Placement(labels.numel(), comm.size)
        rows = self.placement.rows(comm.rank)
        self.shards = [Shard(rows, config.embedding_dim, self.device, dtype) for _ in self.branches]
        self.written_step = torch.zeros(rows + 1, dtype=torch.int64, device=self.device)
        self.statistics = Statistics(self.branches, self.device)
        self._view = self._make_view()
        self._undo: tuple[Any, ...] | None = None

    def _make_view(self) -> _View:
        whole = self.config.exchange == "allgather"
        placement = Placement(self.ledger.num_slots, 1) if whole else self.placement
        rank = 0 if whole else self.comm.rank
        slots = placement.slots(rank, self.device)
        tiles = -(-(slots.numel() + 1) // TILE)
        return _View(
            placement=placement,
            rank=rank,
            comm=LocalComm() if whole else self.comm,
            index=ClassIndex(self.ledger.classes[slots], self.ledger.written.numel()),
            hidden=torch.full((tiles * TILE,), -torch.inf, device=self.device, dtype=self.dtype),
        )

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
            stacked = torch.stack([embeddings[branch] for branch in self.branches], dim=1)
            z = unit(stacked.to(self.dtype))
            with torch.no_grad():
                anchors = self._gather_anchors(z.detach(), slots.to(self.device), batch_size)
                if self.config.write == "before":
                    self._write(anchors, step)
                    losses, gradient, active, selection = self._compare(anchors, step)
                else:
                    losses, gradient, active, selection = self._compare(anchors, step)
                    self._write(anchors, step)
            joined: Tensor = _GlobalLoss.apply(z, losses, gradient[anchors.own])  # type: ignore[no-untyped-call]
        self.statistics.seconds += time.perf_counter() - began
        by_branch = dict(zip(self.branches, joined.unbind(), strict=True))
        return ContrastResult(by_branch, active, selection)

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
        self.ledger.remove_last(slots, new)
        for shard, features in zip(self.shards, before, strict=True):
            shard.restore(rows, features)
        self.written_step.index_copy_(0, rows, steps)
        self._show(slots)

    def _gather_anchors(self, z: Tensor, slots: Tensor, batch_size: int) -> _Anchors:
        share = -(-batch_size // self.comm.size)
        count = slots.numel()
        if count > share or len(z) != count:
            raise ValueError(
                f"rank {self.comm.rank} brought {len(z)} embeddings and {count} slots; with batch_size {batch_size} on "
                f"{self.comm.size} ranks both must be the same number, at most {share}"
            )
        wide = z.shape[1] * z.shape[2]
        words = torch.int32 if self.dtype == torch.float32 else torch.int64
        slot_words = torch.full((share, 1), -1, dtype=torch.int64, device=self.device)
        slot_words[:count, 0] = slots
        own = torch.zeros(share, wide, dtype=self.dtype, device=self.device)
        own[:count] = z.reshape(count, wide)
        torch._assert_async(((slots >= 0) & (slots < self.ledger.num_slots)).all(), "a slot outside the bank")
        own_words, slot_words = own.view(words), slot_words.view(words)
        packed = self.comm.all_gather(torch.cat([slot_words, own_words], dim=1)).flatten(0, 1)
        # The slots come first: numbers of 64 bits must start at an even place.
        all_slots = packed[:, :-wide].reshape(-1).view(torch.int64)
        filled = all_slots >= 0
        torch._assert_async(filled.sum() <= batch_size, "more sequences than batch_size in the global batch")
        order = (~filled).to(torch.int8).argsort(stable=True)[:batch_size]
        first = filled[: self.comm.rank * share].sum()
        return _Anchors(
            features=packed[:, -wide:].contiguous().view(self.dtype)[order].view(-1, *z.shape[1:]),
            slots=all_slots[order],
            own=first + torch.arange(count, device=self.device),
        )

    def _write(self, anchors: _Anchors, step: int) -> None:
        winners = first_of_each(anchors.slots)
        kept = torch.where(winners, anchors.slots, -1)
        rows, _ = self.placement.rows_on(self.comm.rank, kept)
        before = [shard.write(rows, anchors.features[:, i]) for i, shard in enumerate(self.shards)]
        steps = self.written_step[rows]
        self.written_step[rows] = step
        new = self.ledger.add(anchors.slots, winners)
        self._show(anchors.slots)
        self._undo = (anchors.slots, new, rows, steps, before)

    def _show(self, slots: Tensor) -> None:
        """Let the rows of these slots be chosen, or not, as the ledger says."""
        rows, here = self._view.rows_of(slots)
        shown = here & self.ledger.marks[slots]
        self._view.hidden[rows] = torch.where(shown, 0.0, -torch.inf).to(self.dtype)

    # ---- comparing ----------------------------------------------------------------------------------------------

    def _compare(self, anchors: _Anchors, step: int) -> tuple[Tensor, Tensor, Tensor, dict[str, Selection]]:
        config, view = self.config, self._view
        view.features = self._features()
        positives = self.ledger.positives(anchors.slots, config.exclude_own_slot)
        negatives = self.ledger.negatives(anchors.slots)
        active = self._active(anchors.slots, positives, negatives)
        drawn = self._draw(anchors.slots, negatives, step)
        local = [self._search(z, anchors, drawn[z]) for z in range(len(self.branches))]
        selections = self._merge(local, drawn)
        losses, gradient, ages = [], [], []
        for z, selection in enumerate(selections):
            loss, coefficients = self._loss(selection, active)
            losses.append(loss)
            rows, age = self._rows_and_age(selection, active, step)
            gradient.append(self._weighted_rows(z, rows, coefficients))
            ages.append(age)
        total = self._reduce_gradient(torch.stack(gradient, dim=1), torch.stack(ages))
        by_branch = dict(zip(self.branches, selections, strict=True))
        self.statistics.add(by_branch, active, anchors.slots >= 0, total[1])
        return torch.stack(losses), total[0], active, by_branch

    def _features(self) -> list[Tensor]:
        if self.config.exchange == "candidates":
            return [shard.features for shard in self.shards]
        return [self._whole(shard.features) for shard in self.shards]

    def _whole(self, features: Tensor) -> Tensor:
        """All-gather one branch's shards into the whole bank in slot order, and its row for "no slot"."""
        most = self.placement.rows(0)
        padded = torch.nn.functional.pad(features[:-1], (0, 0, 0, most - (len(features) - 1)))
        by_slot = self.comm.all_gather(padded).transpose(0, 1).reshape(-1, features.shape[1])
        return torch.cat([by_slot[: self.ledger.num_slots], features[-1:]])

    def _active(self, slots: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        config = self.config
        if config.shortage == "clamp":
            return (slots >= 0) & (positives > 0) & (negatives > 0)
        wanted = max(config.hard_negatives, config.random_negatives)
        return (slots >= 0) & (positives >= config.hard_positives) & (negatives >= wanted)

    def _draw(self, slots: Tensor, negatives: Tensor, step: int) -> Tensor:
        """Return ``(Z, B, N_R-)`` slots of random negatives, -1 where there are fewer."""
        count = self.config.random_negatives
        keys = [anchor_keys(self.seed, step, BRANCHES.index(branch), slots) for branch in self.branches]
        sizes = torch.where(slots >= 0, negatives, 0).repeat(len(keys))
        positions = draw_without_replacement(torch.cat(keys), sizes, count)
        return self.ledger.negative_at(slots.repeat(len(keys)), positions).view(len(keys), len(slots), count)

    def _search(self, z: int, anchors: _Anchors, drawn: Tensor) -> _Found:
        """Compare all anchors with the rows of this view: best candidates and the scores of drawn slots it has."""
        view, config = self._view, self.config
        if view.buffer is None or view.buffer.shape[1] < len(anchors.slots):
            view.buffer = score_buffer(view.rows, len(anchors.slots), self.device, self.dtype)
        scores = score_rows(view.features[z], view.hidden, anchors.features[:, z], view.buffer)
        batch, width = scores.shape[1], view.buffer.shape[1]
        columns = torch.arange(batch, device=self.device).unsqueeze(1)
        flat = view.buffer.view(-1)
        same_class = view.index.rows_of(self.ledger.class_of(anchors.slots))
        same_class_places = (same_class * width + columns).view(-1)
        # Positives: least similar first. Rows that cannot be chosen are -inf, and +inf once the sign is turned.
        falling = -flat.index_select(0, same_class_places).view_as(same_class)
        barred = falling == torch.inf
        if config.exclude_own_slot:
            own_row, _ = view.rows_of(anchors.slots)
            barred |= same_class == own_row.unsqueeze(1)
        falling = falling.masked_fill(barred, -torch.inf)
        positive = best(falling, same_class, min(config.hard_positives, falling.shape[1]))
        # Random negatives: the scores of those drawn slots that are here, zero for the others.
        rows, here = view.rows_of(drawn)
        drawn_scores = flat.index_select(0, (rows * width + columns).view(-1)).view_as(rows)
        # Hard negatives: most similar first, without the anchor's class.
        flat.index_fill_(0, same_class_places, -torch.inf)
        values, rows = best_rows(view.buffer, min(config.hard_negatives, len(view.buffer)))
        wanted = (config.hard_positives, config.hard_negatives)
        found = (positive, (values[:batch], rows[:batch]))
        return _Found(
            torch.cat([_widen(f[0], k, -torch.inf) for f, k in zip(found, wanted, strict=True)], dim=1),
            torch.cat([_widen(f[1], k, view.rows) for f, k in zip(found, wanted, strict=True)], dim=1),
            torch.where(here, drawn_scores, 0.0),
        )

    def _merge(self, local: list[_Found], drawn: Tensor) -> list[Selection]:
        """Turn each rank's candidates into the selection over all ranks."""
        comm, view, config = self._view.comm, self._view, self.config
        words = torch.int32 if self.dtype == torch.float32 else torch.int64
        sizes = [config.hard_positives, config.hard_negatives]
        scores = torch.stack([found.scores for found in local])
        rows = torch.stack([found.rows for found in local])
        gathered = comm.all_gather(torch.stack([scores.view(words), rows.to(words)]))  # (W, 2, Z, B, P + N)
        random_scores = comm.all_reduce(torch.stack([found.drawn_scores for found in local]))
        ranks = torch.arange(comm.size, device=self.device).view(-1, 1, 1, 1) if comm.size > 1 else view.rank
        all_scores = gathered[:, 0].contiguous().view(self.dtype)
        all_slots = view.slots_of(gathered[:, 1].to(torch.int64), ranks)
        selections = []
        for z in range(len(local)):
            scores_of = torch.split(all_scores[:, z], sizes, dim=2)
            slots_of = torch.split(all_slots[:, z], sizes, dim=2)
            positives, negatives = (_merged(s, t) for s, t in zip(scores_of, slots_of, strict=True))
            positives = Chosen(-positives.scores, positives.real, positives.slots)
            random = Chosen(random_scores[z], drawn[z] >= 0, drawn[z])
            selections.append(Selection(positives, negatives, random))
        return selections

    def _loss(self, selection: Selection, active: Tensor) -> tuple[Tensor, Tensor]:
        """Return one branch's loss and ``(B, P + N_H + N_R)`` derivatives with respect to the chosen scores."""
        config = self.config
        hard, random = selection.hard_negatives, selection.random_negatives
        if config.negative_sets == "union":
            fresh = without_duplicates(random, hard)
            joined = Chosen(*(torch.cat(pair, dim=1) for pair in _columns(hard, fresh)))
            sets = [joined]
        else:
            sets = [chosen for chosen in (hard, random) if chosen.scores.shape[1]]
        loss, pull, pushes = info_nce(
            selection.positives, sets, active, temperature=config.temperature, reduction=config.reduction
        )
        return loss, torch.cat([pull, *pushes], dim=1)

    def _rows_and_age(self, selection: Selection, active: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return the rows here of the chosen slots, and the sum of the ages (steps) of those that this rank owns."""
        parts = (selection.positives, selection.hard_negatives, selection.random_negatives)
        slots = torch.cat([part.slots for part in parts], dim=1)
        rows, here = self._view.rows_of(slots)
        own, owned = rows, here
        if self.config.exchange == "allgather":
            own, owned = self.placement.rows_on(self.comm.rank, slots)
        ages = step - self.written_step.index_select(0, own.view(-1)).view_as(own)
        return rows, torch.where(owned & active.unsqueeze(1), ages, 0).sum()

    def _weighted_rows(self, z: int, rows: Tensor, coefficients: Tensor) -> Tensor:
        """Return ``(B, D)``: for each anchor the sum of its chosen rows here, each times its coefficient."""
        features = self._view.features[z]
        summed = torch.nn.functional.embedding_bag(rows, features, per_sample_weights=coefficients, mode="sum")
        return summed[:, : self.config.embedding_dim]

    def _reduce_gradient(self, gradient: Tensor, ages: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the gradients (B, Z, D) over the ranks that hold parts of it, and the ages (Z,) over all owners."""
        split = gradient.numel()
        joined = torch.cat([gradient.flatten(), ages.to(self.dtype)])
        if self.config.exchange == "allgather":
            return gradient, self.comm.all_reduce(joined[split:])
        total = self.comm.all_reduce(joined)
        return total[:split].view_as(gradient), total[split:]

    # ---- between steps ------------------------------------------------------------------------------------------

    def _state(self) -> store.BankState:
        by_branch = dict(zip(self.branches, self.shards, strict=True))
        return store.BankState(self.dataset, self.ledger, by_branch, self.written_step, self.placement, self.comm.rank)

    def save_shard(self, folder: Path) -> Path:
        """Write this rank's part of the banks into ``folder``; all ranks together write the whole. No communication."""
        return store.save_shard(self._state(), folder)

    def load(self, folder: Path) -> None:
        """Take over the banks in ``folder``, whatever the number of ranks that wrote them.

        Raises:
            stdcl.contrast.store.DamagedBank: files are missing or unreadable.
            UserError: the banks belong to another dataset, split or configuration; the message says which.
        """
        store.load(self._state(), folder)
        self._undo = None
        for slots in torch.split(torch.arange(self.ledger.num_slots, device=self.device), 1 << 20):
            self._show(slots)

    @property
    def memory_bytes(self) -> int:
        """Bytes of this rank's shards of all branches (features alone)."""
        return sum(shard.features.numel() * shard.features.element_size() for shard in self.shards)

    def epoch_stats(self) -> dict[str, float]:
        """Return the means since the last call and start anew. See ``Statistics.close`` for the names."""
        stats = self.statistics.close()
        stats["bank_bytes"] = float(self.memory_bytes)
        stats["communication_bytes"] = self.comm.bytes_sent
        self.comm.reset()
        return stats


def _widen(x: Tensor, width: int, value: float) -> Tensor:
    """Widen ``(B, n)`` to ``(B, width)`` with ``value``."""
    return torch.nn.functional.pad(x, (0, width - x.shape[1]), value=value)


def _columns(first: Chosen, second: Chosen) -> list[tuple[Tensor, Tensor]]:
    return [(first.scores, second.scores), (first.real, second.real), (first.slots, second.slots)]


def _merged(scores: Tensor, slots: Tensor) -> Chosen:
    """Merge the ranks' sorted candidates ``(W, B, k)`` into the ``k`` best of each anchor by (score, slot)."""
    ranks, batch, k = scores.shape
    scores = scores.transpose(0, 1).reshape(batch, ranks * k)
    slots = slots.transpose(0, 1).reshape(batch, ranks * k)
    if ranks > 1:  # a single list is sorted already
        scores, slots = best(scores, slots, k)
    real = scores > -torch.inf
    return Chosen(scores, real, torch.where(real, slots, -1))


class _GlobalLoss(torch.autograd.Function):
    """Passes values on whose gradient was computed beforehand, so that backward needs no communication."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, losses: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return losses.clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output.view(1, -1, 1), None, None
