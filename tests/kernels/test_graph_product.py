"""CTR-GCN's refined graphs and the product with them, by kernel and reference, against the definition in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stdcl.kernels import graph_product
from tests.kernels.threads import assert_same_bits
from tests.rounding import Rounded, assert_within, cat, einsum

OPERATION = graph_product
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


def rounded(inputs: list[Tensor], grad: Tensor) -> list[Rounded]:
    """The result and the gradients of all arguments, and how far float32 may be from them."""
    values, qk, a, mixing, biased, g = (Rounded(x) for x in (*inputs, grad))
    reduced, subsets = qk.value.shape[4], a.value.shape[0]
    q, k = (qk[:, :, i].permute(0, 2, 3, 1) for i in (0, 1))  # (B, S, R, V)
    relation = (q[:, :, :, None, :] - k[:, :, :, :, None]).tanh()
    shape = (*relation.value.shape[:2], 1, *relation.value.shape[3:])
    ones = Rounded(torch.ones(shape))
    adjacency = Rounded(a.value.transpose(1, 2)[None, :, None].expand(shape))
    basis = cat((relation, ones, adjacency), 2)
    biased = biased.reshape(subsets, reduced + 2, -1)
    graphs = einsum("sck,bskvu->bcsvu", mixing, basis)
    out = einsum("bcsvu,bcsvt->butc", graphs, values) + einsum("skc,bskvu->buc", biased, basis)[:, :, None, :]
    of_offset = g.sum(2)
    of_graphs = einsum("butc,bcsvt->bcsvu", g, values)
    of_column = einsum("skc,buc->bsku", biased, of_offset)[:, :, :, None, :]
    of_basis = einsum("sck,bcsvu->bskvu", mixing, of_graphs) + of_column
    of_relation = of_basis[:, :, :reduced] * (Rounded(torch.ones(())) - relation * relation)
    of_q, of_k = of_relation.sum(3).permute(0, 3, 1, 2), (-of_relation.sum(4)).permute(0, 3, 1, 2)
    return [
        out,
        einsum("butc,bcsvu->bcsvt", g, graphs),
        cat((of_q[:, :, None], of_k[:, :, None]), 2),
        of_basis[:, :, -1].sum(0).permute(0, 2, 1),
        einsum("bcsvu,bskvu->sck", of_graphs, basis),
        einsum("buc,bskvu->skc", of_offset, basis).reshape(-1, grad.shape[3]),
    ]


@pytest.mark.parametrize("spread", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_its_definition(way: str, size: tuple[int, ...], dtype: torch.dtype, spread: float) -> None:
    inputs, grad = tensors(size, spread)
    exact = [x.double().requires_grad_() for x in inputs]
    expected = definition(*exact)
    expected.backward(grad.double())
    given = [x.to(dtype) for x in inputs]
    results = (graph_product.forward(*given), *graph_product.backward(*given, grad.to(dtype)))
    names = ("out", *graph_product.Gradients._fields)
    scale = torch.finfo(dtype).eps / torch.finfo(torch.float32).eps
    for name, got, leaf, bound in zip(
        names, results, (expected.detach(), *(x.grad for x in exact)), rounded(inputs, grad), strict=True
    ):
        assert leaf is not None
        assert_within(got, leaf, scale * bound.error, name)


@pytest.mark.parametrize("way", ["kernel"], indirect=True)
def test_layouts_of_the_arguments_do_not_matter(way: str) -> None:
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


@pytest.mark.parametrize("way", ["kernel"], indirect=True)
def test_bits_do_not_depend_on_threads(way: str) -> None:
    inputs, grad = tensors((5, 32, 3, 8, 20, 13))
    assert_same_bits(lambda: [graph_product.forward(*inputs), *graph_product.backward(*inputs, grad)])


def test_channels_that_the_kernel_does_not_take_go_through_operations() -> None:
    inputs, _ = tensors((2, 12, 3, 4, 5, 6))
    expected = rounded(inputs, torch.zeros(2, 5, 6, 12))[0]
    assert_within(graph_product.forward(*inputs), expected.value, expected.error)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_samples_give_empty_features_and_no_gradient(dtype: torch.dtype) -> None:
    inputs, grad = tensors((0, 16, 3, 4, 5, 6))
    given = [x.to(dtype) for x in inputs]
    assert graph_product.forward(*given).shape == grad.shape
    for got, leaf in zip(graph_product.backward(*given, grad.to(dtype)), given, strict=True):
        assert got.shape == leaf.shape
        assert not got.any()


def test_the_differentiable_form_adds_the_bias_to_the_values(way: str) -> None:
    """In float64: the formula with ``values + bias``, and the gradients of all arguments."""
    (values, qk, a, mixing, _), grad = tensors((2, 16, 3, 4, 5, 6))
    bias = torch.randn(mixing.shape[:2])
    leaves = [x.double().requires_grad_() for x in (values, bias, qk, a, mixing)]
    values, bias, qk, a, mixing = leaves
    out = graph_product.graph_product(*leaves)
    zero = torch.zeros(mixing.shape[0] * mixing.shape[2], mixing.shape[1], dtype=torch.float64)
    expected = definition(values + bias.t()[:, :, None, None], qk, a, mixing, zero)
    torch.testing.assert_close(out, expected)
    got = torch.autograd.grad(out, leaves, grad.double())
    for of, exact in zip(got, torch.autograd.grad(expected, leaves, grad.double()), strict=True):
        torch.testing.assert_close(of, exact)
