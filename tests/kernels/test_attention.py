"""Hyperformer's attention, by the kernel and by the reference, against its definition in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stdcl.kernels import attention
from tests.kernels.threads import assert_same_bits
from tests.rounding import Rounded, assert_within, cat, einsum

OPERATION = attention
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


def rounded(
    arguments: list[Tensor], groups: Tensor, distances: Tensor, grad: Tensor, exact_scores: bool
) -> list[Rounded]:
    """The result and the gradients of all arguments, and how far float32 may be from them."""
    qkv, e, rpe, w1, alpha, outer, g = (Rounded(x) for x in (*arguments, grad))
    f, v, _ = qkv.value.shape
    h, d = w1.value.shape
    qkv, g, rpe = qkv.reshape(f, v, 3, h, d), g.reshape(f, v, h, d), rpe.reshape(-1, h, d)
    q, k, value = (qkv[:, :, i] for i in range(3))
    of_group = e[:, groups].reshape(f, v, h, d)
    keys = k + of_group
    at_hop = Rounded(torch.nn.functional.one_hot(distances, len(rpe.value)))
    member = Rounded(torch.nn.functional.one_hot(groups, e.value.shape[1]))
    scores = einsum("fuhd,fwhd->fhuw", q, keys) + einsum("fuhd,uwhd->fhuw", q, rpe[distances])
    scores = scores + einsum("hd,fwhd->fhw", w1, of_group)[:, :, None]
    shares = (Rounded(scores.value) if exact_scores else scores).softmax()
    mixing = alpha * shares + outer
    of_mixing = einsum("fuhd,fwhd->fhuw", g, value)
    mean = einsum("fhuw,fhuw->fhu", of_mixing, shares)
    of_scores = shares * alpha * (of_mixing - mean[..., None])
    of_keys = einsum("fhuw,fuhd->fwhd", of_scores, q)
    of_q = einsum("fhuw,fwhd->fuhd", of_scores, keys) + einsum("fhuw,uwhd->fuhd", of_scores, rpe[distances])
    of_value = einsum("fhuw,fuhd->fwhd", mixing, g)
    of_joint = of_scores.sum(2).permute(0, 2, 1)
    of_e = of_keys + of_joint[..., None] * w1
    by_hop = einsum("fhuw,uwj->fhuj", of_scores, at_hop)
    return [
        einsum("fhuw,fwhd->fuhd", mixing, value).reshape(f, v, h * d),
        cat([x[:, :, None] for x in (of_q, of_keys, of_value)], 2).reshape(f, v, 3 * h * d),
        einsum("vg,fvhd->fghd", member, of_e).reshape(f, -1, h * d),
        einsum("fhuj,fuhd->jhd", by_hop, q).reshape(-1, h * d),
        einsum("fwh,fwhd->hd", of_joint, of_group),
        mean.sum(0, 1, 2).reshape(1),
        of_mixing.sum(0),
    ]


def results(arguments: list[Tensor], groups: Tensor, distances: Tensor, grad: Tensor) -> list[Tensor]:
    """What the operation returns, and the gradients of its arguments."""
    leaves = [x.clone().requires_grad_() for x in arguments]
    out = attention.attend(*leaves, groups, distances)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_its_definition(way: str, size: tuple[int, ...], spread: float) -> None:
    arguments, groups, distances, grad = tensors(size, spread)
    if spread > 1.0:
        # Whole numbers: scores, however large, are exact in float32, so their size does not widen the bounds.
        arguments[:4] = [x.round() for x in arguments[:4]]
    exact = [x.double().requires_grad_() for x in arguments]
    expected = definition(exact, groups, distances)
    expected.backward(grad.double())
    bounds = rounded(arguments, groups, distances, grad, exact_scores=spread > 1.0)
    out, *gradients = results(arguments, groups, distances, grad)
    names = ("out", "qkv", "e", "rpe", "w1", "alpha", "outer")
    for name, got, leaf, bound in zip(
        names, (out, *gradients), (expected.detach(), *(x.grad for x in exact)), bounds, strict=True
    ):
        assert leaf is not None
        assert_within(bound.value, leaf, 1e-9 * (leaf.abs().max() + 1), f"{name}: the bound's own formula")
        assert_within(got, leaf, bound.error, name)


@pytest.mark.parametrize("way", ["kernel"], indirect=True)
def test_bits_do_not_depend_on_threads(way: str) -> None:
    given = tensors((100, 20, 5, 9, 9, 24))
    assert_same_bits(lambda: results(*given))


def test_more_distances_than_a_vector_has_lanes_go_through_the_reference() -> None:
    arguments, groups, distances, _ = tensors((2, 5, 2, 17, 1, 7))
    bound = rounded(arguments, groups, distances, torch.zeros(2, 5, 7), exact_scores=False)[0]
    assert_within(attention.attend(*arguments, groups, distances), bound.value, bound.error)
