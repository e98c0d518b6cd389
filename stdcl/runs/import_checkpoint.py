"""Published weights as a run of ours, so that ``stdcl evaluate`` can score them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stdcl import atomic, specs
from stdcl.config import RunConfig, fingerprint, to_yaml
from stdcl.config.load import resolve_with
from stdcl.encoders.base import Layout
from stdcl.encoders.published import import_published, read_published
from stdcl.errors import UserError
from stdcl.parallel.comm import LocalComm
from stdcl.results.layout import RunFolder
from stdcl.specs import PublishedInput
from stdcl.training import checkpoint
from stdcl.training.checkpoint import Identity, Position
from stdcl.training.components import new_encoder
from stdcl.version import code_version


def _layout(config: RunConfig) -> Layout:
    """Return the shape of the sequences that checkpoints were published for."""
    spec = specs.dataset(config.data.dataset)
    if spec.skeleton is None or spec.num_persons is None:
        raise UserError(f"data.dataset is '{spec.name}': no public checkpoints are known for it")
    return Layout(
        num_joints=spec.skeleton.num_joints,
        num_persons=spec.num_persons,
        num_frames=config.data.frames,
        num_classes=len(spec.classes),
        skeleton=spec.skeleton,
    )


def import_checkpoint(
    encoder: str,
    file: Path,
    *,
    dataset: str,
    stream: str,
    out: Path,
    protocol: str = "default",
    store: str | None = None,
    overrides: Sequence[str] = (),
) -> str:
    """Write the run folder ``out`` with the weights of a public checkpoint; return what to tell the user.

    Args:
        encoder: which network.
        file: the public checkpoint; it is read as data, code in it is refused.
        dataset: what it was trained on.
        stream: which stream it was trained on.
        out: the run folder to make.
        protocol: which split it was trained on; ``default``: the dataset's first.
        store: folder of the prepared data; None: the dataset's name.
        overrides: further keys, for example ``encoder.hook=mid``.

    Raises:
        UserError: no such file, another network's parameters (each named), or ``out`` is taken.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: something is there already; give a new folder")
    raw: dict[str, Any] = {
        "recipe": "full",
        "data": {"dataset": dataset, "path": store or dataset, "protocol": protocol, "stream": stream},
        "encoder": {"name": encoder},
        "contrast": {"strategy": "none"},
    }
    state = read_published(file)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    spec = specs.encoder(encoder)
    theirs = spec.published_input(dataset, stream, shapes)
    for key, value in theirs.settings.items():
        section, _, name = key.partition(".")
        raw[section][name] = value
    config = resolve_with(raw, "stdcl checkpoint import", overrides)
    network = new_encoder(config, _layout(config))
    import_published(network, state, str(file))
    _write(config, {f"encoder.{name}": value for name, value in network.state_dict().items()}, out, file)
    count = sum(p.numel() for p in network.parameters())
    return (
        f"{out}: {encoder} on {dataset}/{config.data.protocol}, stream {stream}, {count:,} parameters from {file}\n"
        + "".join(f"{line}\n" for line in _input_lines(spec.title, theirs, config))
        + f"next: {shlex.join(['stdcl', 'evaluate', str(out), *([] if store else ['--data', 'STORE'])])}"
    )


def _input_lines(title: str, theirs: PublishedInput, config: RunConfig) -> Iterator[str]:
    """Yield which input the run is scored on: as the public code had it, what was set otherwise, what differs."""
    settled = config.model_dump(mode="json")
    as_theirs, otherwise = [], []
    for key, value in theirs.settings.items():
        section, _, name = key.partition(".")
        found = settled[section][name]
        as_theirs += [f"{key} {_shown(value)}"] * (found == value)
        otherwise += [f"{key} is {_shown(found)} by --set, {title}'s code has {_shown(value)}"] * (found != value)
    if as_theirs:
        yield f"input as {title}'s code has it: {', '.join(as_theirs)}"
    yield from (f"note: {text}" for text in (*otherwise, *theirs.notes))


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write(config: RunConfig, model: Mapping[str, torch.Tensor], out: Path, file: Path) -> None:
    position = Position(config.training.epochs)
    # No data hash: whoever trained these weights did not use a store of ours.
    identity = Identity(
        dataset_hash="", split="", stream=config.data.stream, fingerprint=fingerprint(config), num_slots=0
    )
    state = {
        "model": dict(model),
        "config": to_yaml(config),
        "last_row": json.dumps({}),
        "best": [-1.0, -1, ""],
        "code_version": code_version(),
        "published_file": file.name,
    }
    cpu = torch.device("cpu")
    with atomic.staging_dir(out) as staged:
        folder = RunFolder(staged)
        atomic.write_text(folder.config, to_yaml(config))
        checkpoint.save(folder.checkpoints, position, identity, LocalComm(), cpu, lambda: state, lambda shards: None)
