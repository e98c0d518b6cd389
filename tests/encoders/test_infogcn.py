"""InfoGCN equals the reference: golden numbers, initialisation, noise, the bottleneck's losses."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from stdcl.config.load import resolve
from stdcl.encoders.base import Encoder, EncoderOutput, Layout
from stdcl.encoders.infogcn import network as infogcn
from stdcl.encoders.infogcn.network import InfoGCN, SelfAttentionGraph, bottleneck_losses
from stdcl.errors import UserError
from stdcl.parallel.comm import LocalComm
from tests.encoders import golden
from tests.encoders.contract import EncoderContract, sequences
from tests.rounding import assert_within, gamma, network_bound, sampling_bound


class _Softened(EncoderContract):
    """The published N(0, 1) start of q and k saturates the softmax: no step is small enough to measure a slope."""

    def build(self, layout: Layout) -> Encoder:
        model = InfoGCN(layout)
        with torch.no_grad():
            for block in model.blocks:
                block.gcn.qk.weight.mul_(0.05)
            model.logvar.weight.mul_(0.05)
        return model


class TestContract(EncoderContract):
    draws = True

    def build(self, layout: Layout) -> Encoder:
        return InfoGCN(layout)

    def test_gradient_is_the_slope(self, layout: Layout) -> None:
        _Softened().test_gradient_is_the_slope(layout)


def relative(x: Tensor, layout: Layout, transposed: bool) -> Tensor:
    """Relative positions of mode 1, as the golden files were made (on NW-UCLA with the transposed hop matrix)."""
    hop = np.zeros((layout.num_joints, layout.num_joints), dtype=np.float32)
    for child, parent in enumerate(layout.skeleton.mode_parents):
        if child != parent:
            hop[child, parent] = 1
    mode = np.eye(layout.num_joints, dtype=np.float32) - (hop.T if transposed else hop)
    return torch.einsum("uv,nctvm->nctum", torch.from_numpy(mode), x)


@pytest.mark.parametrize("dataset", ["nwucla", "ntu60"])
def test_golden(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = golden.load("infogcn", dataset)
    layout = golden.LAYOUTS[dataset]
    model = InfoGCN(layout)
    assert sum(p.numel() for p in model.parameters()) == content["n_trainable"]
    # The reference keeps its priors outside the model; the classifier does not read them.
    content["params"].append({"name": "priors", "shape": list(model.priors.shape)})
    golden.fill(model, content)
    example = relative(golden.example(content), layout, transposed=dataset == "nwucla")
    monkeypatch.setattr(golden, "example", lambda _content: example)
    golden.compare(model, content, list(model.blocks), lambda y: y.permute(0, 3, 1, 2))


def test_parameter_count_ntu120() -> None:
    layout = dataclasses.replace(golden.LAYOUTS["ntu60"], num_classes=120)
    assert sum(p.numel() for p in InfoGCN(layout).parameters()) == 1_572_227


@pytest.mark.parametrize("chunk", [2, 3, 128])
def test_graph_equals_the_formula(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and all gradients of the spatial part, whatever the chunk of frames."""
    monkeypatch.setattr(infogcn, "FRAMES_AT_ONCE", chunk)
    torch.manual_seed(0)
    layer = SelfAttentionGraph(16, 24, 7, 3).double().eval()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn_like(p))
    x = torch.randn(1, 5, 7, 16, dtype=torch.float64, requires_grad=True)

    def plain() -> Tensor:
        q, k = layer.qk(layer.ln(x)).view(1, 5, 7, 2, 3, 2).unbind(3)
        attention = torch.softmax(torch.einsum("btuhd,btwhd->bthuw", q, k) / math.sqrt(2), dim=-1) * layer.topo
        mixed = torch.einsum("bthuw,btwc->bthuc", attention, x)
        y = torch.zeros(1, 5, 7, 24, dtype=torch.float64)
        for head in range(3):
            conv = layer.get_submodule(f"h{head}")
            y = y + mixed[:, :, head] @ conv.get_parameter("weight")[:, :, 0, 0].t() + conv.get_parameter("bias")
        assert layer.down is not None
        return torch.relu(layer.bn(y) + layer.down(x))

    got, want = layer(x), plain()
    assert (got - want).abs().max() <= 1e-12 * want.abs().max()
    inputs = [x, *layer.parameters()]
    weights = torch.randn_like(want)
    for a, b in zip(
        torch.autograd.grad((got * weights).sum(), inputs),
        torch.autograd.grad((want * weights).sum(), inputs),
        strict=True,
    ):
        assert (a - b).abs().max() <= 1e-9 * b.abs().max().clamp(min=1e-6)


def test_initialisation() -> None:
    torch.manual_seed(0)
    model = InfoGCN(golden.LAYOUTS["nwucla"])
    for name, parameter in model.named_parameters():
        p = parameter.detach()
        if name.endswith(".topo"):
            assert torch.equal(p, torch.eye(20).expand(3, 20, 20)), name
        elif name.endswith("qk.weight") or name == "pos":
            assert float(p.std()) == pytest.approx(1.0, rel=sampling_bound(p.numel())), name
        elif ".gcn.h" in name and name.endswith("weight"):
            assert float(p.std()) == pytest.approx(
                math.sqrt(2 / (p.shape[0] * p.shape[1] * 3)), rel=sampling_bound(p.numel())
            ), name
        elif name.endswith("gcn.bn.weight"):
            assert torch.equal(p, torch.full_like(p, 1e-6)), name
        elif ".tcn." in name and "bn" in name and name.endswith("weight"):
            assert torch.equal(p, torch.ones_like(p)), name
    for layer in (model.fc, model.mu, model.logvar):
        expected = math.sqrt(2) * math.sqrt(2 / 512)
        assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=sampling_bound(layer.weight.numel()))
    assert float(model.dec.weight.detach().std()) == pytest.approx(
        math.sqrt(2 / 10), rel=sampling_bound(model.dec.weight.numel())
    )
    gram = model.priors @ model.priors.t()
    assert torch.allclose(gram, 9 * torch.eye(10), atol=1e-4)
    assert "priors" in model.state_dict()


def test_noise_belongs_to_the_sequence() -> None:
    layout = golden.LAYOUTS["nwucla"]
    torch.manual_seed(0)
    model = InfoGCN(layout)
    x = sequences(layout, 1).expand(600, -1, -1, -1, -1)[:, :, :4]
    keys = torch.arange(600)
    # Equal sequences, unequal keys: z scatters about mu as sigma says.
    model.train()
    for module in model.modules():
        if isinstance(module, infogcn.BatchNorm):
            module.eval()
    with torch.no_grad():
        model.logvar.bias.fill_(-0.5)
        model.logvar.weight.zero_()
        z = model(x, keys=keys).pooled
        again = model(x[:5], keys=keys[:5]).pooled
    assert_within(z[:5], again, 2 * network_bound(model) * z.abs().max())
    assert float((z - z.mean(0)).std()) == pytest.approx(math.exp(-0.25), rel=sampling_bound(z.numel()))
    with pytest.raises(ValueError, match="keys"):
        model(x[:2])


def test_a_large_variance_is_limited_and_leaves_gradients_finite() -> None:
    layout = golden.LAYOUTS["nwucla"]
    torch.manual_seed(0)
    model = InfoGCN(layout)
    with torch.no_grad():
        model.logvar.bias.fill_(400.0)  # exp of half of it overflows
    output = model(sequences(layout, 4)[:, :, :4], keys=torch.arange(4))
    assert 50.0 < float(output.pooled.detach().std()) < 150.0
    output.logits.square().mean().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


def test_losses_against_a_loop() -> None:
    torch.manual_seed(0)
    latent = torch.randn(9, 256, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 3, 3, 1, 0, 0, 3, 5, 5])
    priors = torch.randn(10, 256, dtype=torch.float64)
    got = bottleneck_losses(latent, labels, priors, class_weight=0.1, mean_weight=1e-4, comm=LocalComm())
    present = sorted(set(labels.tolist()))
    means = torch.stack([latent[labels == k].mean(0) for k in present])
    want = 0.1 * torch.nn.functional.mse_loss(means, priors[present])
    assert torch.allclose(got["class_mmd"], want)
    assert torch.allclose(got["mean_mmd"], 1e-4 * latent.mean(0).norm())


class _Halves:
    """Stands in for two ranks whose sums are known."""

    rank, size = 0, 2

    def __init__(self, other: Tensor) -> None:
        self.other = other

    def all_reduce(self, x: Tensor, op: str = "sum") -> Tensor:
        return x + self.other

    def all_gather(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        raise NotImplementedError

    def barrier(self) -> None:
        raise NotImplementedError


def test_losses_do_not_depend_on_the_ranks() -> None:
    """Each rank's gradient, weighted by its share of the batch, sums to the gradient of the whole batch."""
    torch.manual_seed(0)
    priors = torch.randn(4, 256, dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 3, 0, 3, 3])
    latent = torch.randn(7, 256, dtype=torch.float64, requires_grad=True)
    whole = bottleneck_losses(latent, labels, priors, class_weight=0.1, mean_weight=0.01, comm=LocalComm())
    (want,) = torch.autograd.grad(sum(whole.values(), torch.zeros(())), latent)
    parts = (slice(0, 3), slice(3, 7))
    for mine, theirs in (parts, parts[::-1]):
        member = torch.nn.functional.one_hot(labels[theirs], 4).double()
        other = torch.cat([member.t() @ latent[theirs].detach(), member.sum(0)[:, None]], dim=1)
        here = latent[mine].detach().requires_grad_()
        terms = bottleneck_losses(here, labels[mine], priors, class_weight=0.1, mean_weight=0.01, comm=_Halves(other))
        for name, term in terms.items():
            assert torch.allclose(term, whole[name]), name
        share = len(here) / len(labels)
        (got,) = torch.autograd.grad(sum(terms.values(), torch.zeros(())) * share, here)
        assert torch.allclose(got, want[mine])


def test_own_losses_have_their_weights() -> None:
    layout = golden.LAYOUTS["nwucla"]
    model = InfoGCN(layout, weight_class_mmd=0.0, weight_mean_mmd=2.0)
    latent = torch.randn(4, 256)
    output = EncoderOutput(torch.zeros(4, 10), torch.zeros(1), latent)
    losses = model.own_losses(output, torch.tensor([0, 1, 2, 3]))
    assert float(losses["class_mmd"]) == 0.0
    assert float(losses["mean_mmd"]) == pytest.approx(2 * float(latent.mean(0).norm()), rel=gamma(256 + 16))


def test_too_many_classes() -> None:
    with pytest.raises(UserError, match="at most 256"):
        InfoGCN(dataclasses.replace(golden.LAYOUTS["nwucla"], num_classes=257))


def test_more_heads_than_any_use_are_refused_before_one_is_built() -> None:
    raw = {"recipe": "lite", "data": {"dataset": "nw-ucla"}, "encoder": {"name": "infogcn", "heads": 1_000_000}}
    with pytest.raises(UserError, match=r"'encoder\.heads' is 1000000"):
        resolve(raw, "a file")
