"""The branches of the multi-scale temporal block, by the kernel and by the reference, against their definition."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from stdcl.encoders.temporal import MultiScale
from stdcl.kernels import branches, choice
from tests.kernels.threads import assert_same_bits
from tests.rounding import Rounded, assert_within, cat, einsum, gamma, stack

OPERATION = branches
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
PAD = 4  # frames on each side that the convolution of dilation 2 reads
cases = pytest.mark.parametrize(("channels", "stride", "axis", "shape"), CASES)


def repeated(x: Tensor, axis: int) -> Tensor:
    """Let neighbouring frames be equal, as in clips that are longer than what was recorded."""
    frames = x.shape[axis]
    return x.index_select(axis, torch.arange(frames) // 2)


def arguments(channels: int, stride: int, axis: int, shape: tuple[int, ...]) -> tuple[list[Tensor], Tensor]:
    """Random x, factor, shift, weights and biases, and a gradient of the result."""
    torch.manual_seed(channels + stride)
    w = channels // 4
    x = torch.randn(*shape, channels)
    out = list(x.shape)
    out[axis] = (out[axis] - 1) // stride + 1
    return [x, torch.randn(3 * w), torch.randn(3 * w), torch.randn(2, w, w, 5), torch.randn(2, w)], torch.randn(out)


def definition(
    x: Tensor, factor: Tensor, shift: Tensor, weights: Tensor, biases: Tensor, stride: int, axis: int
) -> tuple[Tensor, Tensor]:
    """The argument of ReLU with the fourth branch, (B, P, Q, 4 w), and the result: by PyTorch, in the type of ``x``."""
    w = weights.shape[1]
    before = torch.cat((x[..., : 3 * w] * factor + shift, x[..., 3 * w :]), dim=-1)
    before.requires_grad_()
    y = before.transpose(1, 2) if axis == 1 else before  # (B, V, T, 4 w)
    image = y.permute(0, 3, 1, 2)
    first, second, third = torch.relu(image[:, : 3 * w]).split(w, dim=1)
    kernel = weights[:, :, :, None]
    parts = [
        torch.conv2d(first, kernel[0], biases[0], (1, stride), (0, 2)),
        torch.conv2d(second, kernel[1], biases[1], (1, stride), (0, 4), (1, 2)),
        torch.max_pool2d(third, (1, 3), (1, stride), (0, 1)),
        image[:, 3 * w :, :, ::stride],
    ]
    out = torch.cat(parts, dim=1).permute(0, 2, 3, 1)
    return before, out.transpose(1, 2) if axis == 1 else out


def results(given: list[Tensor], grad: Tensor, stride: int, axis: int) -> dict[str, Tensor]:
    """What the operation returns."""
    x, factor, shift, weights, _ = given
    found = branches.backward(x, factor, shift, weights, grad, stride, axis)
    return {"out": branches.forward(*given, stride, axis)} | dict(
        zip(("before", "weights", "biases"), found, strict=True)
    )


def expected(given: list[Tensor], grad: Tensor, stride: int, axis: int) -> dict[str, Tensor]:
    """The same by the definition, in float64."""
    given = [x.detach().double() for x in given]
    given[3].requires_grad_()
    given[4].requires_grad_()
    with torch.enable_grad():
        before, out = definition(*given, stride, axis)
        found = torch.autograd.grad(out, (before, given[3], given[4]), grad.double())
    return {"out": out.detach()} | dict(zip(("before", "weights", "biases"), found, strict=True))


def bounds(given: list[Tensor], grad: Tensor, stride: int, axis: int) -> dict[str, Tensor]:
    """How far float32 may be from that."""
    x, g = (Rounded(t.transpose(1, 2) if axis == 1 else t) for t in (given[0], grad))  # (B, V, T, 4 w)
    factor, shift, weights, biases = (Rounded(t) for t in given[1:])
    w, frames, kept = weights.value.shape[1], x.value.shape[2], g.value.shape[2]
    centres = torch.arange(kept) * stride + PAD
    before = x[..., : 3 * w] * factor + shift
    hidden = before.relu().map(lambda t: pad(t, (0, 0, PAD, PAD)))
    outs, of_hidden, of_weights = [], [], []

    def placed(at: Tensor, of: Rounded) -> Rounded:
        """Into the frames ``at`` of zeros."""
        return of.map(lambda t: torch.zeros_like(hidden.value[..., :w]).index_copy(2, at, t))

    for branch in range(2):
        channels = slice(branch * w, branch * w + w)
        own = g[..., channels]
        taps = [centres + (branch + 1) * (tap - 2) for tap in range(5)]
        read = stack([hidden[:, :, at, channels] for at in taps])
        outs.append(einsum("pbvti,oip->bvto", read, weights[branch]) + biases[branch])
        of_weights.append(einsum("pbvti,bvto->oip", read, own))
        each = [placed(at, einsum("bvto,oi->bvti", own, weights[branch][:, :, tap])) for tap, at in enumerate(taps)]
        of_hidden.append(sum(each[1:], each[0]))
    own = g[..., 2 * w : 3 * w]
    window = [hidden[:, :, centres + tap, 2 * w :] for tap in (-1, 0, 1)]
    most, slack = (torch.stack(t).amax(0) for t in ([t.value for t in window], [t.error for t in window]))
    outs.append(Rounded(most, slack))
    reach = [t.value >= most - 2 * slack for t in window]
    alone = sum(t.long() for t in reach) == 1
    # Where several frames may be the largest, the gradient may go to any of them.
    each = [
        placed(centres + tap, Rounded(own.value * (there & alone), own.value.abs() * (there & ~alone)))
        for tap, there in zip((-1, 0, 1), reach, strict=True)
    ]
    of_hidden.append(sum(each[1:], each[0]))
    of_before = cat(of_hidden, 3)[:, :, PAD : PAD + frames].where_positive(before)
    out, fourth = cat(outs, 3).error, torch.zeros_like(x.value[..., :w])
    found = {
        "out": torch.cat((out, fourth[:, :, :kept]), -1),
        "before": torch.cat((of_before.error, fourth), -1),
    }
    if axis == 1:
        found = {name: t.transpose(1, 2) for name, t in found.items()}
    of_biases = g[..., : 2 * w].sum(0, 1, 2)
    return found | {"weights": stack(of_weights).error, "biases": of_biases.error.view(2, w)}


@cases
def test_random_numbers(way: str, channels: int, stride: int, axis: int, shape: tuple[int, ...]) -> None:
    given, grad = arguments(channels, stride, axis, shape)
    want, limit = expected(given, grad, stride, axis), bounds(given, grad, stride, axis)
    for name, got in results(given, grad, stride, axis).items():
        assert_within(got, want[name], limit[name], name)


@pytest.mark.parametrize("repeat_frames", [False, True])
@cases
def test_small_whole_numbers_are_exact(
    way: str, channels: int, stride: int, axis: int, shape: tuple[int, ...], repeat_frames: bool
) -> None:
    """Every product and sum is a whole number below 2^24: no rounding, and many equal frames and zeros before ReLU."""
    given, grad = arguments(channels, stride, axis, shape)
    given, grad = [(2 * x).round() for x in given], grad.round()
    if repeat_frames:
        given[0] = repeated(given[0], axis)
    want = expected(given, grad, stride, axis)
    for name, got in results(given, grad, stride, axis).items():
        assert torch.equal(got.double(), want[name]), name


def block(channels: int, stride: int, axis: int) -> MultiScale:
    torch.manual_seed(channels + stride)
    made = MultiScale(channels, channels, stride, axis)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if ".bn" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def step(made: MultiScale, x: Tensor, residual: Tensor, grad: Tensor) -> dict[str, Tensor]:
    x, residual = x.clone().requires_grad_(), residual.clone().requires_grad_()
    out = made(x, residual, relu=True)
    out.backward(grad)
    found = {"out": out.detach(), "x": x.grad, "residual": residual.grad}
    found |= {name: parameter.grad for name, parameter in made.named_parameters()}
    found |= {name: buffer.clone() for name, buffer in made.named_buffers()}
    return {name: value for name, value in found.items() if value is not None}


@cases
def test_the_block_around_the_kernel(
    monkeypatch: pytest.MonkeyPatch, channels: int, stride: int, axis: int, shape: tuple[int, ...]
) -> None:
    """A training step of the block around the reference equals one by separate operations, in float64."""
    made = block(channels, stride, axis).double()
    x = torch.randn(*shape, channels, dtype=torch.float64)
    shape_out = copy.deepcopy(made)(x).shape
    residual, grad = torch.randn(shape_out, dtype=x.dtype), torch.randn(shape_out, dtype=x.dtype)
    want = step(copy.deepcopy(made), x, residual, grad)
    monkeypatch.setattr(branches, "one_of", lambda x, fused, separate: fused(x))
    got = step(made, x, residual, grad)
    assert got.keys() == want.keys()
    # Sums over all rows of what has gone through a product of all channels. Far above any rounding, far below a fault.
    limit = 1e3 * gamma(x.numel(), torch.float64)
    for name, value in want.items():
        # A bias before a batch normalisation has a gradient of zero, up to rounding of sums over all rows.
        scale = grad.abs().sum() if name.endswith(("pw.bias", "conv.bias")) else value.abs().max()
        assert_within(got[name], value, limit * scale, name)


@pytest.mark.parametrize("way", ["kernel"], indirect=True)
def test_bits_do_not_depend_on_threads(way: str) -> None:
    given, grad = arguments(64, 1, 2, (5, 20, 13))
    assert_same_bits(lambda: results(given, grad, 1, 2).values())


def test_what_is_not_a_number_reaches_the_result() -> None:
    made = block(64, 1, 2)
    x = torch.randn(2, 3, 8, 64)
    x[1, 2, 4, 5] = float("nan")
    assert bool(made(x).isnan().any())


def test_training_on_the_cpu_calls_the_kernel_and_all_else_the_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[torch.dtype] = []

    def forward(x: Tensor, *rest: object) -> Tensor:
        called.append(x.dtype)
        return torch.zeros_like(x)

    monkeypatch.setattr(branches, "_kernel", object())
    monkeypatch.setattr(choice, "ON", True)
    monkeypatch.setattr(branches, "forward", forward)
    made = block(64, 1, 2)
    made.double()(torch.randn(2, 3, 8, 64, dtype=torch.float64))
    made.float().eval()(torch.randn(2, 3, 8, 64))
    made.train()
    with torch.autocast("cpu", torch.bfloat16):
        made(torch.randn(2, 3, 8, 64))
    assert called == []
    made(torch.randn(2, 3, 8, 64))
    assert called == [torch.float32]
