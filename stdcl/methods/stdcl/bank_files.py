"""Banks on disk: every rank writes its own shard, any number of ranks reads them back.

One file a shard, ``bank-<rank>-of-<size>.pt``, of plain tensors. No rank ever holds more than its own shard: tensors
stream from their storage to the file, and files are memory-mapped and rows copied out of them in chunks. The file of
rank 0 also holds the slot index. The files say what they belong to; a bank of something else is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stdcl.atomic import staging_file
from stdcl.errors import UserError
from stdcl.methods.stdcl.bank import Shard, SlotIndex
from stdcl.parallel.placement import Placement

SCHEMA = 1
_CHUNK = 1 << 16
_NAME = re.compile(r"bank-(\d+)-of-(\d+)\.pt")


class DamagedBank(UserError):
    """Saved banks that are incomplete or cannot be read: an earlier checkpoint may still be good."""


@dataclass(frozen=True)
class BankState:
    """All state of a rank's banks, as references: saving reads it, loading writes into it."""

    dataset: str
    slot_index: SlotIndex
    shards: Mapping[str, Shard]
    written_step: Tensor
    placement: Placement
    rank: int

    def identity(self) -> dict[str, Any]:
        """What two banks must have in common for one to be loaded as the other."""
        shard = next(iter(self.shards.values()), None)
        return {
            "schema": SCHEMA,
            "dataset": self.dataset,
            "slots": self.slot_index.num_slots,
            "classes": hashlib.sha256(self.slot_index.classes.cpu().numpy().tobytes()).hexdigest(),
            "branches": list(self.shards),
            "embedding_dim": 0 if shard is None else shard.dim,
            "dtype": "" if shard is None else str(shard.features.dtype).removeprefix("torch."),
        }


_REASONS = {
    "schema": "it was written in another file format",
    "dataset": "it belongs to another dataset or split",
    "slots": "it belongs to another dataset or split: the number of slots differs",
    "classes": "it belongs to another dataset or split: the classes of the slots differ",
    "branches": "contrast.strategy differs",
    "embedding_dim": "contrast.embedding_dim differs",
    "dtype": "the number format differs",
}


def save_shard(state: BankState, folder: Path) -> Path:
    """Write this rank's shard into ``folder``, whole or not at all, and return the file."""
    size = state.placement.size
    path = folder / f"bank-{state.rank:05d}-of-{size:05d}.pt"
    content: dict[str, Any] = {
        **state.identity(),
        "rank": state.rank,
        "size": size,
        "written": int(state.slot_index.written.sum()),
        "features": {branch: shard.features for branch, shard in state.shards.items()},
        "written_step": state.written_step,
    }
    if state.rank == 0:
        content["ledger"] = {"listed": state.slot_index.listed, "written": state.slot_index.written}
    with staging_file(path) as part:
        torch.save(content, part)
    return path


def load(state: BankState, folder: Path) -> None:
    """Fill ``state`` from the files in ``folder``, written by any number of ranks.

    Raises:
        DamagedBank: a file is missing or cannot be read, or the files are not of one moment.
        UserError: the banks belong to another dataset, split or configuration.
    """
    files = _files(folder)
    size = len(files)
    own = state.identity()
    written = None
    for rank, path in enumerate(files):
        content = _read(path)
        check_identity(content, own, path)
        if written not in (None, content["written"]):
            raise DamagedBank(f"{folder}: its bank files are not of one moment")
        written = content["written"]
        if rank == 0:
            load_slot_index(state.slot_index, content["ledger"])
        _copy_rows(state, content, rank, size)


def _files(folder: Path) -> list[Path]:
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _NAME.fullmatch(path.name)
        if match:
            found[int(match[1]), int(match[2])] = path
    sizes = {size for _, size in found}
    if len(sizes) != 1:
        raise DamagedBank(f"{folder}: expected the bank files of one save, found those of {len(sizes)}")
    (size,) = sizes
    missing = [rank for rank in range(size) if (rank, size) not in found]
    if missing:
        raise DamagedBank(f"{folder}: bank files of ranks {missing} of {size} are missing")
    return [found[rank, size] for rank in range(size)]


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise DamagedBank(f"{path}: cannot be read, it may be truncated ({error})") from error
    return content


def check_identity(content: Mapping[str, Any], own: Mapping[str, Any], path: Path | str) -> None:
    """Refuse saved banks that are not those of this run; ``path`` names where they are."""
    for key, value in own.items():
        if content.get(key) != value:
            raise UserError(
                f"{path}: this bank cannot be loaded: {_REASONS[key]} ({key}: {content.get(key)!r} in the file, "
                f"{value!r} in this run)"
            )


def load_slot_index(slot_index: SlotIndex, saved: Mapping[str, Tensor]) -> None:
    """Fill a slot index from its saved ``listed`` and ``written``."""
    slot_index.listed.copy_(saved["listed"])
    slot_index.written.copy_(saved["written"])
    classes = torch.arange(len(slot_index.sizes), device=slot_index.sizes.device).repeat_interleave(slot_index.sizes)
    place = torch.arange(slot_index.num_slots, device=classes.device)
    slot_index.marks.zero_()
    slot_index.marks[slot_index.listed[:-1][place - slot_index.first[classes] < slot_index.written[classes]]] = True


def _copy_rows(state: BankState, content: dict[str, Any], rank: int, size: int) -> None:
    """Copy those rows of file ``rank`` of ``size`` whose slots this rank owns."""
    slots = Placement(state.slot_index.num_slots, size).slots(rank)
    (rows_there,) = torch.nonzero(state.placement.owner(slots) == state.rank, as_tuple=True)
    rows_here = state.placement.row(slots[rows_there])
    device = state.written_step.device
    for there, here in zip(torch.split(rows_there, _CHUNK), torch.split(rows_here, _CHUNK), strict=True):
        here = here.to(device)
        for branch, shard in state.shards.items():
            shard.features[here] = content["features"][branch][there].to(device)
        state.written_step[here] = content["written_step"][there].to(device)
