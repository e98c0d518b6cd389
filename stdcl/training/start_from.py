"""Start a run from another run's checkpoint: its encoder's weights, or its whole training state."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stdcl.config.model import InitConfig
from stdcl.errors import UserError
from stdcl.parallel.comm import Comm
from stdcl.results.layout import RunFolder
from stdcl.training import checkpoint
from stdcl.training.checkpoint import Identity
from stdcl.training.state import TrainState

_SAME = {
    "dataset_hash": "data (content hash)",
    "split": "split of the data",
    "stream": "stream",
    "num_slots": "number of bank slots",
}
"""What a training can only be continued with."""


def source_checkpoint(run: Path) -> Path:
    """Return the newest complete checkpoint of a run.

    Raises:
        UserError: no such run, or it has none.
    """
    if not run.is_dir():
        raise UserError(f"init_from.run: {run}: no such run folder")
    folder = checkpoint.newest(RunFolder(run).checkpoints)
    if folder is None:
        raise UserError(f"init_from.run: {run}: no complete checkpoint; give a run that was trained or imported")
    return folder


def digest_of(folder: Path) -> str:
    """Return 16 hexadecimal digits that name a checkpoint's content."""
    files = checkpoint.read_manifest(folder)["files"]
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]


def settled(init: InitConfig, folders: tuple[Path, ...]) -> InitConfig:
    """Return ``init`` with an absolute path and the checkpoint's digest, so that the configuration names the content.

    Args:
        init: as given.
        folders: where a relative path is looked for, in order.

    Raises:
        UserError: no such run or checkpoint, or another content than the one that was named.
    """
    given = Path(init.run).expanduser()
    places = [given] if given.is_absolute() else [folder / given for folder in folders]
    run = next((place for place in places if place.is_dir()), None)
    if run is None:
        raise UserError(f"init_from.run: no run folder at {' or '.join(map(str, places))}")
    found = digest_of(source_checkpoint(run))
    if init.digest is not None and init.digest != found:
        raise UserError(
            f"init_from.run: {run}: its checkpoint has changed (digest {found}, the configuration says {init.digest})"
        )
    return init.model_copy(update={"run": str(run.absolute()), "digest": found})


def start_from(init: InitConfig, state: TrainState, identity: Identity, epochs: int, comm: Comm) -> Path:
    """Load what ``init`` names into a fresh state; return the source's run folder.

    Args:
        init: settled.
        state: changed in place; with ``what: training`` its position is that of the source.
        identity: of the new run.
        epochs: of the new run.
        comm: the ranks.

    Raises:
        UserError: the checkpoint is not there, is of another network or data, or lacks what is needed.
    """
    run = Path(init.run)
    folder = source_checkpoint(run)
    saved = checkpoint.load_state(folder, next(state.model.parameters()).device)
    if init.what == "encoder":
        _load_encoder(saved["model"], state.model, folder)
        return run
    if "optimizer" not in saved:
        raise UserError(
            f"init_from.run: {run}: {checkpoint.WEIGHTS_ALONE}; use init_from.what: encoder, or train that run again "
            "with checkpoints.keep: all"
        )
    found = checkpoint.read_manifest(folder)["identity"]
    wrong = [
        f"{words}: {found.get(key)!r} there, {getattr(identity, key)!r} here"
        for key, words in _SAME.items()
        if found.get(key) != getattr(identity, key)
    ]
    if wrong:
        raise UserError(f"init_from: {folder}: its training cannot be continued with\n  " + "\n  ".join(wrong))
    if saved["position"][0] >= epochs:
        raise UserError(
            f"init_from: {folder} has {saved['position'][0]} epochs; set training.epochs to more than that (it is "
            f"{epochs})"
        )
    state.load_state_dict(saved, folder, comm)
    state.best.checkpoint = ""  # that file belongs to the other run
    return run


def _load_encoder(saved: Mapping[str, Any], model: torch.nn.Module, folder: Path) -> None:
    own = {name: value for name, value in model.state_dict().items() if name.startswith("encoder.")}
    given: dict[str, Tensor] = {name: value for name, value in saved.items() if name.startswith("encoder.")}
    faults = [f"{name} is missing" for name in own if name not in given]
    faults += [f"{name} is not part of this encoder" for name in given if name not in own]
    faults += [
        f"{name} has shape {tuple(given[name].shape)}, here {tuple(value.shape)}"
        for name, value in own.items()
        if name in given and given[name].shape != value.shape
    ]
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise UserError(f"init_from: {folder}: weights of another network: {'; '.join(faults[:3])}{more}")
    model.load_state_dict({**model.state_dict(), **given})
