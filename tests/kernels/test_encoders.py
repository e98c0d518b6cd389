"""Whole encoders: a training step with the kernels, and one without, against the same step in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from stdcl.config.model import EncoderConfig
from stdcl.encoders.base import Encoder, Layout
from stdcl.encoders.build import build_encoder
from stdcl.kernels import batch_norm, choice
from stdcl.skeleton import NTU, NW_UCLA
from tests.rounding import assert_within, network_bound

LAYOUTS = [
    Layout(num_joints=20, num_persons=1, num_frames=13, num_classes=10, skeleton=NW_UCLA),
    Layout(num_joints=25, num_persons=2, num_frames=16, num_classes=60, skeleton=NTU),
]


def step(model: Encoder, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of all parameters in one."""
    output = model(x, labels=labels)
    torch.nn.functional.cross_entropy(output.logits, labels).backward()
    return output.logits.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


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
    exact = step(copy.deepcopy(model).double(), x.double(), labels)
    monkeypatch.setattr(choice, "ON", True)
    fast = step(copy.deepcopy(model), x, labels)
    monkeypatch.setattr(choice, "ON", False)
    slow = step(copy.deepcopy(model), x, labels)
    bound = network_bound(model, rows=x[:, 0].numel())
    for logits, gradient in (fast, slow):
        assert_within(logits, exact[0], bound * exact[0].abs().max())
        # If features are off by a share r of their size, about a share r of them is on the other side of ReLU's corner,
        # and a share r of the gradient's parts is altogether wrong: sqrt(r) of its norm.
        assert float((gradient - exact[1]).norm() / exact[1].norm()) <= bound**0.5
    if batch_norm.built():
        assert not torch.equal(fast[1], slow[1]), "the switch changes nothing"
