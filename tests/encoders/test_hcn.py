"""HCN equals the reference: golden numbers, initialisation, hooks, window lengths, dropout."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from stdcl.encoders.base import Encoder, FeatureAxes, Layout
from stdcl.encoders.hcn.network import HCN, Hook, frame_differences
from stdcl.errors import UserError
from tests.encoders import golden
from tests.encoders.contract import EncoderContract, sequences
from tests.rounding import assert_within, network_bound, sampling_bound


def our_name(name: str) -> str:
    layer, last = golden.our_name(name).split(".")
    if layer.endswith("m"):
        return f"motion.{layer[:-1]}.{last}"
    return f"position.{layer}.{last}" if layer in ("conv1", "conv2", "conv3", "conv4") else f"{layer}.{last}"


class TestContract(EncoderContract):
    fixed_length = True
    draws = True

    def build(self, layout: Layout) -> Encoder:
        return HCN(layout)


@pytest.mark.parametrize("dataset", ["nwucla", "ntu60"])
def test_golden(dataset: str) -> None:
    content = golden.load("hcn", dataset)
    model = HCN(golden.LAYOUTS[dataset])
    golden.fill(model, content, rename=our_name)
    assert sum(p.numel() for p in model.parameters()) == content["n_trainable"]
    model.double().eval()
    with torch.no_grad():
        output = model(golden.example(content).double())
    want = content["block_outputs"][0]
    got = output.feature_map.squeeze(1)
    assert list(got.shape) == want["shape"]
    assert got.double().mean().item() == pytest.approx(want["mean"], abs=1e-4 * want["absmax"])
    assert got.double().std(unbiased=False).item() == pytest.approx(want["std"], abs=1e-4 * want["absmax"])
    assert got.abs().max().item() == pytest.approx(want["absmax"], rel=1e-4)
    assert got.flatten()[:4].tolist() == pytest.approx(want["first4"], abs=1e-4 * want["absmax"])
    assert got.flatten()[-4:].tolist() == pytest.approx(want["last4"], abs=1e-4 * want["absmax"])
    logits = torch.tensor(content["logits"])
    assert (output.logits - logits).abs().max() <= 1e-4 * logits.abs().max()


@pytest.mark.parametrize(
    ("dataset", "frames", "classes", "hidden", "count"),
    [
        ("nwucla", 52, 10, 512, 1_697_202),
        ("nwucla", 64, 10, 512, 2_619_338),
        ("nwucla", 32, 10, 512, 1_034_122),
        ("ntu60", 64, 60, 512, 2_647_868),
        ("ntu60", 64, 120, 512, 2_678_648),
        ("ntu60", 32, 60, 512, 1_062_652),
        ("ntu60", 32, 60, 256, 784_892),
    ],
)
def test_parameter_count(dataset: str, frames: int, classes: int, hidden: int, count: int) -> None:
    layout = dataclasses.replace(golden.LAYOUTS[dataset], num_frames=frames, num_classes=classes)
    assert sum(p.numel() for p in HCN(layout, hidden=hidden).parameters()) == count


@pytest.mark.parametrize("frames", [32, 52, 64])
@pytest.mark.parametrize("persons", [1, 2])
@pytest.mark.parametrize("hook", ["final", "mid", "point"])
def test_hooks(hook: Hook, persons: int, frames: int) -> None:
    layout = dataclasses.replace(golden.LAYOUTS["ntu60"], num_persons=persons, num_frames=frames)
    model = HCN(layout, hook=hook).eval()
    shapes = {
        "final": (1, 256, frames // 16, frames // 16),
        "mid": (1, 128, frames // 4, frames // 4),
        "point": (1, 2 * frames, frames, 25),
    }
    assert model.feature_shape() == shapes[hook]
    assert model.axes == FeatureAxes(frames=True, joints=hook == "point")
    with torch.no_grad():
        x = sequences(layout, 2)
        assert torch.equal(model(x).logits, model(x).logits)


def test_one_person_equals_two_copies() -> None:
    one = dataclasses.replace(golden.LAYOUTS["ntu60"], num_persons=1)
    first = HCN(one).eval()
    second = HCN(golden.LAYOUTS["ntu60"]).eval()
    second.load_state_dict(first.state_dict())
    x = sequences(one, 2)
    with torch.no_grad():
        got, want = second(x.expand(-1, -1, -1, -1, 2)).logits, first(x).logits
    assert_within(got, want, 2 * network_bound(second) * want.abs().max())


@pytest.mark.parametrize("frames", [2, 3, 16, 52, 64])
def test_frame_differences_are_a_resize(frames: int) -> None:
    x = torch.randn(2, frames, 4, 3, dtype=torch.float64)
    steps = (x[:, 1:] - x[:, :-1]).permute(0, 3, 1, 2)
    want = F.interpolate(steps, size=(frames, 4), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    assert torch.allclose(frame_differences(x), want, atol=1e-12)


def test_pooling_before_activation_and_dropout_changes_nothing() -> None:
    """The published order: convolution, activation, channel dropout, pooling."""
    x, keep = torch.randn(2, 8, 6, 6), (torch.rand(2, 8, 1, 1) > 0.5) * 2.0
    assert torch.equal(F.max_pool2d(F.relu(x) * keep, 2), F.relu(F.max_pool2d(x, 2)) * keep)
    assert torch.equal(F.max_pool2d(x * keep, 2), F.max_pool2d(x, 2) * keep)


def test_dropout_belongs_to_the_sequence() -> None:
    layout = golden.LAYOUTS["ntu60"]
    model = HCN(layout).train()
    x, keys = sequences(layout, 3), torch.tensor([5, 6, 7])
    with torch.no_grad():
        together = model(x, keys=keys)
        alone = model(x[1:2], keys=keys[1:2])
    assert_within(together.logits[1], alone.logits[0], 2 * network_bound(model) * together.logits.abs().max())
    dropped = (together.pooled.view(3, 256, -1).abs().sum(2) == 0).float().mean().item()
    assert 0.1 < dropped < 0.5  # both persons' channel dropped, or never active: about a quarter


def test_no_dropout_needs_no_keys() -> None:
    layout = golden.LAYOUTS["nwucla"]
    assert HCN(layout, dropout=0.0).train()(sequences(layout, 2)).logits.isfinite().all()
    with pytest.raises(ValueError, match="keys"):
        HCN(layout).train()(sequences(layout, 2))


def test_short_windows_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.frames is 15"):
        HCN(dataclasses.replace(golden.LAYOUTS["nwucla"], num_frames=15))


def test_initialisation() -> None:
    torch.manual_seed(0)
    for name, parameter in HCN(golden.LAYOUTS["ntu60"]).named_parameters():
        p = parameter.detach()
        if name.endswith("bias"):
            assert not p.any(), name
            continue
        kernel = math.prod(p.shape[2:])
        bound = math.sqrt(6 / ((p.shape[0] + p.shape[1]) * kernel))
        assert float(p.abs().max()) <= bound, name
        assert float(p.std()) == pytest.approx(bound / math.sqrt(3), rel=sampling_bound(p.numel())), name
