"""The promises of `stdcl.encoders.base.Encoder`, tried out on an encoder of another package."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from stdcl.encoders.base import Encoder, EncoderOutput, FeatureAxes, Layout
from stdcl.errors import UserError

_BUILDS = Callable[[], nn.Module]
_FLOAT64 = 1e-9
"""Of the largest number: what float64 rounds in any network of a usable depth, and no leak between sequences."""


def broken_promises(build: _BUILDS, layout: Layout) -> list[str]:
    """Return a sentence for each promise that the encoder does not keep; empty if it keeps all.

    Args:
        build: makes the encoder from torch's current random state.
        layout: that it is built for.
    """
    torch.manual_seed(0)
    model = build()
    if not isinstance(model, Encoder):
        return [f"it is a {type(model).__name__}; a subclass of stdcl.Encoder is expected"]
    model = model.double()
    if not list(model.parameters()):
        return ["it has no parameters"]
    x = _sequences(layout, 4)
    try:
        output = model.eval()(x)
    except Exception as error:  # whatever somebody else's code raises
        return [f"evaluation of input {tuple(x.shape)} fails: {type(error).__name__}: {error}"]
    if faults := list(_shapes(output, layout, model.axes)):
        return faults
    return [*_evaluation(model, x), *_training(model, layout, x), *_weights(build, model), *_refusals(model, layout)]


def _sequences(layout: Layout, count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, layout.num_frames, layout.num_joints, layout.num_persons)
    steps = torch.randn(shape, generator=generator, dtype=torch.float64)
    return steps.cumsum(dim=2) / math.sqrt(layout.num_frames)


def _shapes(output: object, layout: Layout, axes: FeatureAxes) -> Iterator[str]:
    if not isinstance(output, EncoderOutput):
        yield f"it returns a {type(output).__name__}; an EncoderOutput(logits, feature_map, pooled) is expected"
        return
    if output.logits.shape != (4, layout.num_classes):
        yield f"logits are {tuple(output.logits.shape)}; (4, {layout.num_classes}) is expected: sequences, classes"
    if output.pooled.dim() != 2 or len(output.pooled) != 4:
        yield f"pooled is {tuple(output.pooled.shape)}; (4, C) is expected: sequences, channels"
    shape = tuple(output.feature_map.shape)
    if len(shape) != 5 or shape[0] != 4:
        yield f"feature_map is {shape}; (4, M, C, T, V) is expected: sequences, persons, channels, frames, joints"
        return
    if shape[1] not in (1, layout.num_persons):
        yield (
            f"feature_map is {shape}: {shape[1]} persons, the second axis, of {layout.num_persons}; 1 where they are"
            " merged; (4, M, C, T, V) is expected: sequences, persons, channels, frames, joints"
        )
    if axes.joints and shape[4] != layout.num_joints:
        yield (
            f"feature_map is {shape}: the last axis is not {layout.num_joints} joints; where it stands for something"
            " else, axes = FeatureAxes(joints=False) says so"
        )


def _evaluation(model: Encoder, x: Tensor) -> Iterator[str]:
    model.eval()
    before = copy.deepcopy(model.state_dict())
    other = x.clone()
    other[1] *= 100
    with torch.no_grad():
        whole, changed, alone = model(x), model(other), model(x[2:3])
        strided = model(x.permute(0, 4, 2, 3, 1).contiguous().permute(0, 4, 2, 3, 1))
    for name in ("logits", "feature_map", "pooled"):
        one, two, three, four = (getattr(each, name) for each in (whole, changed, alone, strided))
        limit = _FLOAT64 * float(one.abs().max())
        if (
            float((one[[0, 2, 3]] - two[[0, 2, 3]]).abs().max()) > limit
            or float((one[2:3] - three).abs().max()) > limit
        ):
            yield f"in evaluation {name} of a sequence depends on the other sequences of its batch"
        if float((one - four).abs().max()) > limit:
            yield f"{name} depends on the memory layout of the input"
    if _differing(before, model.state_dict()):
        yield f"evaluation changes its state: {', '.join(_differing(before, model.state_dict())[:3])}"


def _training(model: Encoder, layout: Layout, x: Tensor) -> Iterator[str]:
    model.train()
    labels, keys = torch.arange(len(x)) % layout.num_classes, torch.arange(len(x)) * 7919 + 13
    state = copy.deepcopy(model.state_dict())
    runs = []
    for seed in (1, 2):
        model.load_state_dict(state)
        torch.manual_seed(seed)
        output = model(x, keys=keys, labels=labels)
        runs.append(output.logits.detach().clone())
    if not torch.equal(*runs):
        yield "in training it draws random numbers from torch's state; they must follow 'keys' (stdcl.encoders.keyed)"
    loss = torch.nn.functional.cross_entropy(output.logits, labels)
    for term in model.own_losses(output, labels).values():
        loss = loss + term
    torch.autograd.backward(loss)
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    if missing:
        yield f"no gradient for {', '.join(missing[:3])}"
    wrong = [name for name, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    if wrong:
        yield f"the gradient of {', '.join(wrong[:3])} is not finite"
    model.zero_grad(set_to_none=True)
    if not model(x, keys=keys, labels=labels).feature_map.requires_grad:
        yield "feature_map carries no gradient"
    for name, part in model.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            yield (
                f"{name} is torch's batch normalisation, which takes its statistics over one worker's part of a batch; "
                "use stdcl.parallel.batch_norm.BatchNorm"
            )


def _weights(build: _BUILDS, model: Encoder) -> Iterator[str]:
    torch.manual_seed(5)
    first = build().state_dict()
    torch.manual_seed(5)
    if _differing(first, build().state_dict()):
        yield "two of the same seed begin with different weights"
    twin = build().double()
    try:
        twin.load_state_dict(model.state_dict())
    except RuntimeError as error:
        yield f"its state does not load into another one: {error}"


def _refusals(model: Encoder, layout: Layout) -> Iterator[str]:
    wrong = torch.zeros(2, 3, layout.num_frames, layout.num_joints + 1, layout.num_persons, dtype=torch.float64)
    try:
        model.eval()(wrong)
    except UserError:
        pass
    except Exception as error:  # whatever somebody else's code raises
        yield f"a wrong number of joints ends in {type(error).__name__}; call self.check_input(x) first in forward"
    else:
        yield "a wrong number of joints is not refused; call self.check_input(x) first in forward"


def _differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    return [
        name
        for name in {**one, **other}
        if name not in one or name not in other or not torch.equal(one[name], other[name])
    ]
