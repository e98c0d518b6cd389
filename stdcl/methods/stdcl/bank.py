"""Memory banks (STD-CL, eq. 6): one shard's rows, and the slot index of which slots are written. No communication here.

A bank has one slot per training item and holds, for each branch, the unit embedding that the item had when it was last
in a batch. Features live on one rank each; the slot index (labels, one mark per slot) is small and kept by every rank,
without messages, because every rank learns the slots of the whole global batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


class SlotIndex:
    """Which slots are written, listed by class. The same on every rank.

    The written slots of class ``c`` are ``listed[first[c] : first[c] + written[c]]``, in the order in which they were
    written first: a step appends to the lists at a cost in the batch, never in the number of slots.

    Attributes:
        classes: ``(L,)`` int64 class of each slot, renumbered ``0 .. K-1``.
        first: ``(K,)`` int64 start of each class's list.
        written: ``(K,)`` int64 number of written slots of each class.
        listed: ``(L + 1,)`` int64; the last place is a bin for entries that are not kept.
        marks: ``(L + 1,)`` bool, whether a slot is written; the last stays False and stands for "no slot".
    """

    def __init__(self, labels: Tensor, device: torch.device) -> None:
        _, classes = torch.unique(labels.to(device=device, dtype=torch.int64), return_inverse=True)
        self.num_slots = labels.numel()
        self.classes = classes
        sizes = torch.bincount(classes)
        self.sizes = sizes
        self.first = sizes.cumsum(0) - sizes
        self.written = torch.zeros_like(sizes)
        self.listed = torch.zeros(self.num_slots + 1, dtype=torch.int64, device=device)
        self.marks = torch.zeros(self.num_slots + 1, dtype=torch.bool, device=device)

    def class_of(self, slots: Tensor) -> Tensor:
        """Class of each slot; 0 where there is no slot (-1)."""
        classes: Tensor = self.classes[slots.clamp(min=0)]
        return classes

    def add(self, slots: Tensor, winners: Tensor) -> Tensor:
        """Mark slots as written and return ``(B,)`` bool: which of them were not before.

        Args:
            slots: ``(B,)`` int64.
            winners: ``(B,)`` bool: at most one entry of each slot, none without a slot.
        """
        new = winners & ~self.marks[slots]
        classes = self.class_of(slots)
        alike = (classes.unsqueeze(1) == classes.unsqueeze(0)) & new.unsqueeze(0)
        rank_in_class = alike.tril(-1).sum(dim=1)
        place = torch.where(new, self.first[classes] + self.written[classes] + rank_in_class, self.num_slots)
        self.listed.index_copy_(0, place, slots)
        self.written.index_add_(0, classes, new.to(torch.int64))
        self._mark(torch.where(new, slots, self.num_slots), True)
        return new

    def remove_last(self, slots: Tensor, new: Tensor) -> None:
        """Undo the last ``add`` of the same ``slots``, given what it returned."""
        self.written.index_add_(0, self.class_of(slots), -new.to(torch.int64))
        self._mark(torch.where(new, slots, self.num_slots), False)

    def _mark(self, slots: Tensor, value: bool) -> None:
        self.marks[slots] = value
        self.marks[self.num_slots] = False

    def listed_now(self) -> Tensor:
        """Return ``(L + 1,)`` int64: ``listed`` with zeros where no written slot is listed."""
        places = torch.arange(self.num_slots, device=self.listed.device)
        classes = torch.arange(len(self.sizes), device=self.listed.device).repeat_interleave(self.sizes)
        used = places - self.first[classes] < self.written[classes]
        return torch.cat([torch.where(used, self.listed[:-1], 0), self.listed.new_zeros(1)])

    def counts(self, slots: Tensor, exclude_own: bool) -> tuple[Tensor, Tensor]:
        """Number of written slots that an anchor of each slot may take as positives, and as negatives: ``(B,)``."""
        alike = self.written[self.class_of(slots)]
        return alike - self.marks[slots].to(torch.int64) if exclude_own else alike, self.written.sum() - alike

    def negative_at(self, slots: Tensor, positions: Tensor) -> Tensor:
        """Return the negatives at ``positions`` of each anchor's list of all its negatives.

        Args:
            slots: ``(B,)`` the anchors.
            positions: ``(B, k)`` in ``0 .. negatives - 1``, or -1.

        Returns:
            ``(B, k)`` int64 slots, -1 where the position is.
        """
        ends = self.written.cumsum(0)
        own = self.class_of(slots)
        own_written = self.written[own].unsqueeze(1)
        own_starts = ends[own].unsqueeze(1) - own_written
        # Positions count through the written slots of all classes but the anchor's own.
        position = positions + torch.where(positions >= own_starts, own_written, 0)
        found = torch.searchsorted(ends[:-1], position, right=True)
        shift = self.first - (ends - self.written)
        place = shift.index_select(0, found.view(-1)).view_as(position).add_(position).clamp_(min=0)
        listed = self.listed.index_select(0, place.view(-1)).view_as(position)
        return listed.masked_fill_(positions < 0, -1)


class Shard:
    """The rows of one branch that one rank owns.

    Attributes:
        features: ``(R + 1, D)`` unit rows of the slots that are written, zeros elsewhere. The last row is never a
            slot's: writes that belong elsewhere go there, reads of "no slot" come from there, and it stays zero.
    """

    def __init__(self, rows: int, dim: int, device: torch.device, dtype: torch.dtype) -> None:
        # Rows start at multiples of 4 numbers: matrix products then treat every row alike (see scores).
        padded = -(-dim // 4) * 4
        self.rows = rows
        self.dim = dim
        self.features = torch.zeros(rows + 1, padded, device=device, dtype=dtype)

    def write(self, rows: Tensor, features: Tensor) -> Tensor:
        """Replace ``rows`` (``(B,)``, ``R`` for "not mine") and return what was there, for ``restore``."""
        before = self.features.index_select(0, rows)
        self._put(rows, torch.nn.functional.pad(features, (0, self.features.shape[1] - self.dim)))
        return before

    def restore(self, rows: Tensor, before: Tensor) -> None:
        """Undo ``write``."""
        self._put(rows, before)

    def _put(self, rows: Tensor, features: Tensor) -> None:
        self.features.index_copy_(0, rows, features)
        self.features[self.rows].zero_()


class ClassIndex:
    """Where a rank's rows of each class are, so that positives cost the size of a class and not of the shard.

    Attributes:
        rows: ``(K, widest)`` int64: the rows of each class in ascending order, filled up with ``R``.
    """

    def __init__(self, classes: Tensor, num_classes: int) -> None:
        """``classes``: ``(R,)`` class of each row."""
        count = torch.bincount(classes, minlength=num_classes)
        widest = int(count.max()) if classes.numel() else 0
        by_class = classes.argsort(stable=True)
        ordered = classes[by_class]
        place = torch.arange(classes.numel(), device=classes.device) - (count.cumsum(0) - count)[ordered]
        self.rows = classes.new_full((num_classes, widest), classes.numel())
        self.rows[ordered, place] = by_class

    def rows_of(self, classes: Tensor) -> Tensor:
        """Return ``(B, widest)`` int64: the rows of each class in ascending order, filled up with ``R``."""
        return self.rows.index_select(0, classes)


def first_of_each(slots: Tensor) -> Tensor:
    """Return ``(B,)`` bool: whether an entry is a slot (not -1) and the first of its slot in the batch."""
    repeated = (slots.unsqueeze(1) == slots.unsqueeze(0)).tril(-1).any(dim=1)
    return (slots >= 0) & ~repeated
