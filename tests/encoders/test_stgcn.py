"""ST-GCN equals a plain writing of its equations under the public code's names; initialisation, parameter counts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stdcl.encoders.base import Encoder, Layout
from stdcl.encoders.graph import PLAN
from stdcl.encoders.published import import_published
from stdcl.encoders.stgcn.network import STGCN
from stdcl.errors import UserError
from stdcl.skeleton import NTU, configuration_partition
from stdcl.taps import block_tap
from tests.encoders.contract import EncoderContract, lively, sequences
from tests.encoders.golden import LAYOUTS
from tests.rounding import sampling_bound


class TestContract(EncoderContract):
    draws = True

    def build(self, layout: Layout) -> Encoder:
        return STGCN(layout, dropout=0.5)


class _PlainBlock(nn.Module):
    """A block in channels-first operations, named as in yysijie/st-gcn."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, first: bool) -> None:
        super().__init__()
        self.gcn = nn.ModuleDict({"conv": nn.Conv2d(channels_in, 3 * channels_out, 1)})
        time = nn.Conv2d(channels_out, channels_out, (9, 1), (stride, 1), (4, 0))
        norm = nn.BatchNorm2d
        self.tcn = nn.Sequential(norm(channels_out), nn.ReLU(), time, norm(channels_out))
        self.residual: nn.Module | None = None
        if not first:
            same = channels_in == channels_out and stride == 1
            project = nn.Conv2d(channels_in, channels_out, 1, (stride, 1))
            self.residual = nn.Identity() if same else nn.Sequential(project, norm(channels_out))

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        n, _, t, v = x.shape
        sent = self.gcn["conv"](x).view(n, 3, -1, t, v)
        y = self.tcn(torch.einsum("nkctv,kvw->nctw", sent, graph))
        return torch.relu(y if self.residual is None else y + self.residual(x))


class _Plain(nn.Module):
    A: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        v = layout.num_joints
        self.register_buffer("A", torch.from_numpy(_partition_by_neighbours()) if v == 25 else torch.zeros(0))
        self.data_bn = nn.BatchNorm1d(3 * v)
        self.st_gcn_networks = nn.ModuleList(_PlainBlock(*plan, first=i == 0) for i, plan in enumerate(PLAN))
        self.edge_importance = nn.ParameterList(nn.Parameter(torch.ones(3, v, v)) for _ in PLAN)
        self.fcn = nn.Conv2d(256, layout.num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, v, m = x.shape
        y = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(n * m, v * c, t))
        y = y.view(n * m, v, c, t).permute(0, 2, 3, 1)
        for block, importance in zip(self.st_gcn_networks, self.edge_importance, strict=True):
            y = block(y, self.A * importance)
        logits: Tensor = self.fcn(y.mean((2, 3)).view(n, m, -1, 1, 1).mean(1))
        return logits.flatten(1)


def _partition_by_neighbours() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return NTU's partition, joint by joint from the list of bones."""
    bones = [(child, parent) for child, parent in enumerate(NTU.parents) if child != parent]
    steps = [0] * 25
    for joint in range(25):
        at = joint
        while at != NTU.centre:
            at, steps[joint] = NTU.parents[at], steps[joint] + 1
    out = np.zeros((3, 25, 25), np.float32)
    for receiver in range(25):
        around = [c if p == receiver else p for c, p in bones if receiver in (c, p)]
        out[0, receiver, receiver] = 1 / (1 + len(around))
        for sender in around:
            out[1 if steps[sender] > steps[receiver] else 2, sender, receiver] = 1 / (1 + len(around))
    return out


def test_partition() -> None:
    expected = _partition_by_neighbours()
    assert np.array_equal(configuration_partition(NTU), expected)
    assert np.allclose(expected.sum(axis=(0, 1)), 1, rtol=0, atol=4 * 2.0**-24)


def test_equals_plain_operations_with_imported_weights() -> None:
    """Evaluation, and a training step's gradients, in float64."""
    layout = LAYOUTS["ntu60"]
    torch.manual_seed(0)
    plain = _Plain(layout)
    with torch.no_grad():
        for name, tensor in plain.state_dict().items():
            if tensor.is_floating_point() and name != "A":
                tensor.add_(0.1 * torch.randn(tensor.shape).abs())
    model = STGCN(layout, dropout=0.0)
    import_published(model, plain.state_dict())
    plain, model = plain.double(), model.double()
    x = sequences(layout, 4).double()
    with torch.no_grad():
        expected, got = plain.eval()(x), model.eval()(x).logits
    assert torch.allclose(got, expected, rtol=0, atol=1e-10 * float(expected.abs().max()))
    labels = torch.arange(4)
    expected, got = plain.train()(x), model.train()(x).logits
    assert torch.allclose(got, expected, rtol=0, atol=1e-9 * float(expected.detach().abs().max()))
    for logits in (expected, got):
        torch.autograd.backward(nn.functional.cross_entropy(logits, labels))
    for ours, theirs in (("b1.graph.weight", "st_gcn_networks.0.gcn.conv.weight"), ("b5.edge", "edge_importance.4")):
        one, other = model.get_parameter(ours).grad, plain.get_parameter(theirs).grad
        assert one is not None
        assert other is not None
        assert torch.allclose(one, other, rtol=0, atol=1e-7 * float(other.abs().max())), ours


def test_another_partition_is_refused() -> None:
    layout = LAYOUTS["ntu60"]
    state = _Plain(layout).state_dict()
    state["A"] = state["A"] * 0.5
    with pytest.raises(UserError, match="adjacency of another skeleton"):
        import_published(STGCN(layout, dropout=0.0), state)


@pytest.mark.parametrize(("dataset", "classes", "count"), [("ntu60", 60, 3_098_832), ("nwucla", 10, 3_079_202)])
def test_parameter_count(dataset: str, classes: int, count: int) -> None:
    """3.10 M for NTU60, as publications quote it."""
    model = STGCN(dataclasses.replace(LAYOUTS[dataset], num_classes=classes), dropout=0.5)
    assert sum(p.numel() for p in model.parameters()) == count


def test_initialisation() -> None:
    torch.manual_seed(0)
    model = STGCN(LAYOUTS["ntu60"], dropout=0.5)
    for name, p in ((name, parameter.detach()) for name, parameter in model.named_parameters()):
        if name.endswith("edge"):
            assert torch.equal(p, torch.ones_like(p)), name
        elif name.endswith("bias"):
            assert not p.any(), name
        elif p.dim() == 1:
            assert float((p - 1).abs().max()) < 0.02 * 7, name
        else:
            assert float(p.std()) == pytest.approx(0.02, rel=sampling_bound(p.numel())), name


def test_taps_are_the_blocks_outputs_and_dropout_follows_the_keys() -> None:
    layout = LAYOUTS["nwucla"]
    torch.manual_seed(0)
    model = lively(STGCN(layout, dropout=0.5)).train()
    model.request_taps((block_tap(1), block_tap(10)))
    x, keys = sequences(layout, 2), torch.tensor([3, 4])
    output = model(x, keys=keys)
    assert torch.equal(output.taps[block_tap(10)], output.feature_map)
    assert output.taps[block_tap(1)].shape[2] == 64
    share = float((model(x, keys=keys).feature_map == 0).float().mean())
    assert 0 < share < 1
    with pytest.raises(ValueError, match="keys"):
        model(x)
