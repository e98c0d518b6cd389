"""The texts' side of GAP: features of each class's texts, from a file or at random.

With a frozen tower a text's features depend on its words alone, so a table replaces the tower: for each class and part
one text, and for the whole body several (its synonyms), of which one is drawn for each sequence and epoch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from stdcl import atomic
from stdcl.errors import NPZ_ERRORS, UserError
from stdcl.hashing import GOLDEN, mix64, mix64_
from stdcl.methods.gap.parts import PARTS
from stdcl.seeding import torch_seed

FORMAT = 1
_KEYS = ("part", "global", "global_class", "meta")


@dataclass(frozen=True)
class Texts:
    """Features of all texts.

    Attributes:
        parts: (4, K, D): head, hand, hip, foot of each class.
        body: (S, D): texts of the whole body, sorted by class.
        first: (K,) int64: where each class's texts start in ``body``.
        count: (K,) int64: how many each class has, at least 1.
        digest: of the file's content; names the random ones.
    """

    parts: Tensor
    body: Tensor
    first: Tensor
    count: Tensor
    digest: str

    @property
    def dim(self) -> int:
        """D."""
        return self.body.shape[1]

    def to(self, device: torch.device, dtype: torch.dtype) -> Texts:
        """Return them as unit rows on a device."""
        parts, body = (functional.normalize(x.to(device, dtype), dim=-1) for x in (self.parts, self.body))
        return Texts(parts, body, self.first.to(device), self.count.to(device), self.digest)

    def draw(self, labels: Tensor, items: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Return (n,) int64: which text of its class each training item is matched with in an epoch.

        A pure function of (seed, epoch, item): no rank or batch matters.
        """
        keys = mix64_(mix64(items * GOLDEN).bitwise_xor_(torch_seed(seed, "texts", epoch)))
        return keys.bitwise_and_(0x3FFFFFFFFFFFFFFF).remainder_(self.count[labels])

    def look_up(self, labels: Tensor, drawn: Tensor) -> Tensor:
        """Return (n, 5, D): body, head, hand, hip, foot of each label (n,)."""
        body = self.body[self.first[labels] + drawn]
        return torch.cat([body[:, None], self.parts[:, labels].transpose(0, 1)], dim=1)


def random_texts(num_classes: int, dim: int, seed: int) -> Texts:
    """Return orthogonal unit rows in place of texts: one per class and pairing. They say nothing about the actions.

    Raises:
        UserError: more classes than dimensions.
    """
    if num_classes > dim:
        raise UserError(
            f"method.dim is {dim}, but there are {num_classes} classes: so many random texts cannot be orthogonal; set "
            f"it to at least {num_classes}"
        )
    generator = torch.Generator().manual_seed(torch_seed(seed, "random texts"))
    drawn = torch.randn((1 + len(PARTS), dim, num_classes), generator=generator, dtype=torch.float64)
    rows = torch.linalg.qr(drawn).Q.mT
    first = torch.arange(num_classes)
    return Texts(rows[1:], rows[0], first, torch.ones_like(first), f"random {num_classes} {dim} {seed}")


def write_texts(
    path: Path,
    classes: Sequence[str],
    parts: NDArray[np.float32],
    body: NDArray[np.float32],
    body_class: NDArray[np.int64],
    meta: dict[str, Any],
) -> None:
    """Write a file of text features, whole or not at all.

    Args:
        path: the file, ``.npz``.
        classes: K names in the order of labels.
        parts: (4, K, D): head, hand, hip, foot.
        body: (S, D) texts of the whole body.
        body_class: (S,) label of each.
        meta: where they come from: tower, digests of weights and prompts.
    """
    said = json.dumps({"format": FORMAT, "classes": list(classes), **meta}, sort_keys=True)
    content: dict[str, Any] = dict(zip(_KEYS, (parts, body, body_class, np.array(said)), strict=True))
    with atomic.staging_file(path) as staged, staged.open("wb") as stream:
        np.savez(stream, **content)


def read_texts(path: Path, classes: Sequence[str]) -> Texts:
    """Read a file of text features.

    Args:
        path: written by :func:`write_texts`.
        classes: names of the data's classes in the order of labels.

    Raises:
        UserError: no such file, not such a file, or features of other classes.
    """
    if not path.is_file():
        raise UserError(
            f"method.texts: {path}: no such file; make one with 'stdcl text-features', or set method.texts: random"
        )
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            part, body, body_class, meta = (content[key] for key in _KEYS)
        facts = json.loads(str(meta))
        names = facts["classes"]
    except NPZ_ERRORS as error:
        raise UserError(f"method.texts: {path}: not a file of text features ({error})") from None
    if facts.get("format") != FORMAT:
        raise UserError(f"method.texts: {path}: format {facts.get('format')!r}; this version reads {FORMAT}")
    if list(names) != list(classes):
        differing = next((i for i, pair in enumerate(zip(names, classes, strict=False)) if pair[0] != pair[1]), None)
        which = (
            f"{len(names)} classes, the data {len(classes)}"
            if differing is None
            else f"class {differing} is '{names[differing]}', the data's is '{classes[differing]}'"
        )
        raise UserError(f"method.texts: {path}: its texts are about other classes: {which}")
    return _checked(path, part, body, body_class, len(classes))


def _checked(path: Path, part: Any, body: Any, body_class: Any, num_classes: int) -> Texts:
    where = f"method.texts: {path}"
    if part.ndim != 3 or part.shape[:2] != (len(PARTS), num_classes) or body.ndim != 2:
        raise UserError(f"{where}: shapes {part.shape} and {body.shape}; expected (4, {num_classes}, D) and (S, D)")
    if body.shape[1] != part.shape[2] or body_class.shape != body.shape[:1]:
        raise UserError(f"{where}: widths {part.shape[2]}, {body.shape[1]} and {body_class.shape} classes do not agree")
    if not (np.isfinite(part).all() and np.isfinite(body).all()):
        raise UserError(f"{where}: holds values that are not numbers")
    order = np.argsort(body_class, kind="stable")
    count = np.bincount(body_class, minlength=num_classes)
    if len(count) != num_classes or not count.all() or body_class.min() < 0:
        raise UserError(f"{where}: each of the {num_classes} classes needs a text of the whole body")
    digest = hashlib.sha256()
    for array in (part, body, body_class):
        digest.update(np.ascontiguousarray(array).tobytes())
    return Texts(
        torch.from_numpy(part),
        torch.from_numpy(body[order]),
        torch.from_numpy(np.cumsum(count) - count),
        torch.from_numpy(count),
        digest.hexdigest(),
    )
