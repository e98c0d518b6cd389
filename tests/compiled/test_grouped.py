"""The compiled linear layer in groups against its definition in float64."""

from __future__ import annotations

import pytest
import torch

from stdcl.compiled import grouped
from tests.compiled.threads import assert_same_bits

pytestmark = pytest.mark.skipif(
    not grouped.usable(torch.ones(1), torch.ones(1)),
    reason="the kernel was not built, or this processor has no AVX-512",
)


@pytest.mark.parametrize(("rows", "groups", "width"), [(1040, 6, 36), (512, 3, 16), (513, 1, 70), (3, 5, 1)])
def test_equals_its_definition(rows: int, groups: int, width: int) -> None:
    torch.manual_seed(rows)
    x, grad = torch.randn(rows, groups * width), torch.randn(rows, groups * width)
    weight, bias = torch.randn(groups, width, width), torch.randn(groups * width)
    exact = [y.double().requires_grad_() for y in (x, weight, bias)]
    out = torch.einsum("rgi,gio->rgo", exact[0].view(rows, groups, width), exact[1]).flatten(1) + exact[2]
    out.backward(grad.double())
    results = (grouped.forward(x, weight, bias), *grouped.backward(x, weight, grad))
    for got, leaf in zip(results, (out.detach(), *(y.grad for y in exact)), strict=True):
        assert leaf is not None
        assert got.shape == leaf.shape
        assert (got.double() - leaf).abs().max() <= 2e-6 * leaf.abs().max()


def test_bits_do_not_depend_on_threads() -> None:
    x, grad, weight, bias = torch.randn(3000, 216), torch.randn(3000, 216), torch.randn(6, 36, 36), torch.randn(216)
    assert_same_bits(lambda: [grouped.forward(x, weight, bias), *grouped.backward(x, weight, grad)])
