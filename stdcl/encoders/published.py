"""Public checkpoints of the reference repositories, turned into weights of ours.

The encoders here keep the shapes of the public code's parameters, so an import is a matter of names. Known are the
checkpoints of CTR-GCN, 2s-AGCN (as trained in CTR-GCN's framework, without or with its constant adjacency),
Hyperformer, InfoGCN and HCN-pytorch.
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

from stdcl.encoders.agcn import AGCN
from stdcl.encoders.base import Encoder
from stdcl.encoders.ctrgcn import CTRGCN
from stdcl.encoders.hcn import HCN
from stdcl.encoders.hyperformer import Hyperformer
from stdcl.encoders.infogcn import InfoGCN
from stdcl.errors import UserError
from stdcl.skeleton import spatial_partition

_Rules = tuple[tuple[str, str], ...]

# Pairs (pattern in our name, the public name's part), tried in this order, each applied to what the one before left.
_MULTI_SCALE: _Rules = (
    (r"\.br(\d)\.pw\.", r".branches.\1.0."),
    (r"\.br(\d)\.bn1\.", r".branches.\1.1."),
    (r"\.br(\d)\.conv\.", r".branches.\1.3.conv."),
    (r"\.br([01])\.bn2\.", r".branches.\1.3.bn."),
    (r"\.br2\.bn2\.", r".branches.2.4."),
)
_SHELL: _Rules = (
    (r"^in_bn\.", "data_bn."),
    (r"\.down\.conv\.", ".down.0."),
    (r"\.down\.bn\.", ".down.1."),
    (r"^b(\d+)\.res\.", r"l\1.residual."),
)
_GRAPH_SHELL: _Rules = (*_SHELL, (r"^b(\d+)\.gcn\.", r"l\1.gcn1."), (r"^b(\d+)\.tcn\.", r"l\1.tcn1."))
_CTRGCN: _Rules = (
    *_MULTI_SCALE,
    *_GRAPH_SHELL,
    (r"\.gcn1\.A$", ".gcn1.PA"),
    (r"\.s(\d)\.q\.", r".convs.\1.conv1."),
    (r"\.s(\d)\.k\.", r".convs.\1.conv2."),
    (r"\.s(\d)\.v\.", r".convs.\1.conv3."),
    (r"\.s(\d)\.r\.", r".convs.\1.conv4."),
)
_AGCN: _Rules = (
    *_GRAPH_SHELL,
    (r"\.gcn1\.B$", ".gcn1.PA"),
    (r"\.s(\d)\.theta\.", r".conv_a.\1."),
    (r"\.s(\d)\.phi\.", r".conv_b.\1."),
    (r"\.s(\d)\.out\.", r".conv_d.\1."),
)
_HYPERFORMER: _Rules = (
    *_MULTI_SCALE,
    *_SHELL,
    (r"^b(\d+)\.tcn\.", r"l\1.tcn1."),
    (r"^b(\d+)\.skip\.", r"l\1.vit1.skip_proj."),
    (r"^b(\d+)\.att\.e\.", r"l\1.vit1.pe_proj."),
    (r"^b(\d+)\.att\.ln\.", r"l\1.vit1.norm1."),
    (r"^b(\d+)\.att\.", r"l\1.vit1.attn."),
)
_INFOGCN: _Rules = (
    *_MULTI_SCALE,
    *_SHELL,
    (r"^pos$", "pos_embedding"),
    (r"^emb\.", "to_joint_embedding."),
    (r"^b(\d+)\.tcn\.", r"l\1.tcn."),
    (r"^b(\d+)\.gcn\.topo$", r"l\1.agcn.shared_topology"),
    (r"^b(\d+)\.gcn\.h(\d+)\.", r"l\1.agcn.conv_d.\2."),
    (r"^b(\d+)\.gcn\.ln\.", r"l\1.agcn.attn.ln."),
    (r"^b(\d+)\.gcn\.qk\.", r"l\1.agcn.attn.to_qk."),
    (r"^b(\d+)\.gcn\.", r"l\1.agcn."),
    (r"^mu\.", "fc_mu."),
    (r"^logvar\.", "fc_logvar."),
    (r"^dec\.", "decoder."),
)
_HCN: _Rules = (
    (r"^position\.(conv[134])\.", r"\1.0."),
    (r"^position\.", ""),
    (r"^motion\.(conv[134])\.", r"\1m.0."),
    (r"^motion\.(conv2)\.", r"\1m."),
    (r"^(conv[56]|fc7)\.", r"\1.0."),
)
_RULES: dict[type[Encoder], _Rules] = {
    AGCN: _AGCN,
    CTRGCN: _CTRGCN,
    HCN: _HCN,
    Hyperformer: _HYPERFORMER,
    InfoGCN: _INFOGCN,
}
# Ours alone, in no public checkpoint: InfoGCN draws its priors anew and only training reads them.
_OURS_ALONE = frozenset({"priors"})
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
    rules = _RULES.get(type(encoder))
    if rules is None:
        known = ", ".join(sorted(kind.__name__ for kind in _RULES))
        raise UserError(f"{type(encoder).__name__}: no published checkpoints are known for it; known are: {known}")
    names = {}
    for ours in encoder.state_dict():
        if ours in _OURS_ALONE:
            continue
        public = ours
        for pattern, replacement in rules:
            public = re.sub(pattern, replacement, public)
        names[public] = ours
    return names


def import_published(encoder: Encoder, state: Mapping[str, Tensor], where: str = "published checkpoint") -> None:
    """Give ``encoder`` the weights of a public checkpoint; on an error it is left as it was.

    ``num_batches_tracked`` is passed over (it has no effect); a constant adjacency ``A`` must equal the skeleton's and
    is then passed over; InfoGCN's priors, which no public checkpoint holds, stay the encoder's own.

    Args:
        encoder: built for the layout that the checkpoint was trained on.
        state: public name -> tensor, as `read_published` gives it.
        where: the file's name, for messages.

    Raises:
        UserError: naming every parameter that is missing, not known, of another shape or not of numbers.
    """
    state = _without_prefix(state)
    names = published_names(encoder)
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
            expected = torch.from_numpy(spatial_partition(encoder.layout.skeleton))
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
    encoder.load_state_dict({ours: state[name] for name, ours in names.items()} | _kept(own))


def _kept(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in own.items() if name in _OURS_ALONE}


def _list(title: str, entries: Iterable[str]) -> Iterator[str]:
    found = list(entries)
    if found:
        yield f"  {title} ({len(found)}):"
        yield from (f"    {entry}" for entry in found)
