"""Keys that nothing reads because of what other keys say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stdcl import specs
from stdcl.config.model import METHOD, METHOD_NAME, STDCL, RunConfig
from stdcl.config.yaml_text import show

STRATEGY = "contrast.strategy"


def unread(config: RunConfig) -> dict[str, str]:
    """Return dotted key -> why no code reads it in this configuration."""
    return {key: f"'{key}' {reason}" for key, reason in _unread(config)}


def _unread(config: RunConfig) -> Iterator[tuple[str, str]]:
    data, training = config.data, config.training
    if not data.stream.startswith("relative-"):
        yield "data.orientation", f"is read with relative streams alone; data.stream is {show(data.stream)}"
    if data.evaluate_on == "test":
        yield "data.validation_fraction", "is read with data.evaluate_on: validation alone"
    if not data.augment:
        yield "data.rotation", "is a part of data.augment, which is false"
    if training.optimizer != "sgd":
        for name in ("momentum", "nesterov"):
            yield f"training.{name}", f"is read with SGD alone; training.optimizer is {show(training.optimizer)}"
    if training.schedule == "cosine":
        yield "training.decay", "is not read by the schedule 'cosine', which falls to zero"
    yield from _unread_of_method(config)


def _unread_of_method(config: RunConfig) -> Iterator[tuple[str, str]]:
    contrast = config.contrast
    if not config.method_name:
        for option in specs.encoder(config.encoder.name).feature_options:
            yield f"encoder.{option}", "is read by a method alone; cross-entropy does not look at the feature map"
    if config.method_name != STDCL:
        why = "cross-entropy alone is trained" if not config.method_name else f"{METHOD_NAME} is '{config.method_name}'"
        for path in leaves(contrast.model_dump(mode="json"), "contrast."):
            if path != STRATEGY or config.method is not None:
                yield path, f"is read by STD-CL alone; {why}"
        return
    said = f"{STRATEGY} is '{contrast.strategy}'"
    branches = contrast.strategy.split("+")
    for branch in ("spatial", "temporal", "global"):
        if branch not in branches:
            yield f"contrast.weight_{branch}", f"is the weight of a loss that is not there; {said}"
    if branches == ["global"]:
        yield "contrast.readings.weights", f"sets the spatial and the temporal weight; {said}"
        for name in ("channel_reduction", "readings.nonlinearity", "readings.person_mask"):
            yield f"contrast.{name}", f"belongs to the spatial and the temporal branch; {said}"


def leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of each value of a raw configuration; an empty section counts as one."""
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def replaced(path: str, parameters: Mapping[str, Any]) -> str:
    """Return why a trial does not take the key at ``path`` from its base; empty if it does.

    Args:
        path: the dotted key.
        parameters: what its arm and its cell put over the base.
    """
    section = path.split(".")[0]
    if path == "training.seed":
        return "is given by 'seeds'"
    if path in parameters:
        return "is varied"
    if "encoder.name" in parameters and section == "encoder":
        return "is an option of one encoder, and the sweep varies encoder.name"
    method = parameters.get(METHOD_NAME)
    if section == METHOD and method is not None:
        return "belongs to a method, and the sweep varies it"
    if section == "contrast" and method not in (None, STDCL):
        return "is read by STD-CL alone"
    return ""
