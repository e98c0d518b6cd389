"""The questions of a table: contrasts of arms, named in the sweep file. All of one table are one family of tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from stdcl.errors import UserError, nearest


class Scale(StrEnum):
    """How a trend places ordered values on a line."""

    RANK = "rank"
    """1, 2, 3, ...: only the order counts."""
    LOG = "log"
    """By logarithm: equal ratios are equal steps (numbers of samples, learning rates, dimensions)."""
    LINEAR = "linear"
    """As they are."""


@dataclass(frozen=True)
class Question:
    """One question: a contrast of arms.

    Attributes:
        name: for the table.
        coefficients: per arm; they sum to zero. The answer is ``sum of coefficient * accuracy``.
    """

    name: str
    coefficients: Mapping[str, float]


def to_baseline(arms: Sequence[str], baseline: str) -> tuple[Question, ...]:
    """Every other arm against the baseline (many to one).

    Raises:
        UserError: the baseline is not among the arms, or is the only one.
    """
    return _to_one(arms, baseline, "baseline")


def to_value(arms: Mapping[float | str, str], value: float | str) -> tuple[Question, ...]:
    """Every other value of a parameter against one value.

    Args:
        arms: arm per value.
        value: the reference, such as 8 for ``to value: 8``.
    """
    if value not in arms:
        listed = ", ".join(map(str, arms))
        raise UserError(f"compare: to value: {value}; values are {listed}{nearest(str(value), map(str, arms))}")
    return _to_one(list(arms.values()), arms[value], "value")


def trend(arms: Mapping[float, str], scale: Scale = Scale.RANK) -> Question:
    """Linear contrast over ordered values: the fitted difference between the largest and the smallest value.

    The coefficient of value z is ``(z - mean z) / sum (z - mean z)^2 * (max z - min z)``: the slope of a straight line
    by least squares times the range, in units of accuracy, so that it can be held against a margin. It has more power
    than single comparisons against a steady rise or fall, and none against a curve that ends where it begins.

    Args:
        arms: arm per value, at least three.
        scale: how values are placed.

    Raises:
        UserError: fewer than three values, or values that are not positive on the scale ``log``.
    """
    values = sorted(arms)
    if len(values) < 3:
        raise UserError(f"compare: trend: {len(values)} values; at least three are needed")
    if scale is Scale.LOG and values[0] <= 0:
        raise UserError(f"compare: trend: value {values[0]:g} has no logarithm; take the scale rank or linear")
    if scale is Scale.RANK:
        places = np.arange(len(values), dtype=np.float64)
    elif scale is Scale.LOG:
        places = np.array([math.log(v) for v in values])
    else:
        places = np.array(values, dtype=np.float64)
    centred = places - places.mean()
    coefficients = centred / (centred**2).sum() * (places[-1] - places[0])
    return Question(
        f"trend from {values[0]:g} to {values[-1]:g}",
        {arms[value]: float(c) for value, c in zip(values, coefficients, strict=True)},
    )


def _to_one(arms: Sequence[str], reference: str, what: str) -> tuple[Question, ...]:
    others = [arm for arm in arms if arm != reference]
    if reference not in arms:
        raise UserError(f"compare: no arm '{reference}'; arms are {', '.join(arms)}{nearest(reference, arms)}")
    if not others:
        raise UserError(f"compare: '{reference}' is the only arm; a {what} is compared with others")
    return tuple(Question(f"{arm} - {reference}", {reference: -1.0, arm: 1.0}) for arm in others)
