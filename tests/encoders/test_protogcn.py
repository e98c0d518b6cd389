"""ProtoGCN equals a plain writing of its equations, channels first; initialisation, parameter counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stdcl.encoders.base import Encoder, Layout
from stdcl.encoders.protogcn.network import NUM_SUBSETS, MotionTopology, ProtoGCN, SixBranches
from stdcl.taps import GRAPH
from tests.encoders.contract import EncoderContract, lively, sequences
from tests.encoders.golden import LAYOUTS
from tests.rounding import sampling_bound


class TestContract(EncoderContract):
    def build(self, layout: Layout) -> Encoder:
        return ProtoGCN(layout)


def _conv(layer: nn.Module, x: Tensor, stride: int = 1, padding: int = 0, dilation: int = 1) -> Tensor:
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    return torch.conv2d(x, weight, bias, (stride, 1), (padding, 0), (dilation, 1))


def _norm(layer: nn.Module, x: Tensor) -> Tensor:
    """In evaluation."""
    state = layer.state_dict()
    return nn.functional.batch_norm(x, state["running_mean"], state["running_var"], state["weight"], state["bias"])


def _shake(module: nn.Module) -> None:
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.add_(0.1 * torch.rand_like(tensor))


@pytest.mark.parametrize(("channels_in", "channels_out"), [(3, 96), (96, 96)])
def test_motion_topology(channels_in: int, channels_out: int) -> None:
    torch.manual_seed(0)
    joints, width = 5, channels_out // NUM_SUBSETS
    gcn = MotionTopology(channels_in, channels_out, joints).double().eval()
    _shake(gcn)
    x = torch.randn(2, channels_in, 7, joints, dtype=torch.float64)  # (B, C, T, V)
    pre = torch.relu(_norm(gcn.pre_bn, _conv(gcn.pre, x)))
    q, k = _conv(gcn.q, x).mean(2), _conv(gcn.k, x).mean(2)
    received = torch.zeros_like(pre)
    motion = torch.zeros(2, channels_out, joints, joints, dtype=torch.float64)
    for n in range(2):
        for s in range(NUM_SUBSETS):
            group = slice(s * width, (s + 1) * width)
            intra = torch.softmax(torch.einsum("cv,cw->vw", q[n, group], k[n, group]), dim=0)
            for c in range(s * width, (s + 1) * width):
                inter = torch.tanh(q[n, c][:, None] - k[n, c][None, :])
                motion[n, c] = gcn.alpha * inter + gcn.beta * intra
                received[n, c] = pre[n, c] @ (motion[n, c] + gcn.A[s])
    shortcut = x if gcn.down is None else _norm(gcn.down.get_submodule("bn"), _conv(gcn.down.get_submodule("conv"), x))
    expected = torch.relu(_norm(gcn.bn, _conv(gcn.post, received)) + shortcut)
    taps: dict[str, Tensor] = {}
    got = gcn(x.permute(0, 3, 2, 1), taps).permute(0, 3, 2, 1)
    assert torch.allclose(taps[GRAPH], motion, rtol=0, atol=1e-12)
    assert torch.allclose(got, expected, rtol=0, atol=1e-11 * float(expected.detach().abs().max()))


@pytest.mark.parametrize("stride", [1, 2])
def test_six_branches(stride: int) -> None:
    torch.manual_seed(0)
    tcn = SixBranches(96, stride, 5).double().eval()
    _shake(tcn)
    x = torch.randn(2, 96, 9, 5, dtype=torch.float64)
    wide = torch.cat((x, x.mean(3, keepdim=True)), dim=3)
    parts = []
    for index, layer in enumerate(tcn.pw):
        if index == 5:
            parts.append(_conv(layer, wide, stride))
            continue
        hidden = torch.relu(_norm(tcn.bn[index], _conv(layer, wide)))
        if index == 4:
            parts.append(torch.max_pool2d(hidden, (3, 1), (stride, 1), (1, 0)))
        else:
            conv = tcn.conv[index]
            parts.append(_conv(conv, hidden, stride, index + 1, index + 1))
    y = torch.cat(parts, dim=1)
    y = y[..., :5] + y[..., 5:] * tcn.joint_weight
    expected = _norm(tcn.out_bn, _conv(tcn.mix, torch.relu(_norm(tcn.mix_bn, y))))
    got = tcn(x.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)
    assert torch.allclose(got, expected, rtol=0, atol=1e-11 * float(expected.detach().abs().max()))


def _count(joints: int, classes: int) -> int:
    """Parameters, layer by layer."""
    total = 2 * 3 * joints + 384 * classes + classes
    widths = [(3, 96), *[(96, 96)] * 3, (96, 192), *[(192, 192)] * 2, (192, 384), *[(384, 384)] * 2]
    for c, d in widths:
        total += 8 * joints * joints + 2 + 3 * (c * d + d) + 2 * d + d * d + d + 2 * d  # graph, q, k, pre, post
        total += (c * d + 3 * d) if c != d else 0  # shortcut of the graph
        w = d // 6
        total += 6 * (d * w + w) + 5 * 2 * w + 4 * (3 * w * w + w) + joints + 2 * d + d * d + d + 2 * d
        total += (c * d + 3 * d) if c != 3 and c != d else 0  # residual of the block
    return total


@pytest.mark.parametrize("dataset", sorted(LAYOUTS))
def test_parameter_count(dataset: str) -> None:
    layout = LAYOUTS[dataset]
    count = sum(p.numel() for p in ProtoGCN(layout).parameters())
    assert count == _count(layout.num_joints, layout.num_classes)


def test_initialisation() -> None:
    torch.manual_seed(0)
    model = ProtoGCN(LAYOUTS["ntu60"])
    for block in model.blocks:
        graph = block.gcn.get_parameter("A").detach()
        assert float(graph.std()) == pytest.approx(0.02, rel=sampling_bound(graph.numel()))
        assert abs(float(graph.mean()) - 0.04) < 5 * 0.02 / graph.numel() ** 0.5
        assert not block.gcn.get_parameter("alpha").detach().any()
        weight = block.gcn.get_parameter("q.weight").detach()
        assert float(weight.abs().max()) <= weight[0].numel() ** -0.5
    assert float(model.fc.weight.detach().std()) == pytest.approx(0.01, rel=sampling_bound(model.fc.weight.numel()))


def test_the_graph_is_the_mean_over_persons() -> None:
    layout = LAYOUTS["ntu60"]
    torch.manual_seed(0)
    model = lively(ProtoGCN(layout)).eval()
    model.request_taps((GRAPH,))
    x = sequences(layout, 1)
    with torch.no_grad():
        both = model(x).taps[GRAPH]
        swapped = model(x.flip(-1)).taps[GRAPH]
    assert both.shape == (1, 384, layout.num_joints, layout.num_joints)
    assert torch.allclose(both, swapped, rtol=0, atol=1e-4 * float(both.abs().max()))
