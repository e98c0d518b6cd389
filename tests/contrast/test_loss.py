from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from stdcl.contrast.loss import Chosen, info_nce, unit, without_duplicates


def _chosen(scores: Tensor, real: Tensor | None = None) -> Chosen:
    real = torch.ones_like(scores, dtype=torch.bool) if real is None else real
    return Chosen(scores, real, torch.zeros_like(scores, dtype=torch.int64))


def test_coefficients_are_the_derivative() -> None:
    generator = torch.Generator().manual_seed(0)
    for reduction in ("mean", "sum"):
        for sets in (1, 2):
            scores = [torch.rand(4, n, generator=generator, dtype=torch.float64) * 2 - 1 for n in (3, 5, 6)][: sets + 1]
            real = [torch.rand(s.shape, generator=generator) < 0.7 for s in scores]
            for mask in real:
                mask[:, 0] = True
            active = torch.tensor([True, False, True, True])

            def loss(*values: Tensor, real: list[Tensor] = real, active: Tensor = active, r: str = reduction) -> Tensor:
                chosen = [_chosen(v, m) for v, m in zip(values, real, strict=True)]
                kind: Literal["mean", "sum"] = "sum" if r == "sum" else "mean"
                return info_nce(chosen[0], chosen[1:], active, temperature=0.3, reduction=kind)[0]

            inputs = [s.clone().requires_grad_() for s in scores]
            expected = torch.autograd.grad(loss(*inputs), inputs)
            kind: Literal["mean", "sum"] = "sum" if reduction == "sum" else "mean"
            chosen = [_chosen(v, m) for v, m in zip(scores, real, strict=True)]
            _, pull, pushes = info_nce(chosen[0], chosen[1:], active, temperature=0.3, reduction=kind)
            for got, want in zip([pull, *pushes], expected, strict=True):
                torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("temperature", "low", "high"), [(0.5, 2.34, 10.24), (0.8, 3.76, 8.74), (1.0, 4.25, 8.24), (0.8, 6.24, 6.24)]
)
def test_range_with_512_negatives(temperature: float, low: float, high: float) -> None:
    """Perfect and worst similarities, and ln 513 when all are equal."""
    active = torch.ones(1, dtype=torch.bool)
    for sign, expected in ((1.0, low), (-1.0, high)):
        positive = torch.full((1, 128), sign if low != high else 0.4, dtype=torch.float64)
        negative = torch.full((1, 512), -sign if low != high else 0.4, dtype=torch.float64)
        loss, _, _ = info_nce(_chosen(positive), [_chosen(negative)], active, temperature=temperature, reduction="mean")
        assert loss.item() == pytest.approx(expected, abs=0.006)
    assert math.log(513) == pytest.approx(6.24, abs=0.001)


def test_sum_is_the_number_of_positives_times_the_mean() -> None:
    active = torch.ones(2, dtype=torch.bool)
    positive, negative = _chosen(torch.randn(2, 128).tanh()), _chosen(torch.randn(2, 512).tanh())
    total, _, _ = info_nce(positive, [negative, negative], active, temperature=0.8, reduction="sum")
    mean, _, _ = info_nce(positive, [negative, negative], active, temperature=0.8, reduction="mean")
    torch.testing.assert_close(total, 128 * mean)


def test_tiny_temperature_does_not_overflow() -> None:
    active = torch.ones(1, dtype=torch.bool)
    positive, negative = _chosen(torch.tensor([[-1.0]])), _chosen(torch.tensor([[1.0, 0.5]]))
    loss, pull, (push,) = info_nce(positive, [negative], active, temperature=0.001, reduction="mean")
    assert loss.item() == pytest.approx(2000.0)
    assert pull.item() == pytest.approx(-1000.0)
    assert push.tolist() == [[pytest.approx(1000.0), 0.0]]


def test_a_union_counts_a_slot_once() -> None:
    hard = Chosen(torch.tensor([[0.9, 0.5, 0.5]]), torch.tensor([[True] * 3]), torch.tensor([[4, 1, 6]]))
    scores, slots = torch.tensor([[0.5, 0.9, 0.5, 0.1, 0.5]]), torch.tensor([[6, 4, 8, 2, 1]])
    random = Chosen(scores, torch.ones(1, 5, dtype=torch.bool), slots)
    assert without_duplicates(random, hard).real.tolist() == [[False, False, True, True, False]]
    empty = Chosen(torch.zeros(1, 0), torch.zeros(1, 0, dtype=torch.bool), torch.zeros(1, 0, dtype=torch.int64))
    assert without_duplicates(random, empty).real.all()


def test_unit_rows_and_their_gradient() -> None:
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unit, (x,))
    torch.testing.assert_close(unit(x).norm(dim=1), torch.ones(4, dtype=torch.float64))
    zero = torch.zeros(1, 6, requires_grad=True)
    unit(zero).sum().backward()
    assert zero.grad is not None
    assert zero.grad.abs().sum() == 0
