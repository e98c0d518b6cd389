"""Batch normalisation over ranks equals that of the whole batch, in values, gradients and running statistics."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from stdcl.encoders.base import Encoder, Layout
from stdcl.encoders.ctrgcn.network import CTRGCN
from stdcl.parallel.batch_norm import BatchNorm, normalise, use_synchronised
from stdcl.parallel.comm import ProcessGroupComm
from stdcl.skeleton import NW_UCLA
from tests.encoders.contract import lively, sequences
from tests.rounding import assert_within, gamma

LAYOUT = Layout(num_joints=20, num_persons=1, num_frames=16, num_classes=10, skeleton=NW_UCLA)


def whole(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, relu: bool) -> tuple[Tensor, nn.Module]:
    """PyTorch's own batch normalisation of (..., C)."""
    reference = nn.BatchNorm1d(x.shape[-1]).to(x.dtype)
    with torch.no_grad():
        reference.weight.copy_(weight)
        reference.bias.copy_(bias)
    y = reference(x.reshape(-1, x.shape[-1])).view_as(x)
    y = y if residual is None else y + residual
    return (torch.relu(y) if relu else y), reference


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_equals_pytorch(relu: bool, with_residual: bool, offset: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, 7, dtype=torch.float64) + offset
    residual = torch.randn_like(x) if with_residual else None
    weight, bias, upstream = torch.randn(7).double(), torch.randn(7).double(), torch.randn_like(x)
    ours = BatchNorm(7).double()
    with torch.no_grad():
        ours.weight.copy_(weight)
        ours.bias.copy_(bias)
    first = x.clone().requires_grad_()
    second = x.clone().requires_grad_()
    y = ours(first, residual, relu)
    want, reference = whole(second, weight, bias, residual, relu)
    (y * upstream).sum().backward()
    (want * upstream).sum().backward()
    limit = 1e-12 * max(1.0, offset)
    assert (y - want).abs().max() < limit
    assert first.grad is not None
    assert second.grad is not None
    assert (first.grad - second.grad).abs().max() < limit
    assert ours.weight.grad is not None
    assert ours.bias.grad is not None
    assert (ours.weight.grad - reference.weight.grad).abs().max() < 10 * limit
    assert (ours.bias.grad - reference.bias.grad).abs().max() < 10 * limit
    assert torch.allclose(ours.running_mean, reference.running_mean, rtol=1e-12)
    assert torch.allclose(ours.running_var, reference.running_var, rtol=1e-10)
    ours.eval()
    reference.eval()
    want = reference(x.reshape(-1, 7)).view_as(x)
    want = want if residual is None else want + residual
    assert (ours(x, residual, relu) - (torch.relu(want) if relu else want)).abs().max() < limit


def test_gradcheck() -> None:
    torch.manual_seed(0)
    norm = BatchNorm(3).double()
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    residual = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: norm(a, b, False), (x, residual))
    assert torch.autograd.gradcheck(lambda a, b: norm(a, b, True), (x, residual))


def test_residual_gradient() -> None:
    x, residual = torch.randn(5, 3), torch.randn(5, 3, requires_grad=True)
    y = BatchNorm(3)(x, residual, True)
    y.sum().backward()
    assert residual.grad is not None
    assert torch.equal(residual.grad, (y > 0).float())


@pytest.mark.parametrize("training", [True, False])
def test_side_by_side_equals_one_by_one(training: bool) -> None:
    torch.manual_seed(0)
    joined, single = [BatchNorm(2), BatchNorm(5)], [BatchNorm(2), BatchNorm(5)]
    for a, b in zip(joined, single, strict=True):
        nn.init.normal_(a.weight)
        b.load_state_dict(a.state_dict())
        a.train(training)
        b.train(training)
    x = torch.randn(6, 3, 7)
    y = normalise(joined, x)
    want = torch.cat((single[0](x[..., :2]), single[1](x[..., 2:])), dim=-1)
    # Features are normalised: a sum over the rows, then some roundings.
    allowed = gamma(2 * x[..., 0].numel() + 16)
    assert_within(y.detach(), want.detach(), allowed * float(want.detach().abs().max()))
    for a, b in zip(joined, single, strict=True):
        assert_within(a.running_var, b.running_var, allowed)
        assert_within(a.running_mean, b.running_mean, allowed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_has_float32_statistics(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = BatchNorm(4)
    x = (torch.randn(500, 4) + 30).to(dtype)
    y = norm(x)
    assert y.dtype == dtype
    assert norm.running_mean.dtype == torch.float32
    assert torch.allclose(norm.running_mean, 0.1 * x.float().mean(0), rtol=2 * gamma(500 + 16))
    assert y.float().std(0, unbiased=False).sub(1).abs().max() < 0.02


def test_single_row() -> None:
    norm = BatchNorm(4)
    y = norm(torch.randn(1, 4))
    assert y.abs().max() < 1e-3
    assert norm.running_var.isfinite().all()


def _run(rank: int, size: int, port: int, parts: list[int], folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    try:
        torch.save(_share(rank, parts), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def _share(rank: int, parts: list[int]) -> dict[str, Tensor]:
    """What a rank computes from its part of the batch: its outputs, gradients and running statistics."""
    model = _model()
    assert use_synchronised(model, ProcessGroupComm()) > 30
    x = sequences(LAYOUT, sum(parts)).double().split(parts)[rank].requires_grad_()
    return _gradients(model, x, torch.arange(sum(parts)).split(parts)[rank], sum(parts))


def _model() -> Encoder:
    torch.manual_seed(0)
    return lively(CTRGCN(LAYOUT)).double().train()


def _gradients(model: Encoder, x: Tensor, labels: Tensor, batch: int) -> dict[str, Tensor]:
    """Run the loss ``sum over sequences / batch``, and return everything that must not depend on the ranks."""
    output = model(x)
    loss = torch.nn.functional.cross_entropy(output.logits, labels % 10, reduction="sum") / batch
    (loss + output.feature_map.square().sum() / batch).backward()
    assert x.grad is not None
    result = {"logits": output.logits.detach(), "input": x.grad}
    result |= {f"gradient {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return result | {name: b.clone() for name, b in model.named_buffers()}


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.parametrize("parts", [[3, 2], [1, 0, 4]])
def test_ranks_equal_the_whole_batch(parts: list[int], tmp_path: Path) -> None:
    """A CTR-GCN in float64 on real gloo ranks with uneven, even empty, parts of the batch."""
    size = len(parts)
    mp.spawn(_run, args=(size, _free_port(), parts, str(tmp_path)), nprocs=size)  # type: ignore[no-untyped-call]
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(size)]
    batch = sum(parts)
    want = _gradients(_model(), sequences(LAYOUT, batch).double().requires_grad_(), torch.arange(batch), batch)
    scale = max(float(v.abs().max()) for name, v in want.items() if name.startswith("gradient"))
    for name, value in want.items():
        if name in ("logits", "input"):
            got = torch.cat([share[name] for share in shares])
        elif name.startswith("gradient"):
            got = torch.stack([share[name] for share in shares]).sum(0)
        else:
            assert all(torch.equal(share[name], shares[0][name]) for share in shares), name
            got = shares[0][name]
        # Gradients that are zero in exact arithmetic (biases before a batch normalisation) are set against the largest.
        limit = 1e-10 * max(float(value.abs().max()), 1e-3 * scale if name.startswith("gradient") else 0.0)
        assert (got - value).abs().max() <= limit, name


def test_local_statistics_differ() -> None:
    """Without synchronisation, the parts of a batch give another result: the test above can fail."""
    x = sequences(LAYOUT, 4).double()
    model = _model()
    split = torch.cat([model(part).logits for part in x.split([3, 1])])
    assert (split - _model()(x).logits).abs().max() > 1e-3
