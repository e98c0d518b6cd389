"""Batch normalisation's passes, by the kernel and by the reference, against float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stdcl.kernels import batch_norm
from tests.kernels.threads import assert_same_bits
from tests.rounding import Rounded, assert_within, einsum, gamma

SHAPES = [(1, 1), (3, 7), (256, 16), (257, 3), (1030, 64), (2000, 150)]

OPERATION = batch_norm


def tensors(rows: int, channels: int, *kinds: str) -> list[Tensor]:
    torch.manual_seed(rows * 1000 + channels)
    return [torch.randn((rows, channels) if kind == "rows" else (channels,)) for kind in kinds]


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize(("rows", "channels"), SHAPES)
def test_moments(way: str, rows: int, channels: int, offset: float) -> None:
    x = tensors(rows, channels, "rows")[0] + offset
    exact = x.double()
    mean = exact.mean(0)
    square = ((exact - mean) ** 2).sum(0)
    got = batch_norm.moments(x)
    if way == "kernel":
        # Sums of d = x - x[0] and of its square: the offset costs nothing.
        d = exact - exact[0]
        of_mean = gamma(rows + 4) * d.abs().mean(0) + gamma(4) * mean.abs()
        of_square = 4 * gamma(rows + 4) * (d * d).sum(0)
    else:
        # Deviations from a computed mean, or from one of some rows: each mean may be off by as much as the largest.
        of_mean = gamma(rows + 4) * exact.abs().mean(0)
        off = gamma(rows + 4) * exact.abs().amax(0)
        of_square = gamma(rows + 8) * square + 4 * off * (rows * square).sqrt() + 4 * rows * off * off
    assert_within(got[0], mean, of_mean, "mean")
    assert_within(got[1], square, of_square, "squares")


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize(("rows", "channels"), SHAPES)
def test_normalise(way: str, rows: int, channels: int, with_residual: bool, relu: bool) -> None:
    x, residual, factor, shift = tensors(rows, channels, "rows", "rows", "channels", "channels")
    exact = Rounded(x) * Rounded(factor) + Rounded(shift)
    if with_residual:
        exact = exact + Rounded(residual)
    exact = exact.relu() if relu else exact
    got = batch_norm.normalise(x, residual if with_residual else None, factor, shift, relu)
    assert_within(got, exact.value, exact.error)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("rows", "channels"), SHAPES)
def test_gradient_sums(way: str, rows: int, channels: int, relu: bool) -> None:
    grad, out, x, mean = tensors(rows, channels, "rows", "rows", "rows", "channels")
    kept = Rounded(grad * (out > 0) if relu else grad)
    total, product = kept.sum(0), einsum("rc,rc->c", kept, Rounded(x) - Rounded(mean))
    if way == "reference":
        # PyTorch may subtract the mean after the sum.
        product.error += gamma(rows + 4) * kept.value.abs().sum(0) * (x.abs().amax(0) + mean.abs())
    got = batch_norm.gradient_sums(grad, out if relu else None, x, mean)
    assert_within(got[0], total.value, total.error, "sum")
    assert_within(got[1], product.value, product.error, "product")


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("rows", "channels"), SHAPES)
def test_normalise_backward(way: str, rows: int, channels: int, relu: bool, keep: bool) -> None:
    grad, out, x, a, b, c = tensors(rows, channels, "rows", "rows", "rows", *["channels"] * 3)
    kept = grad * (out > 0) if relu else grad
    exact = [Rounded(a) * Rounded(kept), Rounded(b) * Rounded(x), Rounded(c)]
    size = sum((term.value.abs() + term.error for term in exact), torch.zeros(()))
    got = batch_norm.normalise_backward(grad, out if relu else None, x, a, b, c, keep)
    assert_within(got[0], exact[0].value + exact[1].value + exact[2].value, gamma(4) * size)
    assert (got[1] is None) == (not keep)
    if got[1] is not None:
        assert torch.equal(got[1], kept)


def test_a_nan_is_not_hidden_by_relu(way: str) -> None:
    x = torch.tensor([[float("nan"), -1.0, 2.0]])
    y = batch_norm.normalise(x, None, torch.ones(3), torch.zeros(3), relu=True)
    assert torch.isnan(y[0, 0])
    assert y[0, 1:].tolist() == [0.0, 2.0]


@pytest.mark.parametrize("way", ["kernel"], indirect=True)
def test_the_bits_do_not_depend_on_the_number_of_threads(way: str) -> None:
    grad, out, x, mean = tensors(5000, 48, "rows", "rows", "rows", "channels")
    assert_same_bits(lambda: [batch_norm.moments(x), batch_norm.gradient_sums(grad, out, x, mean)])


def test_what_is_not_contiguous_is_read_by_its_strides(way: str) -> None:
    x, factor, shift = tensors(6, 8, "rows", "channels", "channels")
    turned = x.t().contiguous().t()
    run: list[Callable[[Tensor], Tensor]] = [
        lambda y: batch_norm.normalise(y, None, factor, shift, False),
        batch_norm.moments,
    ]
    assert all(torch.equal(each(turned), each(x)) for each in run)
