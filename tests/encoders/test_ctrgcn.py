"""CTR-GCN equals the reference: golden numbers, initialisation, parameter counts."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from stdcl.encoders.base import Encoder, Layout
from stdcl.encoders.ctrgcn.network import CTRGCN
from stdcl.skeleton import spatial_partition
from tests.encoders import golden
from tests.encoders.contract import EncoderContract
from tests.rounding import sampling_bound


class TestContract(EncoderContract):
    def build(self, layout: Layout) -> Encoder:
        return CTRGCN(layout)


@pytest.mark.parametrize("dataset", ["nwucla", "ntu60"])
def test_golden(dataset: str) -> None:
    content = golden.load("ctrgcn", dataset)
    model = CTRGCN(golden.LAYOUTS[dataset])
    golden.fill(model, content)
    assert sum(p.numel() for p in model.parameters()) == content["n_trainable"]
    golden.compare(model, content, model.blocks, lambda y: y.permute(0, 3, 2, 1))


@pytest.mark.parametrize(("dataset", "classes", "count"), [("nwucla", 10, 1_426_892), ("ntu60", 120, 1_462_092)])
def test_parameter_count(dataset: str, classes: int, count: int) -> None:
    model = CTRGCN(dataclasses.replace(golden.LAYOUTS[dataset], num_classes=classes))
    assert sum(p.numel() for p in model.parameters()) == count


def test_initialisation() -> None:
    torch.manual_seed(0)
    layout = golden.LAYOUTS["ntu60"]
    model = CTRGCN(layout)
    adjacency = torch.from_numpy(spatial_partition(layout.skeleton))
    for name, p in ((name, parameter.detach()) for name, parameter in model.named_parameters()):
        if name.endswith("gcn.A"):
            assert torch.equal(p, adjacency), name
        elif name.endswith("alpha"):
            assert torch.equal(p, torch.zeros(1)), name
        elif name.endswith("gcn.bn.weight"):
            assert torch.equal(p, torch.full_like(p, 1e-6)), name
        elif ".tcn." in name and (".bn1.weight" in name or ".bn2.weight" in name):
            assert 0.004 < float((p - 1).std()) < 0.04, name
            assert abs(float(p.mean()) - 1) < 0.02, name
        elif name.endswith("bn.weight"):
            assert torch.equal(p, torch.ones_like(p)), name
        elif name.endswith("bias") and not name.startswith("fc"):
            assert not p.any(), name
        elif p.dim() == 4:
            fan_out = p.shape[0] * p.shape[2] * p.shape[3]
            assert float(p.std()) == pytest.approx((2 / fan_out) ** 0.5, rel=sampling_bound(p.numel())), name
    assert float(model.fc.weight.detach().std()) == pytest.approx(
        (2 / layout.num_classes) ** 0.5, rel=sampling_bound(model.fc.weight.numel())
    )
    assert float(model.fc.bias.detach().abs().max()) <= 1 / 16
