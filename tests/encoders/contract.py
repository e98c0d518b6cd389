"""What every encoder must do. Inherit `EncoderContract` in a test class and implement ``build``."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from stdcl.encoders.base import Encoder, EncoderOutput, Layout
from stdcl.errors import UserError
from stdcl.taps import GRAPH
from tests.encoders.golden import LAYOUTS
from tests.rounding import UNIT, assert_within, network_bound


def sequences(layout: Layout, count: int, seed: int = 0, frames: int | None = None) -> Tensor:
    """Return random sequences (count, 3, T, V, M), smooth in time like real ones."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, frames or layout.num_frames, layout.num_joints, layout.num_persons)
    steps = torch.randn(shape, generator=generator).cumsum(dim=2)
    return steps / steps.std()


def lively(model: Encoder) -> Encoder:
    """Move every parameter and statistic off its initial value, so that no path is silent (alpha = 0, gamma = 1e-6)."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
                if name.endswith("running_var"):
                    tensor.add_(0.1 * noise.abs())
                elif tensor.dim() <= 1 and "bn" in name and name.endswith("weight"):
                    tensor.copy_(1 + 0.1 * noise)
                else:
                    tensor.add_(0.05 * noise)
    return model


def differentiable(output: EncoderOutput, labels: Tensor, model: Encoder) -> Tensor:
    """Return a scalar that depends on everything an encoder is trained by."""
    loss = torch.nn.functional.cross_entropy(output.logits.float(), labels)
    for value in model.own_losses(output, labels).values():
        loss = loss + value
    return loss


class EncoderContract:
    """The promises of `stdcl.encoders.base.Encoder`, each a test.

    A subclass implements ``build`` and says what is special about its encoder:
        fixed_length: the clip length is part of the architecture.
        draws: random numbers are used in training.
    """

    fixed_length = False
    draws = False

    def build(self, layout: Layout) -> Encoder:
        """Return a new encoder."""
        raise NotImplementedError

    @pytest.fixture(params=sorted(LAYOUTS))
    def layout(self, request: pytest.FixtureRequest) -> Layout:
        return LAYOUTS[request.param]

    @pytest.fixture
    def model(self, layout: Layout) -> Encoder:
        torch.manual_seed(0)
        return lively(self.build(layout))

    @staticmethod
    def keys(count: int) -> Tensor:
        return torch.arange(count) * 7919 + 13

    @staticmethod
    def labels(layout: Layout, count: int) -> Tensor:
        return torch.arange(count) % layout.num_classes

    def test_shapes(self, model: Encoder, layout: Layout) -> None:
        model.eval()
        output = model(sequences(layout, 3))
        assert isinstance(output, EncoderOutput)
        assert output.logits.shape == (3, layout.num_classes)
        assert output.pooled.shape[0] == 3
        assert output.pooled.dim() == 2
        assert tuple(output.feature_map.shape) == (3, *model.feature_shape())
        if model.axes.joints:
            assert output.feature_map.shape[4] == layout.num_joints

    def test_feature_shape_changes_nothing(self, model: Encoder) -> None:
        before = copy.deepcopy(model.state_dict())
        model.train()
        model.feature_shape()
        assert all(module.training for module in model.modules())
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]), name

    def test_every_parameter_gets_a_gradient(self, model: Encoder, layout: Layout) -> None:
        model.train()
        labels = self.labels(layout, 4)
        output = model(sequences(layout, 4), keys=self.keys(4), labels=labels)
        differentiable(output, labels, model).backward()
        missing = [name for name, p in model.named_parameters() if p.grad is None]
        assert not missing
        bad = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        assert not bad

    def test_feature_map_carries_gradient(self, model: Encoder, layout: Layout) -> None:
        model.train()
        output = model(sequences(layout, 2), keys=self.keys(2), labels=self.labels(layout, 2))
        output.feature_map.square().mean().backward()
        assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())

    def test_gradient_is_the_slope(self, layout: Layout) -> None:
        """A step along a random direction of all parameters changes the loss as the gradient says (float64)."""
        torch.manual_seed(0)
        model = lively(self.build(layout)).double().train()
        x, labels, keys = sequences(layout, 2).double(), self.labels(layout, 2), self.keys(2)

        def loss() -> Tensor:
            output = model(x, keys=keys, labels=labels)
            total = torch.nn.functional.cross_entropy(output.logits, labels) + output.feature_map.square().mean()
            for value in model.own_losses(output, labels).values():
                total = total + value
            return total

        loss().backward()
        parameters = list(model.parameters())
        direction = [torch.randn_like(p) * (p.detach().abs().mean() + 1e-3) for p in parameters]
        slope = sum(float((p.grad * d).sum()) for p, d in zip(parameters, direction, strict=True) if p.grad is not None)

        def moved(by: float) -> float:
            with torch.no_grad():
                for p, d in zip(parameters, direction, strict=True):
                    p.add_(d, alpha=by)
                value = float(loss())
                for p, d in zip(parameters, direction, strict=True):
                    p.sub_(d, alpha=by)
            return value

        # Rounding of the loss asks for a large step, the corners of ReLU and of maxima on the way for a small one;
        # which of a few steps meets no corner depends on the last bits. A wrong gradient fits none.
        rounding = network_bound(model, torch.float64) * abs(float(loss().detach()))
        found = {step: (moved(step) - moved(-step)) / (2 * step) for step in (1e-7, 1e-8, 1e-9)}
        assert any(abs(measured - slope) <= rounding / step for step, measured in found.items()), (slope, found)

    def test_taps(self, layout: Layout) -> None:
        """Nothing without a request; then exactly what was asked for, with gradient, and the rest unchanged."""
        torch.manual_seed(0)
        model = lively(self.build(layout)).eval()
        x = sequences(layout, 2)
        plain = model(x)
        assert plain.taps == {}
        model.request_taps(model.offered_taps)
        output = model(x)
        assert torch.equal(output.logits, plain.logits)
        assert set(output.taps) == set(model.offered_taps)
        assert model.output_shapes().taps == {name: tuple(tap.shape[1:]) for name, tap in output.taps.items()}
        for name, tap in output.taps.items():
            assert len(tap) == 2, name
            if name == GRAPH:
                assert tap.shape[2:] == (layout.num_joints, layout.num_joints)
            else:
                assert (tap.dim(), tap.shape[1], tap.shape[4]) == (5, layout.num_persons, layout.num_joints), name
            model.zero_grad(set_to_none=True)
            tap.square().sum().backward(retain_graph=True)
            kept = tap.detach()
            assert any(p.grad is not None and bool(p.grad.any()) for p in model.parameters()), name
            with torch.no_grad():
                alone = model(x[1:]).taps[name]
            assert float((alone - kept[1:]).abs().max()) <= 1e-4 * float(kept.abs().max()), name
        with pytest.raises(UserError, match="no tap 'elsewhere'"):
            model.request_taps(("elsewhere",))

    def test_evaluation_does_not_leak_between_sequences(self, model: Encoder, layout: Layout) -> None:
        model.double().eval()
        x = sequences(layout, 4).double()
        other = x.clone()
        other[1] = sequences(layout, 1, seed=5)[0] * 100
        with torch.no_grad():
            first, second = model(x), model(other)
            alone = model(x[2:3])
        keep = [0, 2, 3]
        for name in ("logits", "feature_map", "pooled"):
            a, b, c = getattr(first, name), getattr(second, name), getattr(alone, name)
            limit = 1e-10 * float(a.abs().max())
            assert (a[keep] - b[keep]).abs().max() <= limit, name
            assert (a[2:3] - c).abs().max() <= limit, name
        assert (first.logits[1] - second.logits[1]).abs().max() > 0

    def test_evaluation_changes_no_state(self, model: Encoder, layout: Layout) -> None:
        before = copy.deepcopy(model.state_dict())
        model.eval()
        with torch.no_grad():
            model(sequences(layout, 2))
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]), name

    def test_state_round_trip(self, model: Encoder, layout: Layout) -> None:
        model.train()
        model(sequences(layout, 2), keys=self.keys(2), labels=self.labels(layout, 2))
        torch.manual_seed(99)
        twin = self.build(layout)
        twin.load_state_dict(model.state_dict())
        model.eval()
        twin.eval()
        x = sequences(layout, 2, seed=3)
        with torch.no_grad():
            assert torch.equal(model(x).logits, twin(x).logits)

    def test_same_seed_same_weights(self, layout: Layout) -> None:
        torch.manual_seed(5)
        first = self.build(layout).state_dict()
        torch.manual_seed(5)
        second = self.build(layout).state_dict()
        assert list(first) == list(second)
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_persons_and_sequences_of_any_batch(self, model: Encoder, layout: Layout) -> None:
        for training in (True, False):
            model.train(training)
            output = model(sequences(layout, 1), keys=self.keys(1), labels=self.labels(layout, 1))
            assert output.logits.shape == (1, layout.num_classes)
            assert output.logits.isfinite().all()

    def test_other_clip_lengths(self, model: Encoder, layout: Layout) -> None:
        if self.fixed_length:
            with pytest.raises(UserError, match="frames"):
                model(sequences(layout, 1, frames=layout.num_frames + 4))
            return
        model.eval()
        for frames in (16, 37, 100):
            with torch.no_grad():
                assert model(sequences(layout, 1, frames=frames)).logits.isfinite().all()

    def test_wrong_shape_is_refused(self, model: Encoder, layout: Layout) -> None:
        with pytest.raises(UserError, match="joints"):
            model(torch.zeros(2, 3, layout.num_frames, layout.num_joints + 1, layout.num_persons))

    def test_any_memory_layout_of_the_input(self, model: Encoder, layout: Layout) -> None:
        model.eval()
        x = sequences(layout, 2)
        strided = x.permute(0, 4, 2, 3, 1).contiguous().permute(0, 4, 2, 3, 1)
        with torch.no_grad():
            assert torch.equal(model(x).logits, model(strided).logits)

    def test_float64_agrees(self, model: Encoder, layout: Layout) -> None:
        model.eval()
        x = sequences(layout, 2)
        with torch.no_grad():
            single = model(x).logits
            double = copy.deepcopy(model).double()(x.double()).logits
        assert double.dtype == torch.float64
        assert_within(single, double, network_bound(model) * double.abs().max())

    def test_bfloat16_autocast(self, model: Encoder, layout: Layout) -> None:
        x, labels = sequences(layout, 4), self.labels(layout, 4)
        model.eval()
        with torch.no_grad():
            want = model(x).logits
            with torch.autocast("cpu", torch.bfloat16):
                got = model(x).logits
        # Each layer rounds its inputs and weights; roundings of random signs add up as the root of their number.
        layers = sum(p.dim() > 1 for p in model.parameters())
        assert_within(got, want, 4 * UNIT[torch.bfloat16] * layers**0.5 * want.abs().max())
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            output = model(x, keys=self.keys(4), labels=labels)
            loss = differentiable(output, labels, model)
        loss.backward()
        for name, p in model.named_parameters():
            assert p.grad is not None, name
            assert p.grad.dtype == torch.float32, name
            assert p.grad.isfinite().all(), name

    def test_random_numbers_follow_the_keys(self, model: Encoder, layout: Layout) -> None:
        model.train()
        x, labels = sequences(layout, 3), self.labels(layout, 3)
        state = copy.deepcopy(model.state_dict())

        def run(keys: Tensor, seed: int) -> Tensor:
            model.load_state_dict(state)
            torch.manual_seed(seed)
            with torch.no_grad():
                logits: Tensor = model(x, keys=keys, labels=labels).logits
            return logits

        first = run(self.keys(3), 1)
        assert torch.equal(first, run(self.keys(3), 2))
        other = run(self.keys(3) + 1, 1)
        assert torch.equal(first, other) != self.draws
