from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from stdcl.methods.stdcl.loss import info_nce, unit, unit_gradient
from stdcl.methods.stdcl.selection import Chosen, without_duplicates
from tests.rounding import gamma


def _plain(scores: Tensor, real: Tensor, active: Tensor, widths: tuple[int, ...], tau: float, reduction: str) -> Tensor:
    """The loss entry by entry, differentiable."""
    positive, *negatives = (
        list(zip(s, r, strict=True)) for s, r in zip(scores.split(widths, 1), real.split(widths, 1), strict=True)
    )
    each = []
    for i in active.nonzero().flatten().tolist():
        values, mask = positive[i]
        terms = [
            torch.log1p(torch.exp((n[i][0][n[i][1]] - value) / tau).sum()) for value in values[mask] for n in negatives
        ]
        each.append(sum(terms) / len(negatives) / (int(mask.sum()) if reduction == "mean" else 1))
    total = sum(each) / len(each)
    assert isinstance(total, Tensor)
    return total


def test_loss_and_coefficients_equal_the_formula_and_its_derivative() -> None:
    generator = torch.Generator().manual_seed(0)
    active = torch.tensor([True, False, True, True])
    kinds: tuple[Literal["mean", "sum"], ...] = ("mean", "sum")
    for reduction in kinds:
        for widths in ((3, 5), (3, 5, 6)):
            scores = torch.rand(2, 4, sum(widths), generator=generator, dtype=torch.float64) * 2 - 1
            real = torch.rand(scores.shape, generator=generator) < 0.7
            for part in real.split(widths, dim=2):
                part[..., 0] = True
            real[:, 1] = False  # of an anchor that is not active
            losses, coefficients = info_nce(
                torch.where(real, scores, torch.inf), real, active, widths, temperature=0.3, reduction=reduction
            )
            leaf = scores.clone().requires_grad_()
            for z in range(2):
                expected = _plain(leaf[z], real[z], active, widths, 0.3, reduction)
                torch.testing.assert_close(losses[z], expected, rtol=1e-12, atol=1e-14)
                (gradient,) = torch.autograd.grad(expected, leaf)
                torch.testing.assert_close(coefficients[z], gradient[z], rtol=1e-12, atol=1e-14)


def _all_real(
    parts: list[Tensor], temperature: float, reduction: Literal["mean", "sum"] = "mean"
) -> tuple[Tensor, list[Tensor]]:
    scores, widths = torch.cat(parts, dim=1), tuple(part.shape[1] for part in parts)
    active, real = torch.ones(len(scores), dtype=torch.bool), torch.ones_like(scores, dtype=torch.bool)
    loss, coefficients = info_nce(scores, real, active, widths, temperature=temperature, reduction=reduction)
    return loss, list(coefficients.split(widths, dim=1))


@pytest.mark.parametrize(
    ("temperature", "low", "high"), [(0.5, 2.34, 10.24), (0.8, 3.76, 8.74), (1.0, 4.25, 8.24), (0.8, 6.24, 6.24)]
)
def test_range_with_512_negatives(temperature: float, low: float, high: float) -> None:
    """Perfect and worst similarities, and ln 513 when all are equal."""
    for sign, expected in ((1.0, low), (-1.0, high)):
        positive = torch.full((1, 128), sign if low != high else 0.4, dtype=torch.float64)
        negative = torch.full((1, 512), -sign if low != high else 0.4, dtype=torch.float64)
        loss, _ = _all_real([positive, negative], temperature)
        assert loss.item() == pytest.approx(expected, abs=0.006)
    assert math.log(513) == pytest.approx(6.24, abs=0.001)


def test_sum_is_the_number_of_positives_times_the_mean() -> None:
    parts = [torch.randn(2, 128).tanh(), torch.randn(2, 512).tanh()]
    parts.append(parts[1])
    total, _ = _all_real(parts, 0.8, "sum")
    mean, _ = _all_real(parts, 0.8)
    torch.testing.assert_close(total, 128 * mean, rtol=2 * gamma(128 + 512 + 16), atol=0.0)


def test_tiny_temperature_does_not_overflow() -> None:
    loss, (pull, push) = _all_real([torch.tensor([[-1.0]]), torch.tensor([[1.0, 0.5]])], 0.001)
    assert loss.item() == pytest.approx(2000.0)
    assert pull.item() == pytest.approx(-1000.0)
    assert push.tolist() == [[pytest.approx(1000.0), 0.0]]


def test_a_union_counts_a_slot_once() -> None:
    hard = Chosen(torch.tensor([[0.9, 0.5, 0.5]]), torch.tensor([[True] * 3]), torch.tensor([[4, 1, 6]]))
    scores, slots = torch.tensor([[0.5, 0.9, 0.5, 0.1, 0.5]]), torch.tensor([[6, 4, 8, 2, 1]])
    random = Chosen(scores, torch.ones(1, 5, dtype=torch.bool), slots)
    assert without_duplicates(random, hard).tolist() == [[False, False, True, True, False]]
    empty = Chosen(torch.zeros(1, 0), torch.zeros(1, 0, dtype=torch.bool), torch.zeros(1, 0, dtype=torch.int64))
    assert without_duplicates(random, empty).all()


def test_unit_rows_and_their_gradient() -> None:
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    z, scale = unit(x)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(4, dtype=torch.float64))
    outer = torch.randn(4, 6, dtype=torch.float64)
    (expected,) = torch.autograd.grad((torch.nn.functional.normalize(x, dim=1) * outer).sum(), x)
    torch.testing.assert_close(unit_gradient(z.detach(), scale.detach(), outer), expected, rtol=1e-12, atol=1e-14)
    z, scale = unit(torch.zeros(1, 6))
    assert z.abs().sum() == scale.sum() == unit_gradient(z, scale, outer[:1].float()).abs().sum() == 0
