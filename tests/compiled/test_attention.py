"""Hyperformer's compiled attention against its definition in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stdcl.compiled import attention
from tests.compiled.threads import assert_same_bits

pytestmark = pytest.mark.skipif(
    not attention.usable(torch.ones(1), torch.ones(1, 1)),
    reason="the kernel was not built, or this processor has no AVX-512",
)

# (F, V, G, J, H, D): the encoder's own sizes, then tails of every kind.
SIZES = [
    (40, 20, 5, 9, 9, 24),
    (33, 25, 6, 13, 9, 24),
    (3, 33, 2, 16, 2, 40),
    (2, 5, 1, 3, 1, 7),
    (1, 16, 4, 5, 3, 16),
    (65, 1, 1, 1, 2, 3),
]


def tensors(size: tuple[int, ...], spread: float = 1.0) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """Differentiable arguments, groups, distances, and a gradient of the result."""
    f, v, g, j, h, d = size
    torch.manual_seed(sum(size))
    arguments = [
        spread * torch.randn(f, v, 3 * h * d),
        torch.randn(f, g, h * d),
        torch.randn(j, h * d),
        torch.randn(h, d),
        torch.randn(1),
        torch.randn(h, v, v),
    ]
    return arguments, torch.randint(g, (v,)), torch.randint(j, (v, v)), torch.randn(f, v, h * d)


def definition(arguments: list[Tensor], groups: Tensor, distances: Tensor) -> Tensor:
    qkv, e, rpe, w1, alpha, outer = arguments
    f, v, _ = qkv.shape
    h, d = w1.shape
    q, k, value = qkv.view(f, v, 3, h, d).unbind(2)
    of_group = e[:, groups].view(f, v, h, d)
    scores = torch.einsum("fuhd,fwhd->fhuw", q, k + of_group)
    scores = scores + torch.einsum("fuhd,uwhd->fhuw", q, rpe.view(-1, h, d)[distances])
    scores = scores + torch.einsum("hd,fwhd->fhw", w1, of_group)[:, :, None]
    mixing = alpha * scores.softmax(-1) + outer
    return torch.einsum("fhuw,fwhd->fuhd", mixing, value).reshape(f, v, h * d)


@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_its_definition(size: tuple[int, ...], spread: float) -> None:
    arguments, groups, distances, grad = tensors(size, spread)
    exact = [x.double().requires_grad_() for x in arguments]
    expected = definition(exact, groups, distances)
    expected.backward(grad.double())
    out, shares = attention.forward(*arguments, groups, distances)
    gradients = attention.backward(*arguments, groups, distances, shares, grad)
    assert torch.allclose(shares.sum(-1), torch.ones(()), atol=1e-5)
    # Scores of a large spread are themselves rounded. Gradients that cancel are as exact as what they are sums of.
    tolerance = 1e-5 if spread <= 1.0 else 2e-3
    for got, leaf in zip((out, *gradients), (expected.detach(), *(x.grad for x in exact)), strict=True):
        assert leaf is not None
        assert got.shape == leaf.shape
        assert (got.double() - leaf).abs().max() <= tolerance * max(float(leaf.abs().max()), 2.0)


def test_bits_do_not_depend_on_threads() -> None:
    arguments, groups, distances, grad = tensors((100, 20, 5, 9, 9, 24))

    def run() -> list[Tensor]:
        out, shares = attention.forward(*arguments, groups, distances)
        return [out, shares, *attention.backward(*arguments, groups, distances, shares, grad)]

    assert_same_bits(run)


def test_more_distances_than_a_vector_has_lanes_go_through_operations() -> None:
    assert not attention.usable(torch.ones(1), torch.ones(17, 1))
