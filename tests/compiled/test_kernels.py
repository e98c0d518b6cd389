"""The compiled kernels against the PyTorch operations that they stand for, and against float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stdcl import compiled

SHAPES = [(1, 1), (3, 7), (256, 16), (257, 3), (1030, 64), (2000, 150)]

needs_kernels = pytest.mark.skipif(not compiled.built(), reason="the kernels were not built: no C compiler here")


def both(monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> tuple[object, object]:
    """Return what ``run`` gives with the kernels and without them."""
    fast = run()
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "_kernels", None)
        return fast, run()


def tensors(rows: int, channels: int, *kinds: str) -> list[Tensor]:
    torch.manual_seed(rows * 1000 + channels)
    return [torch.randn((rows, channels) if kind == "rows" else (channels,)) for kind in kinds]


@needs_kernels
@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize(("rows", "channels"), SHAPES)
def test_moments(monkeypatch: pytest.MonkeyPatch, rows: int, channels: int, offset: float) -> None:
    x = tensors(rows, channels, "rows")[0] + offset
    fast, slow = both(monkeypatch, lambda: compiled.moments(x))
    assert isinstance(fast, Tensor)
    assert isinstance(slow, Tensor)
    exact = x.double()
    mean = exact.mean(0)
    square = ((exact - mean) ** 2).sum(0)
    assert torch.allclose(fast[0].double(), mean, rtol=1e-6, atol=1e-6)
    assert torch.allclose(fast[1].double(), square, rtol=1e-5, atol=1e-6 * rows)
    assert torch.allclose(fast, slow, rtol=1e-4, atol=1e-4 * (1.0 + offset / 10))


@needs_kernels
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize(("rows", "channels"), SHAPES)
def test_normalise(monkeypatch: pytest.MonkeyPatch, rows: int, channels: int, with_residual: bool, relu: bool) -> None:
    x, added, factor, shift = tensors(rows, channels, "rows", "rows", "channels", "channels")
    residual = added if with_residual else None
    fast, slow = both(monkeypatch, lambda: compiled.normalise(x, residual, factor, shift, relu))
    assert isinstance(fast, Tensor)
    assert isinstance(slow, Tensor)
    assert torch.allclose(fast, slow, rtol=1e-5, atol=1e-5)


@needs_kernels
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("rows", "channels"), SHAPES)
def test_gradient_sums(monkeypatch: pytest.MonkeyPatch, rows: int, channels: int, relu: bool) -> None:
    grad, out, x, mean = tensors(rows, channels, "rows", "rows", "rows", "channels")
    positive = out if relu else None
    fast, slow = both(monkeypatch, lambda: compiled.gradient_sums(grad, positive, x, mean))
    assert isinstance(fast, Tensor)
    assert isinstance(slow, Tensor)
    assert torch.allclose(fast, slow, rtol=1e-4, atol=1e-5 * rows)


@needs_kernels
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("rows", "channels"), SHAPES)
def test_normalise_backward(monkeypatch: pytest.MonkeyPatch, rows: int, channels: int, relu: bool, keep: bool) -> None:
    grad, out, x, a, b, c = tensors(rows, channels, "rows", "rows", "rows", *["channels"] * 3)
    positive = out if relu else None
    fast, slow = both(monkeypatch, lambda: compiled.normalise_backward(grad, positive, x, a, b, c, keep))
    assert isinstance(fast, tuple)
    assert isinstance(slow, tuple)
    assert torch.allclose(fast[0], slow[0], rtol=1e-5, atol=1e-5)
    assert (fast[1] is None) == (slow[1] is None) == (not keep)
    if keep:
        assert torch.equal(fast[1], slow[1])


@needs_kernels
def test_a_nan_is_not_hidden_by_relu() -> None:
    x = torch.tensor([[float("nan"), -1.0, 2.0]])
    y = compiled.normalise(x, None, torch.ones(3), torch.zeros(3), relu=True)
    assert torch.isnan(y[0, 0])
    assert y[0, 1:].tolist() == [0.0, 2.0]


@needs_kernels
def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    grad, out, x, mean = tensors(5000, 48, "rows", "rows", "rows", "channels")
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((compiled.moments(x), compiled.gradient_sums(grad, out, x, mean)))
    finally:
        torch.set_num_threads(before)
    for moments, sums in results[1:]:
        assert torch.equal(moments, results[0][0])
        assert torch.equal(sums, results[0][1])


def test_what_is_not_contiguous_is_read_by_its_strides() -> None:
    x, factor, shift = tensors(6, 8, "rows", "channels", "channels")
    turned = x.t().contiguous().t()
    assert torch.equal(
        compiled.normalise(turned, None, factor, shift, False), compiled.normalise(x, None, factor, shift, False)
    )
    assert torch.equal(compiled.moments(turned), compiled.moments(x))
