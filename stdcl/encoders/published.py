"""Public checkpoints of the reference repositories, turned into weights of ours.

The encoders here keep the shapes of the public code's parameters, so an import is a matter of names; each encoder's
record has its own (``EncoderSpec.published``).
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stdcl import specs
from stdcl.encoders.base import Encoder
from stdcl.errors import UserError
from stdcl.specs import EncoderSpec

# Theirs alone, without effect on the result: how many batches a running mean has seen.
_COUNTER = re.compile(r"(^|\.)num_batches_tracked$")
# Theirs alone, and known from the skeleton: the constant adjacency.
_ADJACENCY = re.compile(r"(^|\.)A$")
_NAMED_FIRST = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "encoder")


def read_published(path: Path) -> dict[str, Tensor]:
    """Return a public checkpoint's tensors by name, without DataParallel's ``module.``.

    The file may hold the tensors themselves or a dictionary with them one or two levels down (``state_dict``,
    ``model``, ...). It is read with ``weights_only=True``: no code in it is ever run.

    Raises:
        UserError: if there is no such file, it is no checkpoint, it needs code to be read, or holds no tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: what cannot be read is an error all the same
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything inside the reader
        forbidden = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if forbidden:
            raise UserError(
                f"{path}: refused: beside tensors it holds '{forbidden[1]}', and reading that would run code that the "
                "file names. Only tensors and containers of them are read: save the model's state_dict() alone."
            ) from error
        raise UserError(f"{path}: not a PyTorch checkpoint, or damaged ({type(error).__name__})") from error
    found = list(_states(content, depth=2))
    if not found:
        keys = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise UserError(f"{path}: holds no named tensors; it has: {keys or 'nothing'}")
    state = next((found_state for name, found_state in found if name in _NAMED_FIRST), found[0][1])
    if len(found) > 1 and not any(name in _NAMED_FIRST for name, _ in found):
        raise UserError(
            f"{path}: holds several sets of tensors ({', '.join(name for name, _ in found)}); save the model's alone"
        )
    return _without_prefix(state)


def _states(content: Any, depth: int, name: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the dictionaries of named tensors, outermost first, each with the key that it stands under."""
    if not isinstance(content, Mapping):
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors and len(tensors) == len(content):
        yield name, tensors
    elif depth > 0:
        for key, value in content.items():
            yield from _states(value, depth - 1, str(key))


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = "module."
    while state and all(name.startswith(prefix) for name in state):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def published_names(encoder: Encoder) -> dict[str, str]:
    """Return public name -> our name of every parameter and running statistic of ``encoder``.

    Raises:
        UserError: for an encoder that has no public counterpart.
    """
    spec = _spec_of(encoder)
    names = {}
    for ours in encoder.state_dict():
        if ours in spec.unpublished:
            continue
        public = ours
        for pattern, replacement in spec.published:
            public = re.sub(pattern, replacement, public)
        names[public] = ours
    return names


def _spec_of(encoder: Encoder) -> EncoderSpec:
    """Return the record of an encoder that public checkpoints are known for."""
    kind = type(encoder)
    known = [spec for spec in specs.encoders().values() if spec.published]
    for spec in known:
        if spec.build == f"{kind.__module__}:{kind.__qualname__}":
            return spec
    titles = ", ".join(spec.title for spec in known)
    raise UserError(f"{kind.__name__}: no published checkpoints are known for it; known are: {titles}")


def import_published(encoder: Encoder, state: Mapping[str, Tensor], where: str = "published checkpoint") -> None:
    """Give ``encoder`` the weights of a public checkpoint; on an error it is left as it was.

    ``num_batches_tracked`` is passed over (it has no effect); a constant adjacency ``A`` must equal the skeleton's and
    is then passed over; what no public checkpoint holds (InfoGCN's priors) stays the encoder's own.

    Args:
        encoder: built for the layout that the checkpoint was trained on.
        state: public name -> tensor, as `read_published` gives it.
        where: the file's name, for messages.

    Raises:
        UserError: naming every parameter that is missing, not known, of another shape or not of numbers.
    """
    state = _without_prefix(state)
    spec, names = _spec_of(encoder), published_names(encoder)
    own = encoder.state_dict()
    faults = [*_list("missing", (f"{name} {tuple(own[names[name]].shape)}" for name in names if name not in state))]
    extra, misshapen, unfit = [], [], []
    for name, tensor in state.items():
        if name in names:
            needed = tuple(own[names[name]].shape)
            if tuple(tensor.shape) != needed:
                misshapen.append(f"{name} is {tuple(tensor.shape)}, must be {needed}")
            elif not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
                unfit.append(name)
        elif _ADJACENCY.search(name):
            expected = torch.from_numpy(specs.load(spec.adjacency)(encoder.layout.skeleton))
            if tensor.shape != expected.shape or not torch.allclose(tensor.float(), expected, atol=1e-6):
                unfit.append(f"{name} (the adjacency of another skeleton than '{encoder.layout.skeleton.name}')")
        elif not _COUNTER.search(name):
            extra.append(f"{name} {tuple(tensor.shape)}")
    faults += [*_list("not known", extra), *_list("of another shape", misshapen), *_list("not finite numbers", unfit)]
    if faults:
        layout = encoder.layout
        raise UserError(
            f"{where}: does not fit {type(encoder).__name__} with {layout.num_joints} joints, {layout.num_persons} "
            f"persons, {layout.num_frames} frames and {layout.num_classes} classes:\n" + "\n".join(faults)
        )
    kept = {name: own[name] for name in spec.unpublished}
    encoder.load_state_dict({ours: state[name] for name, ours in names.items()} | kept)


def _list(title: str, entries: Iterable[str]) -> Iterator[str]:
    found = list(entries)
    if found:
        yield f"  {title} ({len(found)}):"
        yield from (f"    {entry}" for entry in found)
