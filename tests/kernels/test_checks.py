"""Arguments that do not fit are refused before C sees them, with the kernels and without."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stdcl.errors import UserError
from stdcl.kernels import attention, batch_norm, branches, choice, graph_product
from stdcl.kernels.choice import SWITCH, kernel_for, switched_on

Call = Callable[..., object]
ROWS, CHANNELS = (8, 4), (4,)
B, C, S, R, V, T = 2, 16, 3, 4, 5, 6
F, G, J, H, D, W = 3, 2, 4, 2, 8, 4
GROUPS, HOPS = torch.arange(V) % G, torch.arange(V * V).view(V, V) % J
REFINED = {"values": (B, C, S, V, T), "qk": (B, V, 2, S, R), "a": (S, V, V), "mixing": (S, C, R + 2)}
FACTORS = {"biased": (S * (R + 2), C)}
BRANCH = {"x": (B, V, T, 4 * W), "factor": (3 * W,), "shift": (3 * W,), "weights": (2, W, W, 5)}

# Name: the call, and the shape of each tensor that it is given.
CALLS: dict[str, tuple[Call, dict[str, tuple[int, ...]]]] = {
    "normalise": (
        lambda **t: batch_norm.normalise(**t, relu=True),
        {"x": ROWS, "residual": ROWS, "factor": CHANNELS, "shift": CHANNELS},
    ),
    "gradient_sums": (batch_norm.gradient_sums, {"grad": ROWS, "out": ROWS, "x": ROWS, "mean": CHANNELS}),
    "normalise_backward": (
        lambda **t: batch_norm.normalise_backward(**t, keep=True),
        {"grad": ROWS, "out": ROWS, "x": ROWS, "a": CHANNELS, "b": CHANNELS, "c": CHANNELS},
    ),
    "graph_product": (graph_product.forward, REFINED | FACTORS),
    "graph_product_backward": (graph_product.backward, REFINED | FACTORS | {"grad": (B, V, T, C)}),
    "graph_product_with_bias": (graph_product.graph_product, REFINED | {"bias": (S, C)}),
    "branches": (lambda **t: branches.forward(**t, stride=2, time_axis=2), BRANCH | {"biases": (2, W)}),
    "branches_backward": (
        lambda **t: branches.backward(**t, stride=2, time_axis=2),
        BRANCH | {"grad": (B, V, T // 2, 4 * W)},
    ),
    "attention": (
        lambda **t: attention.attend(**t, groups=GROUPS, hops=HOPS),
        {
            "qkv": (F, V, 3 * H * D),
            "e": (F, G, H * D),
            "rpe": (J, H * D),
            "w1": (H, D),
            "alpha": (1,),
            "outer": (H, V, V),
        },
    ),
}
EACH = [(name, argument) for name, (_, shapes) in CALLS.items() for argument in shapes]
# What one argument alone decides, so that another value of it is another valid call.
FREE = {
    ("graph_product", "values", 4),
    ("graph_product_with_bias", "values", 4),
    *(("branches", "x", axis) for axis in range(3)),
    ("branches_backward", "x", 2),
    ("attention", "rpe", 0),
    ("attention", "e", 1),
}


@pytest.fixture(params=[True, False], ids=["kernels", "reference"], autouse=True)
def switch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "ON", request.param)


def given(name: str) -> tuple[Call, dict[str, Tensor]]:
    call, shapes = CALLS[name]
    return call, {argument: torch.randn(shape) for argument, shape in shapes.items()}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_that_fit_are_taken(name: str) -> None:
    call, tensors = given(name)
    call(**tensors)


@pytest.mark.parametrize(("name", "argument"), EACH)
def test_every_axis_is_checked(name: str, argument: str) -> None:
    call, tensors = given(name)
    right = tensors[argument]
    for axis in range(right.dim()):
        if (name, argument, axis) in FREE:
            continue
        longer = torch.cat((right, right.narrow(axis, 0, 1)), dim=axis)
        shorter = right.narrow(axis, 0, right.shape[axis] - 1)
        for wrong in (longer, shorter):
            with pytest.raises((ValueError, IndexError), match=r"^\w+: \w+ "):
                call(**tensors | {argument: wrong})
    with pytest.raises(ValueError, match=r"^\w+: \w+ "):
        call(**tensors | {argument: right[None]})


@pytest.mark.parametrize(("name", "argument"), EACH)
def test_every_type_is_checked(name: str, argument: str) -> None:
    if name.startswith("graph_product") and argument == "values":
        pytest.skip("products may run in another type than the small factors: no error to test")
    call, tensors = given(name)
    for wrong in (tensors[argument].double(), tensors[argument].to("meta")):
        with pytest.raises(TypeError, match="is needed"):
            call(**tensors | {argument: wrong})


@pytest.mark.parametrize(("name", "wrong"), [("groups", -1), ("groups", G), ("hops", -1), ("hops", J), ("hops", 2**32)])
def test_an_index_out_of_range_is_named(name: str, wrong: int) -> None:
    _, tensors = given("attention")
    indices = {"groups": GROUPS.clone(), "hops": HOPS.clone()}
    indices[name].view(-1)[3] = wrong
    with pytest.raises(
        IndexError, match=f"{name} holds {wrong}; allowed are 0 to {(G if name == 'groups' else J) - 1}"
    ):
        attention.attend(**tensors, **indices)
    with pytest.raises(TypeError, match=f"{name} is torch.int32"):
        attention.attend(**tensors, **indices | {name: indices[name].int()})
    with pytest.raises(ValueError, match=f"{name} has shape"):
        attention.attend(**tensors, **indices | {name: indices[name][:-1]})


def test_moments_need_a_row() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        batch_norm.moments(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="2 axes"):
        batch_norm.moments(torch.zeros(3))


@pytest.mark.parametrize(("stride", "time_axis"), [(0, 2), (-1, 2), (1, 0), (1, 3)])
def test_strides_and_axes_are_checked(stride: int, time_axis: int) -> None:
    _, tensors = given("branches")
    with pytest.raises(ValueError, match="allowed are"):
        branches.forward(**tensors, stride=stride, time_axis=time_axis)


def test_other_lengths_of_convolutions_go_through_the_reference() -> None:
    _, tensors = given("branches")
    tensors["weights"] = torch.randn(2, W, W, 3)
    assert branches.forward(**tensors, stride=1, time_axis=1).shape == tensors["x"].shape
    with pytest.raises(ValueError, match="odd number"):
        branches.forward(**tensors | {"weights": torch.randn(2, W, W, 4)}, stride=1, time_axis=1)


def test_the_switch() -> None:
    assert switched_on({})
    assert switched_on({SWITCH: ""})
    assert switched_on({SWITCH: "1"})
    assert not switched_on({SWITCH: "0"})
    with pytest.raises(UserError, match="STDCL_KERNELS is 'off'; allowed are 0"):
        switched_on({SWITCH: "off"})


_LOOK = "from stdcl.kernels import choice; print(choice.kernel_for(choice, choice.torch.ones(1)) is not None)"


@pytest.mark.parametrize(("value", "kernels"), [("0", "False"), ("1", "True"), ("", "True")])
def test_a_process_reads_the_switch_when_it_starts(value: str, kernels: str) -> None:
    command = [sys.executable, "-c", _LOOK]
    ran = subprocess.run(command, env={**os.environ, SWITCH: value}, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == kernels


def test_the_choice_follows_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "ON", True)
    assert kernel_for(pytest, torch.ones(1)) is pytest
    monkeypatch.setattr(choice, "ON", False)
    assert kernel_for(pytest, torch.ones(1)) is None


@pytest.mark.parametrize("tensor", [torch.ones(1).double(), torch.ones(0), torch.ones(1, device="meta")])
def test_what_no_kernel_takes(monkeypatch: pytest.MonkeyPatch, tensor: Tensor) -> None:
    monkeypatch.setattr(choice, "ON", True)
    assert kernel_for(pytest, torch.ones(1), None, tensor) is None
