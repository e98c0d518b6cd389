"""GAP equals the public code: one pairing, its joint sets, and whole models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stdcl.encoders.ctrgcn.network import CTRGCN
from stdcl.methods.gap.head import PartHeads
from stdcl.methods.gap.loss import matching
from stdcl.methods.gap.parts import JOINT_SETS, PARTS, RELEASED_BONE_SETS, part_joints
from tests.encoders import golden as encoder_golden
from tests.methods import golden

GOLDEN = golden.load("gap")
# The public code's part heads by number.
STORED = {"head": 0, "hand": 1, "foot": 2, "hip": 3}
PAIRINGS = ("body", *PARTS)


@pytest.mark.parametrize("case", ["pair_small", "pair_distinct", "pair_one_class"])
def test_pairing(case: str) -> None:
    want = GOLDEN[case]
    shape = (want["B"], want["D"])
    skeleton, text = (golden.arr(f"gap.{case}.{side}", shape).requires_grad_() for side in ("skeleton", "text"))
    scale = torch.tensor(want["scale"]).requires_grad_()
    u, v = (functional.normalize(x, dim=1)[:, None] for x in (skeleton, text))
    labels = torch.tensor(want["labels"])
    loss = matching(scale * u, v, labels)[0]
    loss.backward()
    assert loss.item() == pytest.approx(want["loss"], rel=1e-5)
    assert skeleton.grad is not None
    assert text.grad is not None
    assert scale.grad is not None
    golden.assert_stat(skeleton.grad, want["grad_skeleton"], what="skeleton")
    golden.assert_stat(text.grad, want["grad_text"], what="text")
    assert scale.grad.item() == pytest.approx(want["grad_scale"], rel=1e-4)
    with torch.no_grad():
        exponentiated = matching(scale.exp() * u, v, labels)[0]
    assert exponentiated.item() == pytest.approx(want["loss_if_scale_were_exponentiated"], rel=1e-5)


@pytest.mark.parametrize(
    ("case", "found"),
    [
        ("ntu joint class", JOINT_SETS["ntu"]),
        ("ntu bone class", RELEASED_BONE_SETS["ntu"]),
        ("nwucla joint class", JOINT_SETS["nw-ucla"]),
        ("nwucla bone class", RELEASED_BONE_SETS["nw-ucla"]),
    ],
)
def test_joint_sets(case: str, found: dict[str, tuple[int, ...]]) -> None:
    want = GOLDEN["part_joints_1_based"][case]
    assert {name: [joint + 1 for joint in joints] for name, joints in found.items()} == want


def positions(dataset: str, power: int) -> Tensor:
    """I - P^k, by which the public model multiplies the joints of its input."""
    want = GOLDEN["position_matrices"][dataset.removesuffix("60")]
    v = encoder_golden.LAYOUTS[dataset].num_joints
    p = np.zeros((v, v))
    for row, column in want["nonzeros_of_P (row, column), 1-based"]:
        p[row - 1, column - 1] = 1
    matrix = np.eye(v) - np.linalg.matrix_power(p, power)
    assert matrix.sum() == want[f"k={power}"]["sum"]
    assert np.count_nonzero(matrix) == want[f"k={power}"]["nonzeros"]
    return torch.from_numpy(matrix).float()


def filled_head(model: CTRGCN, want: dict[str, Any]) -> PartHeads:
    layout = model.layout
    joints = part_joints(layout.skeleton, released_bones="bone" in want["class"])
    head = PartHeads(256, 256, layout.num_joints, joints, 512)
    assert sum(p.numel() for p in head.parameters()) == want["parameter_count_added"]
    state = {"scale": golden.parameter("gap.scale", (1, 5))[0]}
    places = {"body": "global"} | {f"parts.{name}": f"part{STORED[name]}" for name in PARTS}
    for ours, theirs in places.items():
        for kind, ending in (("weight", "w"), ("bias", "b")):
            shape = tuple(head.state_dict()[f"{ours}.{kind}"].shape)
            state[f"{ours}.{kind}"] = golden.parameter(f"gap.{theirs}.{ending}", shape)
    head.load_state_dict(state)
    return head


@pytest.mark.parametrize("case", GOLDEN["models"])
def test_model(case: str) -> None:
    want = GOLDEN["models"][case]
    dataset = case.split("_")[0]
    layout = encoder_golden.LAYOUTS[dataset]
    model = CTRGCN(layout)
    content = encoder_golden.load("ctrgcn", dataset)
    encoder_golden.fill(model, content)
    head = filled_head(model, want)
    matrix = positions(dataset, want["k"])

    def relative(x: Tensor) -> Tensor:
        return torch.einsum("vu,nctum->nctvm", matrix, x)

    model.eval()
    with torch.no_grad():
        output = model(relative(encoder_golden.example(content)))
        features = head.features(output.feature_map, output.pooled)
    golden.assert_stat(output.logits, want["eval"]["logits"], 1e-5, "logits")
    golden.assert_stat(features[:, 0], want["eval"]["global"], 1e-5, "global")
    for index, stat in enumerate(want["eval"]["parts_in_order_head_hand_hip_foot"], start=1):
        golden.assert_stat(features[:, index], stat, 1e-5, PAIRINGS[index])

    trained = want["train"]
    shape = (trained["B"], 3, layout.num_frames, layout.num_joints, layout.num_persons)
    labels = torch.tensor(trained["labels"])
    model.train()
    output = model(relative(golden.arr(f"gap.{dataset}.x", shape)))
    classes = layout.num_classes
    texts = torch.stack([golden.arr(f"gap.text{i}", (classes, 512))[labels] for i in range(5)], dim=1)
    losses = matching(head(output.feature_map, output.pooled), functional.normalize(texts, dim=2), labels)
    entropy = functional.cross_entropy(output.logits, labels)
    total = entropy + want["loss_alpha"] * losses.mean()
    total.backward()
    assert entropy.item() == pytest.approx(trained["cross_entropy"], rel=1e-5)
    assert losses.tolist() == pytest.approx(trained["pair_losses_global_head_hand_hip_foot"], rel=1e-5)
    assert total.item() == pytest.approx(trained["total"], rel=1e-5)
    own = {"gap.scale": head.scale, "gap.global.w": head.body.weight, "gap.global.b": head.body.bias}
    for name, number in STORED.items():
        layer = head.parts[name]
        assert isinstance(layer, torch.nn.Linear)
        own |= {f"gap.part{number}.w": layer.weight, f"gap.part{number}.b": layer.bias}
    gradients = {name: p.grad for name, p in own.items()}
    gradients |= {name: p.grad for name, p in model.named_parameters()}
    norms = dict(trained["gradient_norms"])
    scales = torch.tensor(norms.pop("gap.scale (5 entries)"))
    assert gradients["gap.scale"] is not None
    assert float((gradients["gap.scale"] - scales).norm()) <= 1e-2 * float(scales.norm())
    largest = max(norms.values())
    for name, norm in norms.items():
        got = gradients[name if name in gradients else encoder_golden.our_name(name)]
        assert got is not None, name
        assert float(got.norm()) == pytest.approx(norm, rel=1e-2, abs=1e-5 * largest), name
