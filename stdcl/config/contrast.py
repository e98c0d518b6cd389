"""The options of STD-CL: the section ``contrast``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from stdcl.config.section import Natural, Positive, Section

Strategy = Literal["none", "spatial", "temporal", "spatial+temporal", "global", "spatial+temporal+global"]


class ReadingsConfig(Section):
    """Readings of passages that the paper leaves open. Their defaults follow its text, then the code that it names.

    Each key may be written without `readings`, as in release 0.1: `contrast.slots` is `contrast.readings.slots`.
    """

    negative_sets: Literal["separate", "union"] = "separate"
    """Hard and random negatives in two terms, averaged, or in one denominator."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over positives: mean, or the sum as eq. 8-9 print it (about hard_positives times larger; HCN did not train)."""
    write: Literal["before", "after"] = "before"
    """Whether the batch enters the bank before or after it is compared with it."""
    exclude_own_slot: bool = True
    """Whether an anchor's own slot is barred from its positives."""
    shortage: Literal["skip", "clamp"] = "skip"
    """An anchor with fewer candidates than asked for: leave it out, or use what exists (clip slots: by default)."""
    slots: Literal["item", "clip"] = "item"
    """One slot per training item (a clip's repeats have their own), or one per clip."""
    weights: Literal["printed", "release"] = "printed"
    """What the weights of the spatial and temporal loss are if not given: 1 and 1 as eq. 10 prints, or 0.5 and 0.5 as
    the authors' later release has."""
    bias: bool = True
    """Bias in the head's linear maps."""
    nonlinearity: Literal["none", "relu", "bn+relu"] = "none"
    """Between the two linear maps of a branch."""
    person_mask: Literal["all", "present"] = "all"
    """Mean over all persons, or over those who are there."""
    freeze_head: bool = False
    """Leave the head at its random start (to study it)."""


class ContrastConfig(Section):
    """STD-CL: decoupling head, memory banks, sampling, loss (paper, section 3)."""

    strategy: Strategy = "spatial+temporal"
    """Which features are contrasted (paper, Table 4c); none: cross-entropy alone."""
    temperature: float = Field(default=0.8, gt=0)
    """tau of eq. 8-9."""
    channel_reduction: Positive = 8
    """r of eq. 4."""
    embedding_dim: Positive = Field(default=256, le=16_384)
    """D of eq. 5."""
    hard_positives: Positive = 128
    """N_H+: least similar slots of the anchor's class."""
    hard_negatives: Natural = 512
    """N_H-: most similar slots of other classes."""
    random_negatives: Natural = 512
    """N_R-: slots of other classes drawn at random, without replacement."""
    weight_spatial: float = Field(default=1.0, ge=0)
    """w_s of eq. 10; by default as readings.weights says."""
    weight_temporal: float = Field(default=1.0, ge=0)
    """w_t of eq. 10; by default as readings.weights says."""
    weight_global: float = Field(default=1.0, ge=0)
    """Of the global loss, for the strategies that have one."""
    start_epoch: Natural = 0
    """First epoch (from 0) whose loss holds the contrastive terms; the banks are filled from epoch 0."""
    readings: ReadingsConfig = ReadingsConfig()
    """How the paper's open passages are read."""
    exchange: Literal["candidates", "allgather"] = "candidates"
    """What travels between ranks: anchors and candidates' scores, or the bank itself. Equal up to rounding."""

    @model_validator(mode="before")
    @classmethod
    def _long_spelling(cls, given: Any) -> Any:
        return with_readings(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _has_negatives(self) -> ContrastConfig:
        if self.strategy != "none" and self.hard_negatives + self.random_negatives == 0:
            raise ValueError("hard_negatives and random_negatives cannot both be 0: the loss needs negatives")
        return self


def settle_contrast(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill what another key of the section decides, unless it is given."""
    section = with_readings(given)
    readings = section.get(READINGS)
    if not isinstance(readings, Mapping):
        return section
    if readings.get("slots") == "clip":
        section[READINGS] = {"shortage": "clamp", **readings}
    weights = {"weight_spatial": 0.5, "weight_temporal": 0.5} if readings.get("weights") == "release" else {}
    return {**weights, **section}


# ---- two spellings of a reading -----------------------------------------------------------------------------------
# Release 0.1 had all keys in one section. Its spelling stays a short form of today's wherever a key is read; in what
# is compared and written, each key has the long one.

CONTRAST, READINGS = "contrast", "readings"


def with_readings(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a raw section ``contrast`` with the long spelling. (A key given in both is left, to be refused.)"""
    inner = section.get(READINGS, {})
    short = {key: section[key] for key in section if key in ReadingsConfig.model_fields}
    if not short or not isinstance(inner, Mapping):
        return dict(section)
    rest = {key: value for key, value in section.items() if key not in short or key in inner}
    return {**rest, READINGS: {**short, **inner}}


def without_readings(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section ``contrast`` with the short spelling, which fingerprints are made of."""
    return {**{key: value for key, value in section.items() if key != READINGS}, **section.get(READINGS, {})}


def long_key(key: str) -> str:
    """Return the long spelling of a run's dotted key, which may begin with a sweep file's ``base.``."""
    section, _, name = key.rpartition(".")
    short = section.removeprefix("base.") == CONTRAST and name in ReadingsConfig.model_fields
    return f"{section}.{READINGS}.{name}" if short else key


def short_key(key: str) -> str:
    """Return the short spelling of a run's dotted key."""
    return key.replace(f"{CONTRAST}.{READINGS}.", f"{CONTRAST}.")


def long_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys -> values with the long spelling. (A key given in both is left, to be refused.)"""
    return {key if long_key(key) in values else long_key(key): value for key, value in values.items()}


def long_location(location: Iterable[Any]) -> tuple[Any, ...]:
    """Return the place of a key in a file, part by part, with the long spelling."""
    out: list[Any] = []
    for part in location:
        if out[-1:] == [CONTRAST] and part in ReadingsConfig.model_fields:
            out.append(READINGS)
        out.append(long_key(part) if isinstance(part, str) else part)
    return tuple(out)
