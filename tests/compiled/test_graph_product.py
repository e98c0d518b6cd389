"""CTR-GCN's compiled product with refined graphs against its definition, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stdcl.compiled import graph_product

needs_kernel = pytest.mark.skipif(
    not graph_product.usable(), reason="the kernel was not built, or this processor has no AVX-512"
)

# (B, C, S, K, V, T): the encoder's own sizes, then tails of every kind.
SIZES = [
    (2, 64, 3, 10, 20, 52),
    (1, 128, 3, 18, 25, 32),
    (1, 256, 3, 34, 20, 13),
    (2, 16, 1, 3, 5, 1),
    (1, 16, 3, 34, 33, 70),
    (3, 16, 3, 10, 16, 16),
    (1, 32, 2, 5, 1, 3),
]


def tensors(size: tuple[int, ...], seed: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Values, mixing, basis, offset and a gradient of the result."""
    b, c, s, k, v, t = size
    torch.manual_seed(seed)
    return (
        torch.randn(b, c, s, v, t),
        torch.randn(s, c, k),
        torch.randn(b, s, k, v, v),
        torch.randn(b, v, c),
        torch.randn(b, v, t, c),
    )


def definition(values: Tensor, mixing: Tensor, basis: Tensor, offset: Tensor) -> Tensor:
    graphs = torch.einsum("sck,bskvu->bcsvu", mixing, basis)
    return torch.einsum("bcsvu,bcsvt->butc", graphs, values) + offset[:, :, None, :]


def assert_close(got: Tensor, exact: Tensor, tolerance: float) -> None:
    assert got.shape == exact.shape
    assert (got.double() - exact).abs().max() <= tolerance * exact.abs().max()


@pytest.mark.parametrize("dtype", [pytest.param(torch.float32, marks=needs_kernel), torch.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_its_definition(size: tuple[int, ...], dtype: torch.dtype) -> None:
    *inputs, grad = tensors(size)
    exact = [x.double().requires_grad_() for x in inputs]
    expected = definition(*exact)
    expected.backward(grad.double())

    got_inputs = [x.to(dtype) for x in inputs]
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    assert_close(graph_product.mix(*got_inputs), expected.detach(), tolerance)
    gradients = graph_product.mix_backward(*got_inputs[:3], grad.to(dtype))
    for got, leaf in zip(gradients, exact, strict=True):
        assert leaf.grad is not None
        assert_close(got, leaf.grad, tolerance)


@needs_kernel
def test_layouts_of_the_arguments_do_not_matter() -> None:
    values, mixing, basis, offset, grad = tensors((2, 32, 3, 4, 6, 7))
    odd = [x.transpose(0, -1).contiguous().transpose(0, -1) for x in (values, mixing, basis, offset, grad)]
    assert torch.equal(graph_product.mix(*odd[:4]), graph_product.mix(values, mixing, basis, offset))
    for got, expected in zip(
        graph_product.mix_backward(*odd[:3], odd[4]),
        graph_product.mix_backward(values, mixing, basis, grad),
        strict=True,
    ):
        assert torch.equal(got, expected)


@needs_kernel
def test_bits_do_not_depend_on_threads() -> None:
    values, mixing, basis, offset, grad = tensors((5, 32, 3, 10, 20, 13))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append(
                [
                    graph_product.mix(values, mixing, basis, offset),
                    *graph_product.mix_backward(values, mixing, basis, grad),
                ]
            )
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_channels_that_the_kernel_does_not_take_go_through_operations() -> None:
    *inputs, _ = tensors((2, 12, 3, 4, 5, 6))
    assert_close(graph_product.mix(*inputs), definition(*(x.double() for x in inputs)), 1e-6)
