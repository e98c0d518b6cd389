"""A training step of CTR-GCN equals that of the same network written with PyTorch's own operations.

The golden numbers are those of inference. Training takes other paths (batch statistics, fused branches, gradients of
our own), which are compared here as a whole: the loss, every gradient and every running statistic, in float64.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from stdcl.encoders.ctrgcn.network import CTRGCN
from tests.encoders import golden
from tests.encoders.plain_ctrgcn import PlainCTRGCN

#: Rounding of float64 (2^-53) through some 60 normalised layers and back: a factor of ten thousand is left for it.
BOUND = 1e-12


@pytest.mark.parametrize("dataset", ["nwucla", "ntu60"])
def test_a_training_step_equals_that_of_pytorch_operations(dataset: str) -> None:
    torch.manual_seed(0)
    layout = golden.LAYOUTS[dataset]
    model = CTRGCN(layout).double().train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Away from the start, where the graphs are not refined and a gradient is mostly rounding.
            if name.endswith("alpha"):
                parameter.fill_(0.5)
            elif name.endswith("gcn.bn.weight"):
                parameter.fill_(1.0)
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    before = copy.deepcopy(buffers)
    x = torch.randn(4, 3, layout.num_frames, layout.num_joints, layout.num_persons, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 1])

    loss = functional.cross_entropy(model(x).logits, labels)
    loss.backward()
    expected = functional.cross_entropy(PlainCTRGCN({**parameters, **buffers}, training=True).logits(x), labels)
    expected.backward()

    assert loss.item() == pytest.approx(expected.item(), rel=BOUND)
    size = torch.cat([p.grad.flatten() for p in parameters.values() if p.grad is not None]).norm()
    for name, parameter in model.named_parameters():
        gradient, reference = parameter.grad, parameters[name].grad
        assert gradient is not None, name
        assert reference is not None, name
        assert float((gradient - reference).norm() / size) <= BOUND, name
    for name, buffer in model.named_buffers():
        assert not torch.equal(buffer, before[name]), name
        assert torch.allclose(buffer, buffers[name], rtol=BOUND, atol=BOUND), name
