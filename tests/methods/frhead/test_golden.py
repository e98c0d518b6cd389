"""FR-Head equals the public code: its loss over several steps, its heads, and a whole model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stdcl.encoders.ctrgcn.network import CTRGCN
from stdcl.methods.frhead.head import Depth, RefinementHeads
from stdcl.methods.frhead.loss import refine
from stdcl.methods.frhead.method import taps_of
from stdcl.methods.frhead.options import FRHeadOptions
from stdcl.methods.prototypes import Batch, Compared, members
from tests.encoders import golden as encoder_golden
from tests.methods import golden

GOLDEN = golden.load("frhead")
LEVELS = {"low": 1, "mid": 5, "high": 8, "final": 10}
FEATURES = ("spatial", "temporal")
# Names of the public code's parameters -> ours, within a depth.
PUBLIC = {
    f"{public}_{part}": f"{ours}.{layer}"
    for public, ours in (("spatio", "spatial"), ("tempor", "temporal"))
    for part, layer in (("squeeze.0", "squeeze"), ("squeeze.1", "bn"), ("cl_net.cl_fc", "fc"))
}


def loss_of(features: Tensor, logits: Tensor, labels: Tensor, prototypes: Tensor, options: FRHeadOptions) -> Compared:
    """The loss of features (B, Z, D) given the logits of the same forward pass."""
    confidence = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    parts = members(labels, logits.argmax(1), confidence, prototypes.shape[1], options.threshold)
    return refine(Batch(features, labels, confidence, parts), prototypes, options)


def options_of(variant: str) -> FRHeadOptions:
    version, threshold, weighting = (part.strip() for part in variant.split(";"))
    given: dict[str, Any] = {"threshold": float(threshold.split()[1]), "weighting": weighting.endswith("True")}
    kept = {"NO FN": "false-positives", "NO FP": "false-negatives", "NO FN & FP": "none"}
    given |= {"penalties": kept[version]} if version in kept else {"version": version.lower()}
    return FRHeadOptions(name="frhead", **given)


@pytest.mark.parametrize("variant", GOLDEN["one_head"]["variants"])
def test_loss(variant: str) -> None:
    content = GOLDEN["one_head"]
    n, classes, width, dim = (content[key] for key in ("N", "classes", "in", "embedding"))
    labels = torch.tensor(content["labels"])
    options = options_of(variant)
    weight, bias = golden.parameter("one.fc.w", (dim, width)), golden.parameter("one.fc.b", (dim,))
    prototypes = golden.parameter("one.proto", (classes, dim))[None]
    for step, want in enumerate(content["variants"][variant]):
        drawn = golden.raw(f"frhead.logits{step}", (n, classes)) * 1.5
        drawn[np.arange(n), content["labels"]] += 2.0
        if step == 1:
            drawn[:, 3] -= 20
        logits = torch.from_numpy(drawn).float()
        x = golden.arr(f"frhead.feature{step}", (n, width)).requires_grad_()
        w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        confidence = logits.softmax(1).gather(1, labels[:, None])[:, 0]
        parts = members(labels, logits.argmax(1), confidence, classes, options.threshold)
        for kind, counts in parts._asdict().items():
            assert counts.sum(0).tolist() == want[kind], kind
        before = prototypes
        features = functional.linear(x, w, b)[:, None]
        losses, prototypes = refine(Batch(features, labels, confidence, parts), before, options)
        loss = losses.sum()
        loss.backward()
        assert loss.item() == pytest.approx(want["loss"], rel=1e-5)
        assert x.grad is not None
        assert w.grad is not None
        assert b.grad is not None
        golden.assert_stat(x.grad, want["grad_feature"], what="feature")
        golden.assert_stat(w.grad, want["grad_fc_w"], what="weight")
        assert float(b.grad.norm()) == pytest.approx(want["grad_fc_b_norm"], rel=1e-4)
        golden.assert_stat(prototypes, want["prototypes_after"], 1e-5, "prototypes")
        unchanged = [k for k in range(classes) if torch.equal(prototypes[0, k], before[0, k])]
        assert unchanged == want["prototype_rows_unchanged"]
        assert not prototypes.requires_grad


def filled(depth: Depth, level: str) -> Depth:
    """Give a depth the golden weights and return it."""
    state = {}
    for name, own in depth.state_dict().items():
        *path, last = name.split(".")
        kinds = {"weight": "w", "bias": "b"}
        if path[-1] == "bn":
            kinds = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "var"}
        # A Linear of ours is a 1x1 convolution of theirs: the same numbers.
        state[name] = golden.parameter(f"frhead.{level}.{'.'.join(path)}.{kinds[last]}", tuple(own.shape))
    depth.load_state_dict(state)
    return depth


def prototypes_of(level: str, classes: int, dim: int = 256) -> Tensor:
    return torch.stack([golden.parameter(f"frhead.{level}.{kind}.proto", (classes, dim)) for kind in FEATURES])


@pytest.mark.parametrize("dataset", ["ntu60", "nwucla"])
@pytest.mark.parametrize("level", LEVELS)
def test_heads(dataset: str, level: str) -> None:
    content = GOLDEN["levels"][dataset]
    want = content["by_level"][level]
    classes = encoder_golden.LAYOUTS[dataset].num_classes
    channels, frames, joints, persons = want["C,T,V,M"]
    batch = content["B"]
    labels = torch.tensor(content["labels"])
    logits = torch.from_numpy(golden.raw(f"levels.{dataset}.logits", (batch, classes)) * 1.5).float()
    logits[torch.arange(4), labels[:4]] += 6
    logits[4, 1] += 8
    logits[5, 2] += 8
    depth = filled(Depth(channels, frames, joints, 256), level)
    assert sum(p.numel() for p in depth.parameters()) == want["parameter_count"]
    x = golden.arr(f"levels.{dataset}.map.{level}", (batch * persons, channels, frames, joints)).relu()
    x.requires_grad_()
    features = depth(x.view(batch, persons, channels, frames, joints))
    options = FRHeadOptions(name="frhead", version=content["version"].lower())
    losses, prototypes = loss_of(features, logits, labels, prototypes_of(level, classes), options)
    loss = losses.sum()
    loss.backward()
    assert loss.item() == pytest.approx(want["loss"], rel=1e-5)
    assert x.grad is not None
    golden.assert_stat(x.grad, want["grad_map"], what="map")
    parameters = dict(depth.named_parameters())
    largest = max(want["grad_norms"].values())
    for public, norm in want["grad_norms"].items():
        layer, _, kind = public.rpartition(".")
        got = parameters[f"{PUBLIC[layer]}.{kind}"].grad
        assert got is not None
        # A bias before batch normalisation has a gradient that is zero but for rounding.
        assert float(got.norm()) == pytest.approx(norm, rel=1e-4, abs=1e-5 * largest), public
    golden.assert_stat(depth.spatial.bn.running_mean, want["bn_running_mean_after_spatial"], 1e-5)
    golden.assert_stat(depth.temporal.bn.running_var, want["bn_running_var_after_temporal"], 1e-5)
    for kind, own in zip(FEATURES, prototypes, strict=True):
        golden.assert_stat(own, want[f"prototypes_after_{kind}"], 1e-5, kind)


@pytest.mark.parametrize("dataset", ["ntu60", "nwucla"])
def test_model(dataset: str) -> None:
    """The whole objective: CTR-GCN with the heads at four depths, one training step."""
    want = GOLDEN["model"][dataset]
    layout = encoder_golden.LAYOUTS[dataset]
    options = FRHeadOptions(name="frhead", version="v0")
    model = CTRGCN(layout)
    encoder_golden.fill(model, encoder_golden.load("ctrgcn", dataset))
    taps = taps_of(options)
    model.request_taps(taps)
    head = RefinementHeads(model.output_shapes().taps, options.embedding_dim)
    assert sum(p.numel() for p in head.parameters()) == GOLDEN["levels"][dataset]["parameter_total"]
    for level, tap in zip(LEVELS, taps, strict=True):
        depth = head[tap]
        assert isinstance(depth, Depth)
        filled(depth, level)
    model.train()
    shape = (want["B"], 3, layout.num_frames, layout.num_joints, layout.num_persons)
    labels = torch.tensor(want["labels"])
    output = model(golden.arr(f"frhead.model.{dataset}.x", shape))
    prototypes = torch.cat([prototypes_of(level, layout.num_classes) for level in LEVELS])
    losses, _ = loss_of(head(output.taps), output.logits.detach(), labels, prototypes, options)
    weighted = losses.view(-1, 2).sum(1) @ torch.tensor(options.depth_weights)
    entropy = functional.cross_entropy(output.logits, labels)
    total = entropy + options.weight * weighted
    total.backward()
    assert entropy.item() == pytest.approx(want["cross_entropy"], rel=1e-5)
    assert weighted.item() == pytest.approx(want["cl_loss_weighted_sum_of_levels"], rel=1e-5)
    assert total.item() == pytest.approx(want["total"], rel=1e-5)
    parameters = dict(model.named_parameters())
    largest = max(want["gradient_norms"].values())
    for name, norm in want["gradient_norms"].items():
        got = parameters[encoder_golden.our_name(name)].grad
        assert got is not None
        # Ten batch normalisations on four sequences amplify rounding.
        assert float(got.norm()) == pytest.approx(norm, rel=1e-2, abs=1e-5 * largest), name
