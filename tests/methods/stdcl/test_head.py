from __future__ import annotations

import pytest
import torch

from stdcl.config.contrast import ContrastConfig
from stdcl.errors import UserError
from stdcl.methods.stdcl.head import DecouplingHead, branches_of, undecoupled
from tests.rounding import sampling_bound

ALL = "spatial+temporal+global"


def test_branches_of_every_strategy() -> None:
    assert branches_of("none") == ()
    assert branches_of("spatial") == ("spatial",)
    assert branches_of("spatial+temporal") == ("spatial", "temporal")
    assert branches_of(ALL) == ("spatial", "temporal", "global")


@pytest.mark.parametrize(
    ("shape", "r", "weights", "biases"),
    [
        ((2, 256, 16, 25), 8, 352_256, 576),
        ((1, 256, 13, 20), 8, 286_720, 576),
        ((2, 216, 16, 25), 8, 295_056, 566),
        ((1, 216, 13, 20), 8, 239_760, 566),
        ((1, 256, 4, 4), 8, 81_920, 576),
    ],
)
def test_number_of_parameters(shape: tuple[int, int, int, int], r: int, weights: int, biases: int) -> None:
    for bias in (False, True):
        head = DecouplingHead(ContrastConfig(channel_reduction=r, bias=bias), shape, 256)
        assert sum(p.numel() for p in head.parameters()) == weights + bias * biases


def test_equal_to_equations_4_and_5_written_out() -> None:
    head = DecouplingHead(ContrastConfig(strategy=ALL, embedding_dim=6, channel_reduction=3), (2, 9, 4, 5), 7).double()
    x, pooled = torch.randn(3, 2, 9, 4, 5, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64)
    out = head(x, pooled)
    assert head.spatial is not None
    assert head.temporal is not None
    for n in range(3):
        for name, branch, axis, places in (("spatial", head.spatial, 2, 5), ("temporal", head.temporal, 3, 4)):
            persons = []
            for m in range(2):
                part = x[n, m].mean(dim=axis - 1)  # (C, places)
                flat = torch.cat([branch.reduce(part[:, p]) for p in range(places)])
                persons.append(branch.project(flat))
            torch.testing.assert_close(out[name][n], sum(persons) / 2)


def test_persons_who_are_not_there_can_be_left_out() -> None:
    x, pooled = torch.randn(3, 2, 8, 4, 5), torch.randn(3, 7)
    present = torch.tensor([[True, False], [True, True], [False, False]])
    for nonlinearity in ("none", "relu"):
        config = ContrastConfig(channel_reduction=2, nonlinearity=nonlinearity, person_mask="present")
        head = DecouplingHead(config, (2, 8, 4, 5), 7)
        masked = head(x, pooled, present)
        first, both = head(x[:, :1], pooled, present[:, :1]), head(x, pooled, torch.ones_like(present))
        for branch in masked:
            torch.testing.assert_close(masked[branch][0], first[branch][0])
            torch.testing.assert_close(masked[branch][1:], both[branch][1:])
        with pytest.raises(ValueError, match="needs the persons"):
            head(x, pooled)


@pytest.mark.parametrize("nonlinearity", ["none", "relu", "bn+relu"])
def test_gradients_reach_every_parameter(nonlinearity: str) -> None:
    config = ContrastConfig(strategy=ALL, channel_reduction=2, nonlinearity=nonlinearity)
    head = DecouplingHead(config, (2, 8, 4, 5), 7)
    out = head(torch.randn(4, 2, 8, 4, 5), torch.randn(4, 7))
    sum(x.square().sum() for x in out.values()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        # A bias before batch normalisation has no effect, hence no gradient.
        assert parameter.grad.abs().sum() > 0 or (nonlinearity == "bn+relu" and name.endswith("reduce.bias")), name
    assert all(x.shape == (4, 256) for x in out.values())


def test_nonlinearity_lies_between_the_maps() -> None:
    head = DecouplingHead(ContrastConfig(strategy="spatial", nonlinearity="relu"), (1, 16, 3, 4), 7)
    assert head.spatial is not None
    x = torch.randn(2, 1, 16, 3, 4)
    expected = head.spatial.project(head.spatial.reduce(x[:, 0].mean(dim=2).transpose(1, 2)).relu().flatten(1))
    torch.testing.assert_close(head(x, torch.randn(2, 7))["spatial"], expected)


def test_start_values() -> None:
    """Projections: Kaiming normal by fan-out and zero bias; reductions: PyTorch's own start."""
    torch.manual_seed(0)
    head = DecouplingHead(ContrastConfig(strategy=ALL), (1, 256, 13, 20), 256)
    assert head.spatial is not None
    assert head.temporal is not None
    assert head.overall is not None
    for layer in (head.spatial.project, head.temporal.project, head.overall):
        assert layer.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=sampling_bound(layer.weight.numel()))
        assert layer.bias.abs().sum() == 0
    assert head.spatial.reduce.weight.abs().max() <= 1 / 16
    assert head.spatial.reduce.bias.abs().sum() > 0


def test_a_frozen_head_has_nothing_to_train() -> None:
    head = DecouplingHead(ContrastConfig(freeze_head=True), (1, 16, 3, 4), 7)
    assert not any(p.requires_grad for p in head.parameters())


def test_too_much_reduction_is_refused() -> None:
    with pytest.raises(UserError, match="channel_reduction: 17"):
        DecouplingHead(ContrastConfig(channel_reduction=17), (1, 16, 3, 4), 7)


def test_a_map_of_one_place_is_said_to_decouple_nothing() -> None:
    both = branches_of("spatial+temporal")
    (said,) = undecoupled(both, (1, 256, 1, 1))
    assert "one place (T 1, V 1)" in said
    (said,) = undecoupled(both, (1, 256, 1, 20))
    assert "T 1, so the temporal feature is the whole sequence's" in said
    assert undecoupled(both, (1, 256, 2, 2)) == ()
    assert undecoupled(branches_of("spatial"), (1, 256, 1, 20)) == ()
    assert undecoupled(branches_of("global"), (1, 256, 1, 1)) == ()
