"""SkeletonGCL equals the public code: the graphs that enter its projection, and its loss over several steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stdcl.encoders.agcn.network import AGCN
from stdcl.encoders.base import Encoder
from stdcl.encoders.ctrgcn.network import CTRGCN
from stdcl.methods.skeletongcl.head import Projection
from stdcl.methods.skeletongcl.options import SkeletonGCLOptions
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.comm import LocalComm
from stdcl.taps import GRAPH
from tests.encoders import golden as encoder_golden
from tests.methods import golden

GOLDEN = golden.load("skeletongcl")
ENCODERS: dict[str, type[CTRGCN | AGCN]] = {"ctrgcn": CTRGCN, "agcn": AGCN}
# Channels of theta and phi in block 10 of 2s-AGCN.
WIDTH = 64


def tapped(case: str) -> tuple[Encoder, dict[str, Any]]:
    name, dataset = case.split("_")
    model = ENCODERS[name](encoder_golden.LAYOUTS[dataset])
    content = encoder_golden.load(name, dataset)
    encoder_golden.fill(model, content)
    model.request_taps((GRAPH,))
    return model, content


def in_their_units(case: str, graph: Tensor, frames: int) -> Tensor:
    """2s-AGCN's tap is the mean over channels and frames of what the public code sums."""
    return graph.flatten(1) * (WIDTH * (frames // 4) if case.startswith("agcn") else 1)


@pytest.mark.parametrize("case", GOLDEN["graphs"])
def test_graph(case: str) -> None:
    want = GOLDEN["graphs"][case]
    model, content = tapped(case)
    model.eval()
    with torch.no_grad():
        graph = model(encoder_golden.example(content)).taps[GRAPH]
    vectors = in_their_units(case, graph, model.layout.num_frames)
    assert list(vectors.shape) == want["graph_shape"]
    for vector, stat in zip(vectors, want["graph"], strict=True):
        golden.assert_stat(vector, stat, 1e-5 if case.startswith("ctrgcn") else 1e-4, case)


@pytest.mark.parametrize("case", GOLDEN["graphs"])
def test_gradient_of_the_graph(case: str) -> None:
    want = GOLDEN["graphs"][case]["train_mode"]
    model, content = tapped(case)
    model.train()
    graph = model(encoder_golden.example(content)).taps[GRAPH]
    vectors = in_their_units(case, graph, model.layout.num_frames)
    golden.assert_stat(vectors, want["graph"], 1e-3, case)
    value = (vectors * golden.arr("sgcl.cotangent", tuple(vectors.shape))).sum()
    value.backward()
    # A sum of signed terms: compared relative to what it is a sum of.
    assert value.item() == pytest.approx(want["value"], abs=1e-3 * want["graph"]["norm"])
    gradients = {name: p.grad for name, p in model.named_parameters()}
    largest = max(want["gradient_norms"].values())
    for name, norm in want["gradient_norms"].items():
        got = gradients[encoder_golden.our_name(name)]
        assert got is not None, name
        assert float(got.norm()) == pytest.approx(norm, rel=1e-2), name
    for name in want["no_gradient_or_rounding_noise"]:
        got = gradients[encoder_golden.our_name(name)]
        assert got is None or float(got.norm()) <= 1e-5 * largest, name


class Replayed(Contrast):
    """Contrast with given random negatives."""

    drawn: Tensor

    def _draw(self, slots: Tensor, negatives: Tensor, step: int) -> Tensor:
        return self.drawn


def bank(content: dict[str, Any], temperature: float, random: bool) -> Replayed:
    options = SkeletonGCLOptions(
        name="skeletongcl",
        projection="frozen",
        temperature=temperature,
        embedding_dim=content["out"],
        hard_positives=content["positives"],
        hard_negatives=content["negatives"],
        random_negatives=content["negatives"] if random else 0,
        exclude_own_slot=False,
    )
    labels = torch.arange(content["bank_slots"]) % content["classes"]
    return Replayed(options.bank(), labels, LocalComm(), branches=(GRAPH,))


def projection(content: dict[str, Any], name: str) -> Projection:
    module = Projection(content["in"], content["out"], content["classes"], "trained")
    shape = (content["out"], content["in"])
    module.project.load_state_dict(
        {"weight": golden.parameter(f"{name}.proj.w", shape), "bias": golden.parameter(f"{name}.proj.b", shape[:1])}
    )
    return module


def drawn(batch: int, width: int, want: dict[str, Any]) -> Tensor:
    """Slots of the random negatives, (1, batch, width); what an anchor that is not active drew does not matter."""
    slots = torch.full((1, batch, width), -1)
    for anchor, chosen in zip(want["active"], want["random_negative_slots"], strict=True):
        slots[0, anchor] = torch.tensor(chosen)
    return slots


def assert_gradients(x: Tensor, module: Projection, want: dict[str, Any]) -> None:
    for key, got in (("grad_input", x), ("grad_proj_w", module.project.weight), ("grad_proj_b", module.project.bias)):
        assert got.grad is not None
        golden.assert_stat(got.grad, want[key], what=key)


def test_loss_over_steps() -> None:
    content = GOLDEN["loss_small"]
    whole, hard = bank(content, content["tau"], random=True), bank(content, content["tau"], random=False)
    for step, want in enumerate(content["steps"]):
        module = projection(content, "small")
        x = golden.arr(f"small.f{step}", (8, content["in"])).requires_grad_()
        embedded = module(x)
        slots = torch.tensor(want["index"])
        whole.drawn = drawn(8, content["negatives"], want)
        hard.drawn = whole.drawn[..., :0]
        result = whole.step({GRAPH: embedded}, slots, step=step, batch_size=8)
        of_hard = hard.step({GRAPH: embedded.detach()}, slots, step=step, batch_size=8)
        assert torch.nonzero(result.active)[:, 0].tolist() == want["active"]
        positives, negatives = whole.slot_index.counts(slots, exclude_own=False)
        assert torch.stack([positives, negatives], 1).tolist() == want["flagged_positives_negatives"]
        loss = result.losses[GRAPH]
        assert loss.item() == pytest.approx(want["loss"], rel=1e-5)
        if want["active"]:
            assert of_hard.losses[GRAPH].item() == pytest.approx(want["loss_hard_rows"], rel=1e-5)
            loss.backward()
            assert_gradients(x, module, want)
        row = whole.shards[0].features[slots[0], : content["out"]]
        np.testing.assert_allclose(row, want["bank_row_of_first_anchor"], atol=1e-6)
        assert int(whole.slot_index.written.sum()) == want["bank_filled"]
    golden.assert_stat(whole.shards[0].features[:-1, : content["out"]], content["bank_after"], 1e-5)


@pytest.mark.parametrize("temperature", [0.8, 0.5, 1.0])
def test_loss_at_full_size(temperature: float) -> None:
    content = GOLDEN["loss_full_size"]
    want = content if temperature == content["tau"] else content[f"tau_{temperature}"]
    rows = golden.raw("full.bank", (content["bank_slots"], content["out"]))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    filled = torch.arange(1990)
    slots = torch.tensor(content["index"])
    for random in (True, False):
        contrast = bank(content, temperature, random)
        contrast.write({GRAPH: torch.from_numpy(rows).float()[filled]}, filled)
        width = content["negatives"] if random else 0
        contrast.drawn = drawn(8, content["negatives"], content)[..., :width]
        module = projection(content, "full")
        x = golden.arr("full.f", (8, content["in"])).requires_grad_()
        loss = contrast.step({GRAPH: module(x)}, slots, step=1, batch_size=8).losses[GRAPH]
        if not random:
            assert loss.item() == pytest.approx(want["loss_hard_rows"], rel=1e-5)
        elif temperature == content["tau"]:
            assert loss.item() == pytest.approx(want["loss"], rel=1e-5)
            loss.backward()
            assert_gradients(x, module, content)


@pytest.mark.parametrize("joints", [20, 25])
def test_projection_parameters(joints: int) -> None:
    trained, frozen = (Projection(3 * joints**2, 256, 10, kind) for kind in ("trained", "frozen"))
    count = GOLDEN["projection_parameters"][f"V={joints}"]
    assert sum(p.numel() for p in trained.parameters()) == sum(p.numel() for p in frozen.parameters()) == count
    assert all(p.requires_grad for p in trained.parameters())
    assert not any(p.requires_grad for p in frozen.parameters())
    assert float(frozen.project.weight.std()) == pytest.approx((2 / 10) ** 0.5, rel=0.02)
