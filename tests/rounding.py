"""Bounds on rounding errors that follow from the arithmetic, so that they hold on every processor and for every draw.

With unit roundoff u (half the machine epsilon) the computed sum of n terms, or of n products, is off by at most

    gamma(n) * (sum of the terms' absolute values),    gamma(n) = n u / (1 - n u),

whatever the order of summation, and with fused multiplications or without (Higham, Accuracy and Stability of Numerical
Algorithms, 2002, sections 3.1 and 4.2). `Rounded` carries this bound through a chain of operations: a value in float64,
and how far any float32 evaluation of the same formula may be from it (running error analysis, section 3.3). What is
discontinuous, the side of ReLU's corner or the place of a maximum, may go either way where the bound says so.

Such bounds are for the worst case, in which all errors have one sign; errors of random signs are about sqrt(n) times
smaller. That slack pays for what the bounds of whole networks leave out: cancellation, which magnifies relative errors
by about sqrt(n) as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
FUNCTION = 4
"""Roundings that an elementary function may cost: vectorised ones are accurate to a few units in the last place."""


def gamma(terms: int, dtype: torch.dtype = torch.float32) -> float:
    """Return the factor of the sum of absolute terms that bounds the error of a sum of ``terms``."""
    total = terms * UNIT[dtype]
    assert total < 0.5, "so many roundings leave no digit"
    return total / (1.0 - total)


def assert_within(got: Tensor, exact: Tensor, bound: Tensor | float, what: str = "") -> None:
    """Assert ``|got - exact| <= bound``, element by element; shapes must be equal."""
    assert got.shape == exact.shape, f"{what}: shape {tuple(got.shape)}, not {tuple(exact.shape)}"
    excess = (got.double() - exact.double()).abs() - bound
    worst = float(excess.max()) if excess.numel() else -1.0
    assert worst <= 0.0, f"{what}: an error exceeds its bound by {worst:.3g}"


class Rounded:
    """A tensor in float64, and a bound on what float32 makes of it.

    Args:
        value: the exact number.
        error: of the same shape, as ``size``; left out where the number is exact in float32.
        size: the sum of the absolute values of the terms whose sum the number is; else its own.
        terms: how many. A sum that is added to another may be computed in one with it, in any order.
    """

    def __init__(self, value: Tensor, error: Tensor | None = None, size: Tensor | None = None, terms: int = 1) -> None:
        self.value = value.detach().double()
        self.error = torch.zeros_like(self.value) if error is None else error
        self.size = self.value.abs() + self.error if size is None else size
        self.terms = terms

    def map(self, change: Callable[[Tensor], Tensor]) -> Rounded:
        """Move numbers: ``change`` is done to value, error and size."""
        return Rounded(change(self.value), change(self.error), change(self.size), self.terms)

    def __getitem__(self, index: Any) -> Rounded:
        return self.map(lambda x: x[index])

    def permute(self, *axes: int) -> Rounded:
        return self.map(lambda x: x.permute(*axes))

    def reshape(self, *shape: int) -> Rounded:
        return self.map(lambda x: x.reshape(*shape))

    def __neg__(self) -> Rounded:
        return Rounded(-self.value, self.error, self.size, self.terms)

    def __add__(self, other: Rounded) -> Rounded:
        size, terms = self.size + other.size, self.terms + other.terms
        return Rounded(self.value + other.value, self.error + other.error + _roundings(terms, size), size, terms)

    def __sub__(self, other: Rounded) -> Rounded:
        return self + (-other)

    def __mul__(self, other: Rounded) -> Rounded:
        size, terms = self.size * other.size, self.terms + other.terms
        error = self.value.abs() * other.error + self.error * (other.value.abs() + other.error)
        return Rounded(self.value * other.value, error + _roundings(terms, size), size, terms)

    def sum(self, *axes: int) -> Rounded:
        terms = math.prod(self.value.shape[axis] for axis in axes)
        size = (self.value.abs() + self.error).sum(axes)
        return Rounded(self.value.sum(axes), self.error.sum(axes) + _roundings(terms, size), size, terms)

    def relu(self) -> Rounded:
        return Rounded(self.value.relu(), self.error)

    def tanh(self) -> Rounded:
        """Its slope is at most 1."""
        value = self.value.tanh()
        return Rounded(value, self.error + _roundings(FUNCTION, value.abs() + self.error))

    def softmax(self) -> Rounded:
        """Over the last axis; shares below the square of the machine epsilon may become zero."""
        below = self.value.amax(-1, keepdim=True) - self.value
        exponent = self.error + UNIT[torch.float32] * below.clamp(max=104.0)  # e^-104 is zero in float32
        most = exponent.amax(-1, keepdim=True)
        relative = torch.expm1(exponent + most + gamma(self.value.shape[-1] + 2 * FUNCTION))
        shares = self.value.softmax(-1)
        lost = (2 * UNIT[torch.float32]) ** 2
        return Rounded(shares, (shares * relative).clamp(max=1.0) + lost)

    def where_positive(self, of: Rounded) -> Rounded:
        """These gradients where ``of``, the argument of a ReLU, is positive; either way where its sign is not sure."""
        sure = of.value.abs() > of.error
        kept = Rounded(self.value * (of.value > 0), self.error * ((of.value > 0) | ~sure))
        kept.error = kept.error + self.value.abs() * ~sure
        return kept


def _roundings(terms: int, size: Tensor) -> Tensor:
    """Return the error of a sum; the smallest normal number stands for underflow."""
    return gamma(terms) * size + torch.finfo(torch.float32).tiny


def cat(parts: Sequence[Rounded], axis: int) -> Rounded:
    """Join along an axis."""
    return Rounded(torch.cat([p.value for p in parts], axis), torch.cat([p.error for p in parts], axis))


def stack(parts: Sequence[Rounded]) -> Rounded:
    """Join along a new first axis."""
    return cat([part[None] for part in parts], 0)


def einsum(formula: str, a: Rounded, b: Rounded) -> Rounded:
    """`torch.einsum` of two operands; partial sums may be taken first."""
    (left, right), out = formula.split("->")[0].split(","), formula.split("->")[1]
    sizes = dict(zip(left, a.value.shape, strict=True)) | dict(zip(right, b.value.shape, strict=True))
    terms = math.prod(size for letter, size in sizes.items() if letter not in out) + 2
    size_a, size_b = a.value.abs() + a.error, b.value.abs() + b.error
    error = torch.einsum(formula, a.value.abs(), b.error) + torch.einsum(formula, a.error, size_b)
    size = torch.einsum(formula, size_a, size_b)
    return Rounded(torch.einsum(formula, a.value, b.value), error + _roundings(terms, size), size, terms)


def network_bound(model: nn.Module, dtype: torch.dtype = torch.float32, rows: int = 0) -> float:
    """Return how far outputs of a network may be off, as a share of the largest: ``gamma`` of the roundings on the way.

    Layers are counted as if they came one after another, each with the terms of its sums: inputs of one output, and
    four for a factor or shift. In training a normalisation also sums over ``rows`` rows, twice.
    """
    count = 0
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            count += parameter[0].numel() if parameter.dim() > 1 else 4
        if rows and hasattr(module, "running_var"):
            count += 2 * rows
    return gamma(count, dtype)


def sampling_bound(count: int, deviations: float = 6.0) -> float:
    """Return how far the sample's standard deviation of ``count`` normal or uniform draws may be off, relative to the
    true one: ``deviations`` times its own standard deviation, 1 / sqrt(2 count) for normal draws, less for uniform."""
    return deviations / math.sqrt(2 * count)
