"""Features of texts about actions, by the text half of CLIP, written to a file that GAP trains with.

The only place that imports open_clip and transformers, both optional. Weights are read from this machine; nothing is
downloaded.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stdcl.errors import UserError, nearest
from stdcl.methods.gap.prompts import compose, read_prompts
from stdcl.methods.gap.texts import write_texts

MODEL = "ViT-B-32-quickgelu"
"""OpenAI's ViT-B/32. Its text half has QuickGELU; under open_clip's plain name it would get another activation."""

_AT_ONCE = 64


@dataclass(frozen=True)
class Tower:
    """A text encoder.

    Attributes:
        name: what it is, for the file.
        digest: SHA-256 of its weights.
        encode: texts -> their features (n, D), not normalised.
    """

    name: str
    digest: str
    encode: Callable[[Sequence[str]], Tensor]


def open_tower(weights: Path, model: str = MODEL) -> Tower:
    """Return the text encoder whose weights are at ``weights``.

    Args:
        weights: a file (OpenAI's archive or a state dict), read by open_clip; or a folder with ``config.json``,
            tokeniser and weights, read by transformers.
        model: open_clip's name of the architecture, for a file.

    Raises:
        UserError: nothing there, not such weights, or the package that reads them is not installed.
    """
    if weights.is_dir():
        return _transformers_tower(weights)
    if weights.is_file():
        return _open_clip_tower(weights, model)
    raise UserError(f"{weights}: no such file or folder; CLIP's weights must be on this machine")


def write_text_features(out: Path, tower: Tower, prompts: str, classes: Sequence[str]) -> str:
    """Write the features of all texts about ``classes`` to ``out``, and return what was written, for people.

    Args:
        out: the file, ``.npz``.
        tower: the text encoder.
        prompts: a file of prompts, or the name of one that the package holds.
        classes: K names in the order of labels.
    """
    texts = compose(read_prompts(prompts), classes)
    parts = np.stack([_encoded(tower, of_part) for of_part in texts.parts])
    body = _encoded(tower, texts.body)
    meta = {"tower": tower.name, "weights_sha256": tower.digest, "prompts": prompts, "prompts_sha256": texts.digest}
    write_texts(out, classes, parts, body, np.array(texts.body_class, dtype=np.int64), meta)
    return (
        f"{out}: {len(classes)} classes, {len(texts.parts)} part texts each and {len(texts.body)} of the whole body, "
        f"{parts.shape[2]} numbers a text, by {tower.name}"
    )


def _encoded(tower: Tower, texts: Sequence[str]) -> NDArray[np.float32]:
    with torch.inference_mode():
        pieces = [tower.encode(texts[i : i + _AT_ONCE]).float().cpu() for i in range(0, len(texts), _AT_ONCE)]
    features: NDArray[np.float32] = torch.cat(pieces).numpy()
    return features


def _need(package: str, what: Path) -> None:
    if find_spec(package) is None:
        raise UserError(f"{what}: is read by {package}, which is not installed; type: pip install 'stdcl[text]'")


# ---- open_clip ---------------------------------------------------------------------------------------------------


def _open_clip_tower(weights: Path, model: str) -> Tower:
    _need("open_clip", weights)
    import open_clip

    known = open_clip.list_models()
    if model not in known:
        raise UserError(f"open_clip has no model '{model}'{nearest(model, known)}; 'open_clip.list_models()' has all")
    logging.disable(logging.WARNING)  # it warns that no weights are loaded, which come next
    try:
        tower = open_clip.create_model(model, precision="fp32", device="cpu").eval()
    finally:
        logging.disable(logging.NOTSET)
    load_text_half(tower, read_weights(weights), weights)
    tokenise = open_clip.get_tokenizer(model)
    return Tower(
        f"open_clip {model}",
        _digest([weights]),
        lambda texts: tower.encode_text(tokenise(list(texts)), normalize=False),
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return a state dict from OpenAI's TorchScript archive, or from a file of tensors; no code of the file is run.

    Raises:
        UserError: it is neither.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        if zipfile.is_zipfile(path) and any("/code/" in name for name in zipfile.ZipFile(path).namelist()):
            state: Mapping[str, Any] = torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that it cannot read
        raise UserError(f"{path}: cannot be read as weights ({type(error).__name__}: {error})") from None
    inner = state.get("state_dict", state)
    return {str(name).removeprefix("module."): value for name, value in inner.items() if isinstance(value, Tensor)}


def load_text_half(tower: Any, state: Mapping[str, Tensor], where: Path) -> None:
    """Load the text half of a CLIP model, whatever the file has for the image half.

    Raises:
        UserError: a parameter of the text half is missing, or has another shape.
    """
    wanted = {name: value for name, value in tower.state_dict().items() if not name.startswith("visual.")}
    # Constants of the architecture (a causal mask) are in some files and not in others.
    wanted = {name: value for name, value in wanted.items() if name in dict(tower.named_parameters())}
    missing = [name for name in wanted if name not in state and name != "logit_bias"]
    if missing:
        raise UserError(f"{where}: lacks {len(missing)} parameters of the text encoder, for example '{missing[0]}'")
    other = [name for name, value in wanted.items() if name in state and state[name].shape != value.shape]
    if other:
        raise UserError(
            f"{where}: '{other[0]}' has shape {tuple(state[other[0]].shape)}, the architecture's is "
            f"{tuple(wanted[other[0]].shape)}: it belongs to another model (--model)"
        )
    tower.load_state_dict({name: state[name].float() for name in wanted if name in state}, strict=False)


# ---- transformers ------------------------------------------------------------------------------------------------


def _transformers_tower(folder: Path) -> Tower:
    _need("transformers", folder)
    from transformers import AutoTokenizer, CLIPTextModelWithProjection

    try:
        tower = CLIPTextModelWithProjection.from_pretrained(folder, local_files_only=True).float().eval()
        tokenise = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: not a folder of a CLIP text encoder ({error})") from None

    def encode(texts: Sequence[str]) -> Tensor:
        tokens = tokenise(list(texts), padding=True, truncation=False, return_tensors="pt")
        features: Tensor = tower(**tokens).text_embeds
        return features

    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    return Tower(f"transformers {folder.name}", _digest(files), encode)


def _digest(files: Sequence[Path]) -> str:
    found = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            while piece := stream.read(1 << 20):
                found.update(piece)
    return found.hexdigest()
