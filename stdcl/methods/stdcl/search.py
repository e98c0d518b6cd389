"""One rank's search: all anchors against the rows it compares with. No communication here.

The rows are those of its shard, or with ``exchange: allgather`` of the whole bank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stdcl.methods.stdcl.bank import ClassIndex
from stdcl.methods.stdcl.scores import score_buffer, score_rows, tiled
from stdcl.methods.stdcl.stable_topk import best, best_rows
from stdcl.parallel.placement import Placement


@dataclass(frozen=True)
class LocalCandidates:
    """What one rank found among its rows for one branch.

    Attributes:
        scores: ``(B, P + N_H)`` its candidates' similarities, those of positives negated, so that the best is the
            largest in both parts. -inf where it has fewer than asked for.
        rows: ``(B, P + N_H)`` int64 their rows.
        drawn_scores: ``(B, N_R)`` similarities of the drawn slots that are here, zero for the others.
    """

    scores: Tensor
    rows: Tensor
    drawn_scores: Tensor


@dataclass(frozen=True)
class Places:
    """Where to look in the score buffer, the same for every branch of a step.

    Attributes:
        same_class: ``(B, widest)`` int64 rows of the anchor's class, filled up with R.
        same_class_places: ``(B * widest,)`` their places in the flattened buffer.
        own: ``(B,)`` places of the anchors' own rows, or None if those may be chosen.
    """

    same_class: Tensor
    same_class_places: Tensor
    own: Tensor | None


class Searcher:
    """The rows a rank compares with: where slots are among them, which may be chosen, and the buffer for scores."""

    def __init__(
        self, placement: Placement, rank: int, classes: Tensor, num_classes: int, dtype: torch.dtype, most: int
    ) -> None:
        """Start with no row that may be chosen.

        Args:
            placement: which slots are where.
            rank: whose part of it is searched.
            classes: ``(L,)`` class of every slot.
            num_classes: K.
            dtype: of scores.
            most: N_H, how many hard negatives are wanted.
        """
        self.placement = placement
        self.rank = rank
        self.rows = placement.rows(rank)
        self.most = most
        slots = placement.slots(rank, classes.device)
        self._index = ClassIndex(classes[slots], num_classes)
        self._hidden = torch.full((tiled(self.rows), 1), -torch.inf, device=classes.device, dtype=dtype)
        self._buffer = score_buffer(self.rows, 0, classes.device, dtype)

    def show(self, slots: Tensor, shown: Tensor) -> None:
        """Let the rows of these slots be chosen where ``shown`` ``(B,)`` says so, and only there."""
        rows, here = self.placement.rows_on(self.rank, slots)
        self._hidden[rows, 0] = torch.where(shown & here, 0.0, -torch.inf).to(self._hidden.dtype)

    def slots_of(self, rows: Tensor, rank: Tensor | int) -> Tensor:
        """Return the slots of rows of ``rank``'s part."""
        return rows * self.placement.size + rank

    def places(self, classes: Tensor, own_rows: Tensor | None) -> Places:
        """Prepare a step's search for anchors of these classes, barring ``own_rows`` ``(B,)`` if given."""
        if self._buffer.shape[1] < len(classes):
            self._buffer = score_buffer(self.rows, len(classes), classes.device, self._buffer.dtype)
        same_class = self._index.rows_of(classes)
        own = None if own_rows is None else self.buffer_places(own_rows.unsqueeze(1))
        return Places(same_class, self.buffer_places(same_class), own)

    def buffer_places(self, rows: Tensor) -> Tensor:
        """Return ``(B * k,)`` places in the flattened score buffer of rows ``(B, k)``, each of its anchor's column."""
        columns = torch.arange(len(rows), device=rows.device).unsqueeze(1)
        return torch.add(columns, rows, alpha=self._buffer.shape[1]).view(-1)

    def search(
        self, features: Tensor, anchors: Tensor, places: Places, drawn: Tensor, drawn_here: Tensor, wanted: int
    ) -> LocalCandidates:
        """Find the least similar ``wanted`` rows of each anchor's class and the most similar ``most`` of others.

        Args:
            features: ``(R + 1, D)`` one branch's rows.
            anchors: ``(B, D)`` unit rows.
            places: of this step.
            drawn: ``(B * N_R,)`` places in the score buffer of the drawn slots.
            drawn_here: ``(B, N_R)`` bool, which of them are among these rows.
            wanted: P, how many positives.
        """
        score_rows(features, self._hidden, anchors, self._buffer)
        batch, flat = len(anchors), self._buffer.view(-1)
        drawn_scores = torch.where(drawn_here, flat.index_select(0, drawn).view_as(drawn_here), 0.0)
        if places.own is not None:
            flat.index_fill_(0, places.own, -torch.inf)
        # Rows that cannot be chosen are -inf: as least similar they would win, so that they become +inf.
        similar = flat.index_select(0, places.same_class_places).view_as(places.same_class)
        similar.masked_fill_(similar == -torch.inf, torch.inf)
        count = min(wanted, similar.shape[1])
        positives, positive_rows = best(similar, places.same_class, count, smallest=True)
        flat.index_fill_(0, places.same_class_places, -torch.inf)
        negatives, negative_rows = best_rows(self._buffer, min(self.most, len(self._buffer)))
        scores = (_widened(-positives, wanted, -torch.inf), _widened(negatives[:batch], self.most, -torch.inf))
        rows = (_widened(positive_rows, wanted, self.rows), _widened(negative_rows[:batch], self.most, self.rows))
        return LocalCandidates(torch.cat(scores, dim=1), torch.cat(rows, dim=1), drawn_scores)


def _widened(x: Tensor, width: int, value: float) -> Tensor:
    """Widen ``(B, n)`` to ``(B, width)`` with ``value``."""
    if x.shape[1] == width:
        return x
    return torch.nn.functional.pad(x, (0, width - x.shape[1]), value=value)
