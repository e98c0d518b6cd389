"""Checkpoints: written whole or not at all, checked before they are read, readable on any number of ranks.

A checkpoint is a folder ``epoch-0007-step-000000`` (the position at which training goes on) with

- ``state.pt``, by rank 0: encoder, head, optimiser, schedule position, metric sums, configuration (no random
  state: all that is random is a function of seed, epoch and item);
- one file per rank and bank with that rank's slots, written by ``stdcl.methods.stdcl``;
- ``manifest.json``: what the checkpoint belongs to (dataset hash, split, stream, fingerprint, slots, schema), and the
  size and checksum of each file.

After a training's end it can be reduced to its weights: ``weights.pt`` in place of all but the manifest, which says so.

It is staged in a hidden folder and renamed when every rank has written its part. A rank that cannot write (a full disk)
makes all ranks give up this checkpoint together, with its reason; the one before stays.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import shutil
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from stdcl import atomic
from stdcl.errors import UserError
from stdcl.parallel.comm import Comm

_log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
_STATE = "state.pt"
_WEIGHTS = "weights.pt"
_HOLDS = "holds"
_MANIFEST = "manifest.json"
_NAME = re.compile(r"^epoch-(\d{4,})-step-(\d{6,})$")
_CHUNK = 1 << 20
WAY_OUT = (
    "To go on with it, take that back; to train something else, give it a folder of its own (stdcl train --out DIR, "
    "stdcl sweep --set name=NAME); to begin anew here, move this run folder away"
)
"""What a user can do about a run folder that holds another training."""
WEIGHTS_ALONE = (
    "its checkpoint holds weights alone (imported, or checkpoints.keep: weights), so its training cannot go on"
)
_REASON_BYTES = 512


class CheckpointError(Exception):
    """The run folder could not be written; every rank raises it, with the reason of the first that failed."""


@dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to. Loading refuses a difference and names it."""

    dataset_hash: str
    split: str
    stream: str
    fingerprint: str
    num_slots: int
    schema: int = SCHEMA_VERSION


@dataclass(frozen=True, order=True)
class Position:
    """Where training goes on: the epoch, and the step inside it (both from 0)."""

    epoch: int
    step: int = 0

    @property
    def name(self) -> str:
        return f"epoch-{self.epoch:04d}-step-{self.step:06d}"


def position_of(folder: Path) -> Position | None:
    """Return the position that a checkpoint's name says, or None for other folders."""
    match = _NAME.match(folder.name)
    return Position(int(match.group(1)), int(match.group(2))) if match else None


def _checksum(path: Path) -> tuple[int, int]:
    size, crc = 0, 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            crc = zlib.crc32(chunk, crc)
    return size, crc


def _reason(error: OSError | RuntimeError, root: Path) -> str:
    """Say why a write failed. Of a full disk, torch only tells that its file has not grown as expected."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError):
        return text
    try:
        return f"{shutil.disk_usage(root).free / 2**20:,.1f} MiB free on the disk of {root}; {text}"
    except OSError:
        return text


def fail_together(reason: str, what: str, comm: Comm, device: torch.device) -> None:
    """Raise on every rank if any rank has a reason to; every rank calls this.

    Args:
        reason: why this rank cannot go on; empty if it can.
        what: begins the message.
        comm: the ranks.
        device: of the collective's tensor.

    Raises:
        CheckpointError: with the reason of the first rank that has one, wherever it is read.
    """
    own = torch.zeros(_REASON_BYTES, dtype=torch.uint8)
    text = reason.encode("utf-8")[:_REASON_BYTES]
    own[: len(text)] = torch.tensor(list(text), dtype=torch.uint8)
    reasons = [bytes(row.tolist()).rstrip(b"\0") for row in comm.all_gather(own.to(device)).cpu()]
    for rank, found in enumerate(reasons):
        if found:
            raise CheckpointError(f"{what}: rank {rank}: {found.decode('utf-8', errors='ignore')}")


def save(
    root: Path,
    position: Position,
    identity: Identity,
    comm: Comm,
    device: torch.device,
    state: Callable[[], Mapping[str, Any]],
    save_shard: Callable[[Path], None],
    make_room: Callable[[], None] = lambda: None,
) -> Path:
    """Write a checkpoint; every rank calls this.

    Args:
        root: the run's checkpoint folder, seen by all ranks.
        position: where training goes on from it.
        identity: what it belongs to.
        comm: the ranks.
        device: of the collectives' tensors.
        state: gives rank 0's state of plain values and tensors; called on rank 0 alone.
        save_shard: writes this rank's bank files into the folder it is given.
        make_room: called on rank 0 alone, before anything is written.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: on every rank, when any rank could not write.
    """
    final = root / position.name
    # A name of this attempt's own: a rank that is left over from a killed attempt must not write into it.
    drawn = comm.broadcast(torch.tensor([secrets.randbits(62)], dtype=torch.int64, device=device))
    staged = root / f".{position.name}.{int(drawn.item()):016x}.part"

    def attempt(work: Callable[[], None]) -> None:
        """Do this rank's part, then let all ranks learn whether all succeeded."""
        reason = ""
        try:
            work()
        except (OSError, RuntimeError) as error:
            reason = _reason(error, root)
        try:
            fail_together(reason, f"{final}: not written", comm, device)
        except CheckpointError as error:
            if comm.rank == 0:
                shutil.rmtree(staged, ignore_errors=True)
            raise CheckpointError(f"{error}; the checkpoint before it is untouched") from None

    def prepare() -> None:
        if comm.rank == 0:
            root.mkdir(parents=True, exist_ok=True)
            make_room()
            for unfinished in root.glob(".epoch-*.part"):
                shutil.rmtree(unfinished, ignore_errors=True)
            staged.mkdir()

    def write_parts() -> None:
        if comm.rank == 0:
            torch.save(dict(state()), staged / _STATE)
            atomic.sync_file(staged / _STATE)
        save_shard(staged)

    def publish() -> None:
        if comm.rank == 0:
            sums = {p.name: _checksum(p) for p in sorted(staged.iterdir())}
            files = {name: {"bytes": size, "crc32": crc} for name, (size, crc) in sums.items()}
            atomic.write_json(staged / _MANIFEST, {"identity": asdict(identity), "files": files})
            atomic.replace_dir(staged, final)

    attempt(prepare)
    attempt(write_parts)
    attempt(publish)
    return final


def read_json(path: Path) -> dict[str, Any]:
    """Return a file's JSON object.

    Raises:
        OSError, ValueError: it cannot be read, or is none.
    """
    return dict(json.loads(path.read_text(encoding="utf-8")))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Check a checkpoint's files against their sizes and checksums and return its manifest.

    Raises:
        UserError: a file is missing, truncated or altered.
    """
    try:
        manifest = read_json(folder / _MANIFEST)
        files = manifest["files"]
        Identity(**manifest["identity"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: not a complete checkpoint: its manifest cannot be read ({error})") from None
    for name, facts in files.items():
        path = folder / name
        try:
            size, crc = _checksum(path)
        except OSError as error:
            raise UserError(f"{folder}: not a complete checkpoint: {name} cannot be read ({error})") from None
        if size != facts["bytes"]:
            raise UserError(f"{folder}: {name} has {size} bytes, but {facts['bytes']} were written: it is truncated")
        if crc != facts["crc32"]:
            raise UserError(f"{folder}: {name} does not have the checksum it was written with: it is damaged")
    return dict(manifest)


def check_identity(folder: Path, manifest: Mapping[str, Any], expected: Identity, changed: Sequence[str] = ()) -> None:
    """Refuse a checkpoint of something else.

    Args:
        folder: the checkpoint.
        manifest: as :func:`read_manifest` gave it.
        expected: what the run is.
        changed: what differs between the configurations, a line a key.

    Raises:
        UserError: naming each difference.
    """
    found = manifest["identity"]
    words = {
        "dataset_hash": "data (content hash)",
        "split": "split of the data",
        "stream": "stream",
        "fingerprint": "configuration (fingerprint)",
        "num_slots": "number of bank slots",
        "schema": "checkpoint format",
    }
    wrong = [
        f"{words[key]}: {found.get(key)!r} in the checkpoint, {value!r} in this run"
        for key, value in asdict(expected).items()
        if found.get(key) != value
    ]
    if wrong:
        lines = "\n  ".join([*wrong, *changed])
        raise UserError(f"{folder}: this checkpoint belongs to another training:\n  {lines}\n{WAY_OUT}")


def candidates(root: Path) -> list[Path]:
    """Return the run's checkpoints, the furthest first."""
    if not root.is_dir():
        return []
    found = [(position_of(p), p) for p in root.iterdir() if p.is_dir()]
    return [p for position, p in sorted(((q, p) for q, p in found if q is not None), reverse=True)]


def dataset_hash(root: Path) -> str:
    """Return the content hash of the data that a run's checkpoints belong to; empty where none says it."""
    for folder in candidates(root):
        with suppress(OSError, ValueError, KeyError, TypeError):
            return str(read_json(folder / _MANIFEST)["identity"]["dataset_hash"])
    return ""


def newest(root: Path) -> Path | None:
    """Return the furthest checkpoint that is whole; damaged ones are reported and passed over."""
    for folder in candidates(root):
        try:
            read_manifest(folder)
        except UserError as error:
            _log.warning("%s; falling back to the checkpoint before it", error)
            continue
        return folder
    return None


def agree(folder: Path | None, root: Path, comm: Comm, device: torch.device) -> Path | None:
    """Let every rank take the checkpoint that rank 0 found (its own listing may lag on a network file system)."""
    position = position_of(folder) if folder is not None else None
    own = torch.tensor([position.epoch, position.step] if position else [-1, -1], device=device, dtype=torch.int64)
    epoch, step = comm.broadcast(own, source=0).tolist()
    return None if epoch < 0 else root / Position(epoch, step).name


def load_state(folder: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint's state: tensors and plain values only, never code."""
    name = _WEIGHTS if holds_weights_alone(folder) else _STATE
    return dict(torch.load(folder / name, map_location=device, weights_only=True))


def holds_weights_alone(folder: Path) -> bool:
    """Whether a checkpoint was reduced after its training's end, which cannot be continued from it."""
    try:
        return read_json(folder / _MANIFEST).get(_HOLDS) == _WEIGHTS
    except (OSError, ValueError):  # damaged, which whoever reads it is told
        return False


def reduce_to_weights(folder: Path) -> None:
    """Keep of a whole checkpoint what evaluation, prediction and fine-tuning read; optimiser and banks go.

    A kill at any moment leaves the whole checkpoint or the reduced one, perhaps with files that nothing names.

    Raises:
        OSError: it could not be written; the checkpoint is whole.
    """
    if not holds_weights_alone(folder):
        state = load_state(folder, torch.device("cpu"))
        if _OF_TRAINING.isdisjoint(state):
            return  # imported
        with atomic.staging_file(folder / _WEIGHTS) as part:
            torch.save(weights_of(state), part)
        size, crc = _checksum(folder / _WEIGHTS)
        identity = read_json(folder / _MANIFEST)["identity"]
        files = {_WEIGHTS: {"bytes": size, "crc32": crc}}
        atomic.write_json(folder / _MANIFEST, {"identity": identity, "files": files, _HOLDS: _WEIGHTS})
    for path in folder.iterdir():
        if path.name not in (_WEIGHTS, _MANIFEST):
            path.unlink()


_OF_TRAINING = frozenset({"optimizer", "scaler", "sums", "method"})
"""Of a state: what only a training that goes on reads."""


def weights_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state without what only a training that goes on reads."""
    return {name: value for name, value in state.items() if name not in _OF_TRAINING}


def make_room(root: Path, first: Sequence[str], count: int) -> None:
    """Leave at most ``count`` checkpoints: those named, then the furthest; and nothing that an interruption left."""
    if not root.is_dir():
        return
    found = [folder.name for folder in candidates(root)]
    order = dict.fromkeys((*(name for name in first if name in found), *found))
    prune(root, list(order)[:count])


def leave_one(root: Path) -> None:
    """Leave the furthest checkpoint that is whole; the process that wrote them has ended."""
    if root.is_dir():
        whole = newest(root)
        make_room(root, [] if whole is None else [whole.name], 1)


def prune(root: Path, keep: Collection[str]) -> None:
    """Remove every checkpoint but those named, and whatever an interrupted write or replacement left behind."""
    for folder in root.iterdir():
        stale = folder.name.startswith(".epoch-")
        if folder.is_dir() and (stale or (position_of(folder) is not None and folder.name not in keep)):
            # Renamed first, so that a kill in the middle leaves no folder that looks like a checkpoint.
            doomed = folder if stale else folder.with_name(f".{folder.name}.old")
            if doomed is not folder:
                folder.rename(doomed)
            shutil.rmtree(doomed)
