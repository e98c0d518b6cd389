"""The space of a search: what may be proposed, under which conditions, and its corners."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stdcl.config.section import Natural, Positive, Section, Seed
from stdcl.errors import nearest

Condition = Mapping[str, Sequence[Any]]
"""Dotted key of a choice -> the values under which a parameter is proposed."""


class SpaceParameter(Section):
    """What every kind of parameter has."""

    type: str
    """float, int or choices, with the keys of each below."""
    when: dict[str, Any] = Field(default_factory=dict)
    """Propose it only where other choices of the space have a value, or one of several: {encoder: hcn}. Elsewhere the
    base's value holds."""

    @property
    def condition(self) -> Condition:
        """``when``, with a list of values for each key."""
        return {key: value if isinstance(value, list) else [value] for key, value in self.when.items()}


class FloatRange(SpaceParameter):
    """A continuous parameter."""

    type: Literal["float"]
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> FloatRange:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"low ({self.low}) must be below high ({self.high}), and above 0 where log is true")
        return self


class IntRange(SpaceParameter):
    """A whole-number parameter."""

    type: Literal["int"]
    low: int
    high: int
    log: bool = False
    step: Positive = 1

    @model_validator(mode="after")
    def _ordered(self) -> IntRange:
        if self.low >= self.high or (self.log and (self.low <= 0 or self.step != 1)):
            raise ValueError(f"low ({self.low}) must be below high ({self.high}); with log, low above 0 and step 1")
        return self


class Choices(SpaceParameter):
    """A parameter with a list of values."""

    type: Literal["choices"]
    values: tuple[float | int | str | bool, ...] = Field(min_length=1, strict=False)


Parameter = Annotated[FloatRange | IntRange | Choices, Field(discriminator="type")]

Objective = Literal["accuracy", "seconds_per_epoch"]
ACCURACY: Objective = "accuracy"


class OptunaConfig(Section):
    """How the search space is sampled and when weak trials are stopped."""

    trials: Positive = 20
    seed: Seed = 0
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    """tpe: Parzen estimators; gp: a Gaussian process over the parameters that all complete trials have (others, those
    under a condition, are drawn at random); random: no model."""
    startup_trials: Natural = 8
    """Trials drawn at random before the model of tpe or gp takes over, and complete ones before median stops any."""
    scheduler: Literal["asha", "median", "none"] = "asha"
    """Which trials are stopped early. asha: those not among the best of their rung; median: those whose best so far is
    below the median of the complete trials at the same epoch; none: all are trained to their end."""
    grace_epochs: Positive = 2
    """Epochs that every trial may run before it may be stopped."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """Of asha: of the trials at a rung, one in so many goes on."""
    objectives: list[Objective] = Field(default_factory=lambda: [ACCURACY], min_length=1)
    """accuracy: higher is better; seconds_per_epoch: less is better. With both, trials trade one for the other."""
    storage: Literal["journal", "sqlite"] = "journal"
    """The study's file, which optuna-dashboard opens; sqlite must not lie on NFS."""

    @model_validator(mode="after")
    def _supported(self) -> OptunaConfig:
        if ACCURACY not in self.objectives or len(set(self.objectives)) != len(self.objectives):
            raise ValueError(f"objectives {self.objectives}: each once, and {ACCURACY} among them")
        if len(self.objectives) > 1 and self.scheduler != "none":
            raise ValueError(
                f"scheduler '{self.scheduler}' stops trials by one number after each epoch, and with several "
                "objectives Optuna takes no such reports; set scheduler: none, or give one objective"
            )
        return self


def faults(space: Mapping[str, Parameter]) -> Iterator[str]:
    """Yield what is wrong with the conditions of a space."""
    for key, parameter in space.items():
        for other, values in parameter.condition.items():
            where = f"space '{key}', when"
            parent = space.get(other)
            if parent is None:
                yield f"{where}: '{other}' is not searched{nearest(other, space)}; searched: {', '.join(space)}"
            elif not isinstance(parent, Choices):
                yield f"{where}: '{other}' is a range; a condition names values of choices"
            else:
                known = ", ".join(map(str, parent.values))
                if not values:
                    yield f"{where}: '{other}' has no value to fit; values: {known}"
                for value in values:
                    if value not in parent.values:
                        yield f"{where}: '{other}' has no value {value}; values: {known}"
    if circle := [key for key in space if key in _above(space, key)]:
        yield f"space: the conditions of {' and '.join(circle)} go round in a circle"


def _above(space: Mapping[str, Parameter], key: str) -> set[str]:
    """The keys that a parameter's conditions lead to, at any depth."""
    found: set[str] = set()
    todo = [key]
    while todo:
        parameter = space.get(todo.pop())
        new = set(parameter.when) - found if parameter is not None else set()
        found |= new
        todo += new
    return found


def ordered(space: Mapping[str, Parameter]) -> list[str]:
    """Return the keys of a space, each behind those that its condition names; else in the file's order."""
    return sorted(space, key=lambda key: len(_above(space, key)))


def applies(condition: Condition, values: Mapping[str, Any]) -> bool:
    """Whether a parameter under a condition is proposed beside these values of others."""
    return all(key in values and values[key] in allowed for key, allowed in condition.items())


def corners(space: Mapping[str, Parameter]) -> list[dict[str, Any]]:
    """Return configurations that touch both ends of every range and each choice, under every combination of conditions.

    A space without conditions has as many as its longest list of choices, at least two.
    """
    deciding = [key for key in ordered(space) if any(key in parameter.when for parameter in space.values())]
    choices = {key: list(space[key].values) for key in deciding}  # type: ignore[union-attr]
    found: dict[str, dict[str, Any]] = {}
    for values in itertools.product(*choices.values()):
        decided: dict[str, Any] = {}
        for key, value in zip(choices, values, strict=True):
            if applies(space[key].condition, decided):
                decided[key] = value
        ends = {
            key: list(p.values) if isinstance(p, Choices) else [p.low, p.high]
            for key, p in space.items()
            if key not in deciding and applies(p.condition, decided)
        }
        for i in range(max((len(each) for each in ends.values()), default=1)):
            cell = {**decided, **{key: each[min(i, len(each) - 1)] for key, each in ends.items()}}
            found.setdefault(json.dumps(cell, sort_keys=True), {key: cell[key] for key in space if key in cell})
    return list(found.values())
