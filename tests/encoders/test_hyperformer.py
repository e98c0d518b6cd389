"""Hyperformer equals the reference: golden numbers, initialisation, parameter counts; its attention against a loop."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from stdcl.encoders.base import Encoder, Layout
from stdcl.encoders.hyperformer.network import HEAD_WIDTH, HEADS, Attention, Hyperformer, Topology
from stdcl.errors import UserError
from stdcl.kernels.attention import reference
from stdcl.skeleton import NTU, NW_UCLA, hop_distance
from tests.encoders import golden
from tests.encoders.contract import EncoderContract, sequences
from tests.rounding import sampling_bound


class TestContract(EncoderContract):
    def build(self, layout: Layout) -> Encoder:
        return Hyperformer(layout)


@pytest.mark.parametrize("dataset", ["nwucla", "ntu60"])
def test_golden(dataset: str) -> None:
    content = golden.load("hyperformer", dataset)
    model = Hyperformer(golden.LAYOUTS[dataset])
    golden.fill(model, content, alpha=4.0)
    assert sum(p.numel() for p in model.parameters()) == content["n_trainable"]
    golden.compare(model, content, list(model.blocks), lambda y: y.permute(0, 3, 1, 2))


def test_parameter_count_ntu120() -> None:
    layout = dataclasses.replace(golden.LAYOUTS["ntu60"], num_classes=120)
    assert sum(p.numel() for p in Hyperformer(layout).parameters()) == 2_742_214


def plain_attention(layer: Attention, x: Tensor, groups: Tensor, hops: Tensor) -> Tensor:
    """The published formula, written as it reads; x (B, T, V, C)."""
    b, t, v, _ = x.shape
    z = layer.ln(x)
    q = z @ layer.q.weight[:, :, 0, 0].t()
    k, value = (z @ layer.kv.weight[:, :, 0, 0].t()).chunk(2, dim=-1)
    means = torch.stack([x[:, :, groups == g].mean(2) for g in range(int(groups.max()) + 1)], dim=2)
    e = (means @ layer.e.weight[:, :, 0, 0].t())[:, :, groups]
    split = (b, t, v, HEADS, HEAD_WIDTH)
    q, k, value, e = (y.view(split) for y in (q, k, value, e))
    r = layer.rpe.view(-1, HEADS, HEAD_WIDTH)[hops]  # (V, V, 9, 24)
    scores = (
        torch.einsum("btuhd,btwhd->bthuw", q, k)
        + torch.einsum("btuhd,uwhd->bthuw", q, r)
        + torch.einsum("btuhd,btwhd->bthuw", q, e)
        + torch.einsum("hd,btwhd->bthw", layer.w1, e)[:, :, :, None]
    )
    attention = torch.softmax(scores / math.sqrt(HEAD_WIDTH), dim=-1)
    mixed = torch.einsum("bthuw,btwhd->btuhd", layer.alpha * attention + layer.outer, value).reshape(b, t, v, -1)
    return layer.proj(mixed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@pytest.mark.parametrize("chunk", [2, 3, 128])
@pytest.mark.parametrize("channels", [3, 216])
def test_attention_equals_the_formula(channels: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and all gradients, whatever the chunk of frames."""
    monkeypatch.setattr(reference, "FRAMES_AT_ONCE", chunk)
    torch.manual_seed(0)
    layout = golden.LAYOUTS["nwucla"]
    model = Hyperformer(layout).double()
    hops = torch.from_numpy(hop_distance(NW_UCLA.graph_parents))
    layer = Attention(channels, 20, int(hops.max()) + 1).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn_like(p))
    x = torch.randn(1, 5, 20, channels, dtype=torch.float64, requires_grad=True)
    inputs = [x, *layer.parameters()]
    topology = Topology(model.groups, model.group_mean.double(), model.distances)
    got = layer(x, topology)
    want = plain_attention(layer, x, model.groups, hops)
    assert (got - want).abs().max() <= 1e-12 * want.abs().max()
    weights = torch.randn_like(want)
    for a, b in zip(
        torch.autograd.grad((got * weights).sum(), inputs),
        torch.autograd.grad((want * weights).sum(), inputs),
        strict=True,
    ):
        assert (a - b).abs().max() <= 1e-9 * b.abs().max().clamp(min=1e-6)


def test_initialisation() -> None:
    torch.manual_seed(0)
    model = Hyperformer(golden.LAYOUTS["nwucla"])
    for name, parameter in model.named_parameters():
        p = parameter.detach()
        if name.endswith((".rpe", ".w1", ".alpha")):
            assert not p.any(), name
        elif name.endswith(".outer"):
            assert torch.equal(p, torch.eye(20).expand(9, 20, 20)), name
        elif name.endswith((".q.weight", ".kv.weight", ".e.weight", ".proj.weight", ".skip.weight")):
            bound = 1 / math.sqrt(p.shape[1])  # PyTorch's default
            assert float(p.abs().max()) <= bound, name
            assert float(p.std()) == pytest.approx(bound / math.sqrt(3), rel=sampling_bound(p.numel())), name
        elif name.endswith("res.conv.weight"):
            assert float(p.std()) == pytest.approx(math.sqrt(2 / 216), rel=sampling_bound(p.numel())), name
    assert float(model.fc.weight.detach().std()) == pytest.approx(
        math.sqrt(2 / 10), rel=sampling_bound(model.fc.weight.numel())
    )
    # At the start the attention's softmax has no say: alpha is zero.
    x = sequences(model.layout, 1)
    model.eval()
    with torch.no_grad():
        before = model(x).logits
        for block in model.blocks:
            block.att.q.weight.normal_()
        assert torch.equal(model(x).logits, before)


def test_topology() -> None:
    ntu, ucla = Hyperformer(golden.LAYOUTS["ntu60"]), Hyperformer(golden.LAYOUTS["nwucla"])
    assert (ntu.get_parameter("b1.att.rpe").shape[0], ucla.get_parameter("b1.att.rpe").shape[0]) == (12, 11)
    bone = Hyperformer(golden.LAYOUTS["nwucla"], hyperedges="bone")
    assert not torch.equal(ucla.groups, bone.groups)
    assert torch.allclose(ntu.group_mean.sum(1), torch.ones(5))
    assert set(ntu.state_dict()) == set(ucla.state_dict())  # the constants are not saved


def test_unknown_hyperedges() -> None:
    with pytest.raises(UserError, match=r"bon'.*did you mean 'bone'"):
        Hyperformer(golden.LAYOUTS["nwucla"], hyperedges="bon")
    with pytest.raises(UserError, match="skeleton 'ntu'"):
        Hyperformer(golden.LAYOUTS["ntu60"], hyperedges="bone")
    assert "bone" not in NTU.hyperedges
