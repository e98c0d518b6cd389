"""A stable name for what a configuration means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from stdcl import specs
from stdcl.config.contrast import CONTRAST, without_readings
from stdcl.config.model import RunConfig
from stdcl.config.unread import unread
from stdcl.config.yaml_text import dump_yaml, parse_yaml


def scientific(config: RunConfig) -> dict[str, Any]:
    """Return the keys that can change a result.

    What nothing reads under the chosen strategy, optimiser or schedule stands at its default. Left out: where the data
    lie, where numbers are shown, the names of the recipe and of the weights (their keys are all there), and the
    resources: the algorithm does not depend on the number of workers, except with ``batch_norm: local``.
    """
    whole = config.model_dump(mode="json")
    _canonical(config, whole)
    data = {key: value for key, value in whole["data"].items() if key != "path"}
    training = {k: v for k, v in whole["training"].items() if not k.startswith("checkpoint_every")}
    out = {"data": data, "encoder": whole["encoder"], "training": training} | _treatment(config, whole)
    if config.init_from is not None:
        out["init_from"] = {"what": config.init_from.what, "digest": config.init_from.digest or config.init_from.run}
    if config.plugins:
        out["plugins"] = whole["plugins"]
    if config.training.batch_norm == "local":
        out["workers"] = config.resources.workers
    return out


_ADDED = (("data", "rotation"), ("training", "tf32"), ("training", "deterministic"))
"""Keys that came after fingerprints did: left out where they say what was done before they existed, their default."""


def _canonical(config: RunConfig, whole: dict[str, Any]) -> None:
    """Let configurations that train the same be written the same: what nothing reads stands at its default."""
    sections = {name: getattr(config, name) for name in ("data", "encoder", "contrast", "training")}
    for key in unread(config):
        *path, name = key.split(".")
        section, written = sections[path[0]], whole[path[0]]
        for part in path[1:]:
            section, written = getattr(section, part), written[part]
        written[name] = type(section).model_fields[name].get_default()
    for section, name in _ADDED:
        if whole[section][name] == type(sections[section]).model_fields[name].default:
            del whole[section][name]


def _treatment(config: RunConfig, whole: Mapping[str, Any]) -> dict[str, Any]:
    if not config.method_name:
        return {"contrast": {"strategy": "none"}}
    spec = specs.method(config.method_name)
    return {spec.section: _without(whole[spec.section], spec.unscientific)}


def _without(section: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """A section without some dotted keys."""
    out: dict[str, Any] = {}
    for name, value in section.items():
        inner = [key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")]
        if name not in keys:
            out[name] = _without(value, inner) if inner else value
    return out


def flat_scientific(config: RunConfig) -> dict[str, Any]:
    """Return dotted key -> JSON value of :func:`scientific`."""
    return _flat(scientific(config))


def fingerprint(config: RunConfig) -> str:
    """Return 16 hexadecimal digits, equal for configurations that must give equal results on equal data."""
    keys = scientific(config)
    if CONTRAST in keys:  # in the spelling of the first release, so that its results are found
        keys[CONTRAST] = without_readings(keys[CONTRAST])
    text = json.dumps(keys, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def changed_keys(old: str, new: RunConfig) -> list[str]:
    """Return a line for each key that can change a result and differs; ``old`` is YAML of :func:`to_yaml`."""
    try:
        was = flat_scientific(RunConfig.model_validate(parse_yaml(old, "the saved configuration")))
    except ValueError:  # of another version of the configuration
        return []
    now = flat_scientific(new)
    return [
        f"{key}: {was.get(key)!r} in the checkpoint, {now.get(key)!r} in this run"
        for key in dict.fromkeys((*was, *now))
        if was.get(key) != now.get(key)
    ]


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two of :func:`flat_scientific`: key -> (value in one, in other; None: not given)."""
    pairs = {key: (one.get(key), other.get(key)) for key in dict.fromkeys((*one, *other))}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in section.items():
        out.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return out


def to_yaml(config: RunConfig) -> str:
    """Return the resolved configuration as YAML that loads to the same configuration."""
    whole = config.model_dump(mode="json")
    return dump_yaml(whole)
