"""ProtoGCN's contrast equals its formulas, written sequence by sequence, over several steps; float64."""

from __future__ import annotations

import torch
from torch import Tensor

from stdcl import specs
from stdcl.methods.base import FeatureShapes, Step, Task
from stdcl.methods.protogcn import ProtoGCNOptions
from stdcl.methods.protogcn.head import Reconstruction
from stdcl.methods.protogcn.method import TERM, PrototypeContrast
from stdcl.parallel.comm import LocalComm
from stdcl.skeleton import NTU
from stdcl.taps import GRAPH

CLASSES, BATCH, DIM = 4, 6, 8


def _method(options: ProtoGCNOptions) -> PrototypeContrast:
    labels = torch.arange(BATCH) % CLASSES
    task = Task(labels, BATCH, tuple("abcd"), NTU, seed=3, batch_size=BATCH, identity="x")
    shapes = FeatureShapes((1, 8, 4, 25), 8, {GRAPH: (3, 25, 25)})
    method = PrototypeContrast(options, task, shapes)
    method.start(LocalComm(), torch.device("cpu"), torch.float64)
    return method


def _expected(
    features: Tensor, logits: Tensor, labels: Tensor, prototypes: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The loss, and the class prototypes after it, class by class."""
    after = []
    for k in range(CLASSES):
        right = [f for f, own, z in zip(features, labels, logits, strict=True) if int(own) == k == int(z.argmax())]
        after.append(0.9 * prototypes[k] + 0.1 * sum(right[1:], right[0]) / len(right) if right else prototypes[k])
    losses = []
    for feature, label in zip(features, labels, strict=True):
        scores = [feature @ p / (feature.norm() * p.norm()) / 0.125 for p in after]
        losses.append(torch.logsumexp(torch.stack(scores), 0) - scores[int(label)])
    return torch.stack(losses).mean(), [p.detach() for p in after]


def test_loss_gradient_and_prototypes() -> None:
    torch.manual_seed(0)
    method = _method(ProtoGCNOptions(name="protogcn", embedding_dim=DIM, prototypes=5))
    prototypes = list(method.prototypes[0].clone())
    labels = torch.arange(BATCH) % CLASSES
    for number in range(3):
        logits = torch.randn(BATCH, CLASSES, dtype=torch.float64)
        logits[torch.arange(4), labels[:4]] += 5  # of classes 0 to 3 one right; 0 and 1 have another, right or not
        ours = torch.randn(BATCH, 1, DIM, dtype=torch.float64, requires_grad=True)
        plain = ours.detach()[:, 0].clone().requires_grad_()
        step = Step(logits, labels, torch.arange(BATCH), number, 0, BATCH)
        loss = method.step({"features": ours}, step)[TERM]
        expected, prototypes = _expected(plain, logits, labels, prototypes)
        for each in (loss, expected):
            torch.autograd.backward(each)
        assert ours.grad is not None
        assert plain.grad is not None
        assert torch.allclose(loss, expected, rtol=1e-12, atol=0)
        assert torch.allclose(ours.grad[:, 0], plain.grad, rtol=0, atol=1e-12 * float(plain.grad.abs().max()))
        assert torch.allclose(method.prototypes[0], torch.stack(prototypes), rtol=1e-12, atol=1e-14)
    before = method.prototypes
    method.step({"features": ours.detach()}, step)
    assert not torch.equal(method.prototypes, before)
    method.rollback()
    assert torch.equal(method.prototypes, before)


def test_reconstruction() -> None:
    """Pair by pair of joints, in evaluation with statistics that change nothing."""
    torch.manual_seed(1)
    head = Reconstruction(3, 4, prototypes=5, dim=6).double().eval()
    graph = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    scale = 1 / (1 + head.bn.eps) ** 0.5
    for got, one in zip(head(graph), graph, strict=True):
        means = []
        for v in range(4):
            for w in range(4):
                share = torch.softmax(head.query.weight @ one[:, v, w], 0)
                rebuilt = head.post.weight @ (head.memory.weight @ share) + head.post.bias
                means.append(torch.relu(rebuilt * scale).mean())
        assert torch.allclose(got, head.fc.weight @ torch.stack(means) + head.fc.bias, rtol=0, atol=1e-12)


def test_weight_starts_at_its_epoch() -> None:
    method = _method(ProtoGCNOptions(name="protogcn", embedding_dim=DIM, start_epoch=2, weight=0.2))
    assert [method.weights(epoch)[TERM] for epoch in (1, 2)] == [0.0, 0.2]
    assert specs.method("protogcn").taps(None) == (GRAPH,)
