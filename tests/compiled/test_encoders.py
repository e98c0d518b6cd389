"""Whole encoders: a training step with the kernels, and one without, against the same step in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from stdcl import compiled
from stdcl.compiled import attention, branches, graph_product
from stdcl.config.model import EncoderConfig
from stdcl.encoders.base import Encoder, Layout
from stdcl.encoders.build import build_encoder
from stdcl.skeleton import NTU, NW_UCLA

LAYOUTS = [
    Layout(num_joints=20, num_persons=1, num_frames=13, num_classes=10, skeleton=NW_UCLA),
    Layout(num_joints=25, num_persons=2, num_frames=16, num_classes=60, skeleton=NTU),
]
KERNELS = [
    (compiled, "_kernels"),
    (graph_product, "_graph_product"),
    (branches, "_branches"),
    (attention, "_attention"),
]


def gradient(model: Encoder, x: Tensor, labels: Tensor) -> Tensor:
    output = model(x, labels=labels)
    torch.nn.functional.cross_entropy(output.logits, labels).backward()
    return torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("layout", LAYOUTS, ids=["nw-ucla", "ntu"])
@pytest.mark.parametrize("section", [{"name": "ctrgcn"}, {"name": "hyperformer", "hyperedges": "default"}], ids=str)
def test_kernels_and_operations_agree_with_float64(
    monkeypatch: pytest.MonkeyPatch, section: dict[str, str], layout: Layout
) -> None:
    config: EncoderConfig = TypeAdapter(EncoderConfig).validate_python(section)
    torch.manual_seed(0)
    model = build_encoder(config, layout)
    with torch.no_grad():
        for parameter in model.parameters():  # so that what begins at zero takes part
            parameter.add_(0.02 * torch.randn_like(parameter))
    x = torch.randn(4, 3, layout.num_frames, layout.num_joints, layout.num_persons)
    labels = torch.arange(4)
    exact = gradient(copy.deepcopy(model).double(), x.double(), labels)
    fast = gradient(copy.deepcopy(model), x, labels)
    for module, kernel in KERNELS:
        monkeypatch.setattr(module, kernel, None)
    slow = gradient(copy.deepcopy(model), x, labels)
    # Rounding moves some features across ReLU's corner, with kernels and without.
    errors = [float((got - exact).norm() / exact.norm()) for got in (fast, slow)]
    assert max(errors) <= 2e-2
    assert errors[0] <= 5.0 * errors[1] + 1e-4, errors
    if graph_product.usable():
        assert not torch.equal(fast, slow)
