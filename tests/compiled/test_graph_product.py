"""CTR-GCN's refined graphs and the product with them, compiled and by operations, against the definition in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stdcl.compiled import graph_product
from tests.compiled.threads import assert_same_bits

needs_kernel = pytest.mark.skipif(
    not graph_product.usable(), reason="the kernel was not built, or this processor has no AVX-512"
)

# (B, C, S, R, V, T): the encoder's own sizes, then tails of every kind.
SIZES = [
    (2, 64, 3, 8, 20, 52),
    (1, 128, 3, 16, 25, 32),
    (1, 256, 3, 32, 20, 13),
    (2, 16, 1, 1, 5, 1),
    (1, 16, 3, 32, 33, 70),
    (3, 16, 3, 8, 16, 16),
    (1, 32, 2, 3, 1, 3),
]


def tensors(size: tuple[int, ...], spread: float = 1.0) -> tuple[list[Tensor], Tensor]:
    """Values, qk, a, mixing and biased; a gradient of the result."""
    b, c, s, r, v, t = size
    torch.manual_seed(sum(size))
    arguments = [
        torch.randn(b, c, s, v, t),
        spread * torch.randn(b, v, 2, s, r),
        torch.randn(s, v, v),
        torch.randn(s, c, r + 2),
        torch.randn(s * (r + 2), c),
    ]
    return arguments, torch.randn(b, v, t, c)


def definition(values: Tensor, qk: Tensor, a: Tensor, mixing: Tensor, biased: Tensor) -> Tensor:
    q, k = qk.unbind(2)
    relation = torch.tanh(q.permute(0, 2, 3, 1)[:, :, :, None, :] - k.permute(0, 2, 3, 1)[:, :, :, :, None])
    shape = (*relation.shape[:2], 1, *relation.shape[3:])
    adjacency = a.transpose(1, 2)[None, :, None].expand(shape)
    basis = torch.cat((relation, torch.ones(shape, dtype=a.dtype), adjacency), dim=2)
    graphs = torch.einsum("sck,bskvu->bcsvu", mixing, basis)
    offset = torch.einsum("skc,bskvu->buc", biased.view(*basis.shape[1:3], -1), basis)
    return torch.einsum("bcsvu,bcsvt->butc", graphs, values) + offset[:, :, None, :]


@pytest.mark.parametrize("spread", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("dtype", [pytest.param(torch.float32, marks=needs_kernel), torch.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_its_definition(size: tuple[int, ...], dtype: torch.dtype, spread: float) -> None:
    inputs, grad = tensors(size, spread)
    exact = [x.double().requires_grad_() for x in inputs]
    expected = definition(*exact)
    expected.backward(grad.double())

    given = [x.to(dtype) for x in inputs]
    tolerance = 5e-6 if dtype == torch.float32 else 1e-13
    results = (graph_product.forward(*given), *graph_product.backward(*given, grad.to(dtype)))
    for got, leaf in zip(results, (expected.detach(), *(x.grad for x in exact)), strict=True):
        assert leaf is not None
        assert got.shape == leaf.shape
        assert (got.double() - leaf).abs().max() <= tolerance * max(float(leaf.abs().max()), 1.0)


@needs_kernel
def test_layouts_of_the_arguments_do_not_matter() -> None:
    inputs, grad = tensors((2, 32, 3, 4, 6, 7))
    odd, odd_grad = (
        [x.transpose(0, -1).contiguous().transpose(0, -1) for x in inputs],
        grad.transpose(1, 2).contiguous(),
    )
    assert torch.equal(graph_product.forward(*odd), graph_product.forward(*inputs))
    for got, expected in zip(
        graph_product.backward(*odd, odd_grad.transpose(1, 2)), graph_product.backward(*inputs, grad), strict=True
    ):
        assert torch.equal(got, expected)


@needs_kernel
def test_bits_do_not_depend_on_threads() -> None:
    inputs, grad = tensors((5, 32, 3, 8, 20, 13))
    assert_same_bits(lambda: [graph_product.forward(*inputs), *graph_product.backward(*inputs, grad)])


def test_channels_that_the_kernel_does_not_take_go_through_operations() -> None:
    inputs, _ = tensors((2, 12, 3, 4, 5, 6))
    expected = definition(*(x.double() for x in inputs))
    assert (graph_product.forward(*inputs) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_samples_give_empty_features_and_no_gradient(dtype: torch.dtype) -> None:
    inputs, grad = tensors((0, 16, 3, 4, 5, 6))
    given = [x.to(dtype) for x in inputs]
    assert graph_product.forward(*given).shape == grad.shape
    for got, leaf in zip(graph_product.backward(*given, grad.to(dtype)), given, strict=True):
        assert got.shape == leaf.shape
        assert not got.any()
