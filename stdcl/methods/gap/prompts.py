"""Texts about actions, a file of clauses a dataset, and the texts that are composed of them (GAP, section 3.2).

A file is YAML: ``defaults``, a clause for each of head, hand, arm, hip, leg and foot; and ``classes``, each with its
``label``, ``synonyms`` and clauses of its own. Five texts of a class are compared with its sequences: one of its label
and synonyms with the whole body, and its label with clauses of the head, of hand and arm, of the hip, of leg and foot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from stdcl.config.section import Section
from stdcl.config.yaml_text import parse_yaml
from stdcl.errors import UserError
from stdcl.methods.gap.parts import PARTS

CLAUSES: Mapping[str, tuple[str, ...]] = {
    "head": ("head",),
    "hand": ("hand", "arm"),
    "hip": ("hip",),
    "foot": ("leg", "foot"),
}
"""Part -> the clauses that follow the label in its text."""


class Clauses(Section):
    """One clause a limb; empty: the default one."""

    head: str = ""
    hand: str = ""
    arm: str = ""
    hip: str = ""
    leg: str = ""
    foot: str = ""


class ClassPrompts(Clauses):
    """What is said about one class."""

    label: str = Field(min_length=1)
    synonyms: list[str] = Field(default_factory=list)


class Prompts(Section):
    """A file of prompts."""

    defaults: Clauses
    classes: list[ClassPrompts] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Prompts:
        missing = [name for name in Clauses.model_fields if not getattr(self.defaults, name)]
        if missing:
            raise ValueError(f"defaults lacks {', '.join(missing)}")
        labels = [each.label for each in self.classes]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"classes named twice: {', '.join(twice)}")
        return self


@dataclass(frozen=True)
class Composed:
    """The texts of K classes in the order of labels.

    Attributes:
        parts: four lists of K texts: head, hand, hip, foot.
        body: S texts of the whole body: label and synonyms of the first class, then of the next.
        body_class: label of each of them.
        digest: SHA-256 of all texts.
    """

    parts: tuple[list[str], ...]
    body: list[str]
    body_class: list[int]
    digest: str


def shipped() -> tuple[str, ...]:
    """Return the names of the files of prompts that the package holds."""
    folder = resources.files("stdcl.methods.gap").joinpath("prompts")
    return tuple(sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")))


def read_prompts(source: str) -> Prompts:
    """Read a file of prompts, or one that the package holds, by its name.

    Raises:
        UserError: no such file, or not such a file.
    """
    if source in shipped():
        where = f"prompts '{source}'"
        text = resources.files("stdcl.methods.gap").joinpath("prompts", f"{source}.yaml").read_text(encoding="utf-8")
    else:
        where = source
        try:
            text = Path(source).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{source}: cannot be read ({error}); give a YAML file of prompts, or one of: {', '.join(shipped())}"
            ) from None
    try:
        return Prompts.model_validate(parse_yaml(text, where))
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}" for fault in error.errors())
        raise UserError("\n".join(f"{where}: {fault}" for fault in faults)) from None


def compose(prompts: Prompts, classes: Sequence[str]) -> Composed:
    """Return the texts about ``classes``.

    Raises:
        UserError: a class has no prompts.
    """
    by_label = {each.label: each for each in prompts.classes}
    missing = [name for name in classes if name not in by_label]
    if missing:
        raise UserError(f"the prompts say nothing about {len(missing)} classes: {', '.join(missing[:5])}")
    chosen = [by_label[name] for name in classes]
    parts = tuple(
        [", ".join((each.label, *(_clause(prompts, each, limb) for limb in CLAUSES[part]))) for each in chosen]
        for part in PARTS
    )
    body = [(label, text) for label, each in enumerate(chosen) for text in (each.label, *each.synonyms)]
    texts = [text for _, text in body]
    everything = "\n".join(text for texts_of in (*parts, texts) for text in texts_of)
    return Composed(parts, texts, [label for label, _ in body], hashlib.sha256(everything.encode()).hexdigest())


def _clause(prompts: Prompts, about: ClassPrompts, limb: str) -> str:
    own: str = getattr(about, limb) or getattr(prompts.defaults, limb)
    return own
