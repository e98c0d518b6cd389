"""1x1 convolutions: the same by either library, and the same choice on all ranks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stdcl.encoders import pointwise as module
from stdcl.encoders.pointwise import choose_together, favours_convolutions, pointwise
from stdcl.parallel.comm import Comm, LocalComm
from tests.distributed.ranks import run_on_ranks
from tests.rounding import assert_within, gamma

AMD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f avx512dq"


@pytest.fixture(params=[True, False], ids=["convolution", "product"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(module, "_by_convolution", request.param)
    return bool(request.param)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("channels_in", "channels_out"), [(64, 128), (3, 64), (216, 72), (32, 16)])
def test_results_and_gradients(library: bool, channels_in: int, channels_out: int, bias: bool) -> None:
    torch.manual_seed(0)
    leaves = [torch.randn(2, 5, 7, channels_in), torch.randn(channels_out, channels_in)]
    leaves += [torch.randn(channels_out)] if bias else []
    grad = torch.randn(2, 7, 5, channels_out).transpose(1, 2)  # as another operation may leave it

    def run(dtype: torch.dtype, take_abs: bool = False) -> tuple[Tensor, ...]:
        x, weight, *rest = [(y.abs() if take_abs else y).to(dtype).requires_grad_() for y in leaves]
        y = pointwise(x, weight, rest[0] if rest else None)
        outer = (grad.abs() if take_abs else grad).to(dtype)
        return (y.detach(), *torch.autograd.grad(y, [x, weight, *rest], outer))

    sizes = (channels_in + 1, channels_out, 70, 70)  # terms of each sum
    exact, sums = run(torch.float64), run(torch.float64, take_abs=True)
    for found, true, total, terms in zip(run(torch.float32), exact, sums, sizes, strict=False):
        assert_within(found, true, gamma(terms) * total)


def test_the_choice_shows_in_the_graph(library: bool) -> None:
    x, weight = torch.randn(1, 2, 3, 64), torch.randn(64, 64, requires_grad=True)
    assert (type(pointwise(x, weight, None).grad_fn).__name__ == "_ConvolutionBackward") == library
    for other in (x.double(), x[:0]):
        assert "_Convolution" not in type(pointwise(other, weight.to(other.dtype), None).grad_fn).__name__
    with torch.autocast("cpu", torch.bfloat16):
        assert pointwise(x, weight, None).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("cpuinfo", "has_mkl", "has_onednn", "favoured"),
    [
        (AMD, True, True, True),
        (AMD, False, True, False),
        (AMD, True, False, False),
        (AMD.replace("avx512f", ""), True, True, False),
        (AMD.replace("AuthenticAMD", "GenuineIntel"), True, True, False),
        ("", True, True, False),
    ],
)
def test_the_rule(cpuinfo: str, has_mkl: bool, has_onednn: bool, favoured: bool) -> None:
    assert favours_convolutions(cpuinfo, has_mkl, has_onednn) == favoured


def _choice_on_a_rank(comm: Comm, mixed: bool) -> bool:
    module._favours_here = lambda: comm.rank == 0 or not mixed  # type: ignore[assignment]
    return choose_together(comm, torch.device("cpu"))


@pytest.mark.parametrize("mixed", [True, False])
def test_ranks_on_unlike_processors_choose_alike(mixed: bool) -> None:
    assert run_on_ranks(_choice_on_a_rank, 2, mixed) == [not mixed] * 2


def test_one_rank_follows_its_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_by_convolution", None)
    assert choose_together(LocalComm(), torch.device("cpu")) == module._favours_here()
