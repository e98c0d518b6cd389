"""2s-AGCN equals the reference: golden numbers, initialisation, parameter counts."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from stdcl.encoders.agcn.network import AGCN
from stdcl.encoders.base import Encoder, Layout
from stdcl.skeleton import spatial_partition
from tests.encoders import golden
from tests.encoders.contract import EncoderContract
from tests.rounding import sampling_bound


class TestContract(EncoderContract):
    def build(self, layout: Layout) -> Encoder:
        return AGCN(layout)


@pytest.mark.parametrize("dataset", ["nwucla", "ntu60"])
def test_golden(dataset: str) -> None:
    content = golden.load("agcn", dataset)
    model = AGCN(golden.LAYOUTS[dataset])
    golden.fill(model, content)
    assert sum(p.numel() for p in model.parameters()) == content["n_trainable"]
    golden.compare(model, content, model.blocks, lambda y: y.permute(0, 3, 2, 1))


@pytest.mark.parametrize(("dataset", "classes", "count"), [("nwucla", 10, 3_449_730), ("ntu60", 120, 3_484_930)])
def test_parameter_count(dataset: str, classes: int, count: int) -> None:
    model = AGCN(dataclasses.replace(golden.LAYOUTS[dataset], num_classes=classes))
    assert sum(p.numel() for p in model.parameters()) == count


def test_initialisation() -> None:
    torch.manual_seed(0)
    layout = golden.LAYOUTS["ntu60"]
    model = AGCN(layout)
    adjacency = torch.from_numpy(spatial_partition(layout.skeleton))
    for block in model.blocks:
        assert torch.equal(block.gcn.A, adjacency)
    assert not any(name.endswith(".A") for name in model.state_dict())
    for name, p in ((name, parameter.detach()) for name, parameter in model.named_parameters()):
        if name.endswith(("gcn.B", "gcn.bn.weight")):
            assert torch.equal(p, torch.full_like(p, 1e-6)), name
        elif name.endswith("bn.weight"):
            assert torch.equal(p, torch.ones_like(p)), name
        elif name.endswith("bias") and not name.startswith("fc"):
            assert not p.any(), name
        elif p.dim() == 4:
            product = p.shape[0] * p.shape[1] * 3 if ".out." in name else p.shape[0] * p.shape[2]
            assert float(p.std()) == pytest.approx((2 / product) ** 0.5, rel=sampling_bound(p.numel())), name
    assert float(model.fc.weight.detach().std()) == pytest.approx(
        (2 / layout.num_classes) ** 0.5, rel=sampling_bound(model.fc.weight.numel())
    )
