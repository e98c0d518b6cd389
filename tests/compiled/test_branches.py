"""The compiled branches of the multi-scale temporal block against PyTorch operations in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from stdcl.compiled import branches
from stdcl.encoders.temporal import MultiScale
from tests.compiled.threads import assert_same_bits

pytestmark = pytest.mark.skipif(
    not branches.usable(torch.ones(1)), reason="the kernel was not built, or this processor has no AVX-512"
)

# (C, stride, time axis, (B, P, Q)): the encoders' own sizes, then tails and short clips of every kind.
CASES = [
    (64, 1, 2, (2, 20, 52)),
    (64, 2, 2, (2, 25, 64)),
    (216, 1, 1, (2, 13, 20)),
    (216, 2, 1, (3, 27, 25)),
    (256, 2, 2, (1, 20, 13)),
    (128, 1, 2, (2, 5, 1)),
    (8, 1, 1, (2, 3, 4)),
    (64, 2, 1, (2, 2, 5)),
    (64, 3, 2, (2, 2, 7)),
]


def block(channels: int, stride: int, axis: int) -> MultiScale:
    torch.manual_seed(channels + stride)
    made = MultiScale(channels, channels, stride, axis)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if ".bn" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def repeated(x: Tensor, axis: int) -> Tensor:
    """Let neighbouring frames be equal, as in clips that are longer than what was recorded."""
    frames = x.shape[axis]
    return x.index_select(axis, torch.arange(frames) // 2)


def step(made: MultiScale, x: Tensor, residual: Tensor, grad: Tensor) -> dict[str, Tensor]:
    x, residual = x.clone().requires_grad_(), residual.clone().requires_grad_()
    out = made(x, residual, relu=True)
    out.backward(grad)
    results = {"out": out.detach(), "x": x.grad, "residual": residual.grad}
    results |= {name: parameter.grad for name, parameter in made.named_parameters()}
    results |= {name: buffer.clone() for name, buffer in made.named_buffers()}
    return {name: value for name, value in results.items() if value is not None}


@pytest.mark.parametrize("repeat_frames", [False, True])
@pytest.mark.parametrize(("channels", "stride", "axis", "shape"), CASES)
def test_a_training_step_equals_operations_in_float64(
    channels: int, stride: int, axis: int, shape: tuple[int, ...], repeat_frames: bool
) -> None:
    made = block(channels, stride, axis)
    exact = copy.deepcopy(made).double()
    x = torch.randn(*shape, channels)
    if repeat_frames:
        x = repeated(x, axis)
    out = copy.deepcopy(made)(x)
    residual, grad = torch.randn_like(out), torch.randn_like(out)
    got = step(made, x, residual, grad)
    expected = step(exact, x.double(), residual.double(), grad.double())
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        # A bias before a batch normalisation has a gradient of zero, up to rounding of sums over all rows.
        scale = grad.abs().sum() if name.endswith(("pw.bias", "conv.bias")) else value.abs().max()
        assert (got[name].double() - value).abs().max() <= 2e-5 * scale, name


def test_bits_do_not_depend_on_threads() -> None:
    x, grad = torch.randn(5, 20, 13, 64), torch.randn(5, 20, 13, 64)
    weights, biases = torch.randn(2, 16, 16, 5), torch.randn(2, 16)
    factor, shift = torch.randn(48), torch.randn(48)
    assert_same_bits(
        lambda: [
            branches.forward(x, factor, shift, weights, biases, 1, 2),
            *branches.backward(x, factor, shift, weights, grad, 1, 2),
        ]
    )


def test_what_is_not_a_number_reaches_the_result() -> None:
    made = block(64, 1, 2)
    x = torch.randn(2, 3, 8, 64)
    x[1, 2, 4, 5] = float("nan")
    assert bool(made(x).isnan().any())


def test_evaluation_and_other_types_go_through_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> Tensor:
        raise AssertionError("the kernel was called")

    monkeypatch.setattr(branches, "forward", refuse)
    made = block(64, 1, 2)
    made.double()(torch.randn(2, 3, 8, 64, dtype=torch.float64))
    made.float().eval()(torch.randn(2, 3, 8, 64))
    made.train()
    with torch.autocast("cpu", torch.bfloat16):
        made(torch.randn(2, 3, 8, 64))
