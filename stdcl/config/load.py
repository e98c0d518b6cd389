"""From a YAML file (and ``--set`` overrides) to a checked configuration.

Order of precedence, weakest first: defaults of the model, recipe, file, overrides. Whatever is wrong is reported
at once, each with file, key, value, rule and the nearest right spelling.
"""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from stdcl import specs
from stdcl.config.arms import AXES
from stdcl.config.contrast import CONTRAST, long_key, long_keys, long_location, with_readings
from stdcl.config.explain import Origin, explain
from stdcl.config.keys import check_path
from stdcl.config.model import METHOD, RECIPES, RunConfig
from stdcl.config.unread import unread
from stdcl.config.yaml_text import Location, parse_located, parse_yaml, show, walk_texts
from stdcl.errors import UserError, nearest

Raw = dict[str, Any]


def read_mapping(path: Path) -> Raw:
    """Read a YAML file that must hold a mapping."""
    return long_spelling(_mapping(path, parse_yaml(_text(path), str(path))))


def read_located(path: Path) -> tuple[Raw, Origin]:
    """Read a YAML file that must hold a mapping; return it and where its keys stand."""
    value, lines = parse_located(_text(path), str(path))
    long = {_axis_location(long_location(at)): line for at, line in lines.items()}
    return long_spelling(_mapping(path, value)), Origin(str(path), lines | long)


def _text(path: Path) -> str:
    if path.is_dir():
        raise UserError(f"{path}: a folder; a YAML file is expected")
    if not path.is_file():
        neighbours = [str(p) for p in sorted(path.parent.glob("*.yaml"))] if path.parent.is_dir() else []
        raise UserError(f"{path}: no such file{nearest(str(path), neighbours)}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _mapping(path: Path, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(
            f"{path}: a mapping of keys to values is expected, found {'nothing' if value is None else show(value)}"
        )
    return value


def long_spelling(raw: Mapping[str, Any]) -> Raw:
    """Return a run file's or a sweep file's content with the long spelling of each key (see ``config.contrast``)."""
    out = dict(raw)
    for key, value in raw.items():
        if key == "grid" and isinstance(value, Mapping):
            out[key] = _dotted(value)
        elif key == "space" and isinstance(value, Mapping):
            out[key] = {AXES.get(name, name): _parameter(each) for name, each in long_keys(value).items()}
        elif key in ("cells", "exclude") and isinstance(value, list):
            out[key] = [_dotted(cell) if isinstance(cell, Mapping) else cell for cell in value]
        elif key == "arms" and isinstance(value, Mapping):
            out[key] = {name: _dotted(arm) if isinstance(arm, Mapping) else arm for name, arm in value.items()}
        elif key == "base" and isinstance(value, Mapping):
            out[key] = long_spelling(value)
        elif key == CONTRAST and isinstance(value, Mapping):
            out[key] = with_readings(value)
    return out


def _parameter(value: Any) -> Any:
    """Return a parameter of a search with the dotted key of each axis that its condition names."""
    if isinstance(value, Mapping) and isinstance(value.get("when"), Mapping):
        return {**value, "when": _dotted(value["when"])}
    return value


def _dotted(values: Mapping[str, Any]) -> Raw:
    """Return what a sweep file varies with the dotted key of each axis. (What is a section's content is left.)"""
    out: Raw = {}
    for key, value in long_keys(values).items():
        sections = any(isinstance(each, Mapping) for each in (value if isinstance(value, list) else [value]))
        dotted = AXES.get(key, key) if isinstance(key, str) and not sections else key
        out[key if dotted in values else dotted] = value
    return out


_KEY_PLACE = {"grid": 1, "space": 1, "cells": 2, "exclude": 2, "arms": 2}
"""Section of a sweep file -> which part of a location in it is a dotted key or an axis."""


def _axis_location(at: Location) -> Location:
    """Return the place of a key in a file, with the dotted key of an axis."""
    place = _KEY_PLACE.get(at[0], len(at)) if at else 0
    return tuple(AXES.get(part, part) if index == place else part for index, part in enumerate(at))


_KINDS = {
    "a run file": ({"data", "encoder", "contrast", "training"}, "stdcl train {}", True),
    "a sweep file": ({"base", "grid", "arms", "space", "question", "seeds"}, "stdcl sweep {}", True),
    "the description of a dataset": (
        {"joints", "parents", "classes", "files", "splits"},
        "stdcl data prepare custom --spec {} --out DIR",
        False,
    ),
}
"""What a file can be -> keys that only such a file has, the command that reads it, and whether that takes ``--set``."""


def check_kind(raw: Mapping[str, Any], path: Path, expected: str, overrides: Sequence[str] = ()) -> None:
    """Raise if a file has keys of another kind of file, and none of the kind that is ``expected``.

    Args:
        raw: the file's content.
        path: of the file.
        expected: its kind.
        overrides: ``a.b=c`` texts that were given with it.

    Raises:
        UserError: with the command for a file of its kind.
    """
    if not _KINDS[expected][0].isdisjoint(raw):
        return
    for kind, (own, command, takes_set) in _KINDS.items():
        found = [key for key in raw if key in own]
        if found:
            words = shlex.join([str(path), *(set_words(overrides) if takes_set else [])])
            raise UserError(
                f"{path}: this is {kind}, not {expected} "
                f"(it has {', '.join(map(repr, found))}); the command for it: {command.format(words)}"
            )


def merge(weak: Mapping[str, Any], strong: Mapping[str, Any]) -> Raw:
    """Return a new mapping: ``strong`` over ``weak``, section by section."""
    out: Raw = copy.deepcopy(dict(weak))
    for key, value in strong.items():
        if isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = merge(out[key], value)
        else:
            out[key] = copy.deepcopy(value)
    return out


def put(raw: Raw, path: str, value: Any) -> None:
    """Set ``raw[a][b][c] = value`` for the dotted path a.b.c, making sections on the way."""
    *sections, last = path.split(".")
    at = raw
    for name in sections:
        inner = at.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UserError(f"{path}: '{name}' is a value, not a section")
        at = inner
    at[last] = value


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``a.b=c`` into its dotted path, with the long spelling, and its YAML value."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip() or any(not part for part in path.strip().split(".")):
        raise UserError(f"--set {text}: expected a.b=value, for example --set contrast.temperature=0.5")
    return long_key(path.strip()), parse_yaml(value, f"--set {text}")


def recipe_names(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names that the recipe for a raw configuration's data can have; none if the dataset is not known."""
    data = raw.get("data")
    name = data.get("dataset") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(name, str) or name not in specs.datasets():
        return ()
    return specs.datasets()[name].recipe_names(str(data.get("protocol", "default")))


@cache
def read_recipe(encoder: str, names: tuple[str, ...], kind: str) -> Raw:
    """Return a recipe's keys, not to be changed: ``<encoder's recipes>/<name>.<kind>.yaml``, the first that exists.

    Raises:
        UserError: there is none.
    """
    package, _, folder = specs.encoder(encoder).recipes.partition(":")
    for name in names if package else ():
        file = resources.files(package).joinpath(folder, f"{name}.{kind}.yaml")
        if file.is_file():
            recipe = parse_yaml(file.read_text(encoding="utf-8"), f"recipe {folder}/{name}.{kind}.yaml")
            return {key: value for key, value in recipe.items() if key != "source"}
    others = " or ".join(_kinds(package, folder, names))
    raise UserError(
        f"there is no '{kind}' recipe for encoder {encoder} on {' or '.join(names)}; set "
        + (f"recipe: {others}, or " if others else "")
        + "recipe: none and give every key of 'training'"
    )


def _kinds(package: str, folder: str, names: tuple[str, ...]) -> list[str]:
    """Return which recipes there are under one of ``names``."""
    root = resources.files(package).joinpath(folder) if package else None
    files = [file.name.split(".") for file in root.iterdir()] if root is not None and root.is_dir() else []
    return sorted({parts[1] for parts in files if len(parts) == 3 and parts[0] in names}, reverse=True)


def _release(raw: Raw, names: tuple[str, ...], origin: Origin) -> Raw:
    """Return what the method's ``preset: release`` sets, in all sections, on the dataset with these recipes' names."""
    given = raw.get(METHOD)
    spec = specs.methods().get(str(given.get("name"))) if isinstance(given, Mapping) else None
    if spec is None or not spec.presets or not isinstance(given, Mapping) or given.get("preset") != "release":
        return {}
    where = origin.at((METHOD, "preset"))
    kind = raw.get("recipe", "full")
    if kind not in ("full", "none"):
        raise UserError(
            f"{where}: method.preset is 'release', which goes with the recipes 'full' and 'none', not with '{kind}'"
        )
    package, _, folder = spec.presets.partition(":")
    for name in names:
        file = resources.files(package).joinpath(folder, f"{name}.yaml")
        if file.is_file():
            preset = parse_yaml(file.read_text(encoding="utf-8"), f"preset {folder}/{name}.yaml")
            return {key: value for key, value in preset.items() if key != "source"}
    data = " or ".join(names) or "this dataset"
    raise UserError(f"{where}: method.preset is 'release', but {spec.title} released nothing for {data}; leave it out")


def resolve(raw: Raw, where: str | Origin) -> RunConfig:
    """Put the recipe under ``raw`` and check the whole.

    Raises:
        UserError: with a line for each fault.
    """
    origin = where if isinstance(where, Origin) else Origin(where)
    raw = long_spelling(raw)
    kind = raw.get("recipe", "full")
    encoder = raw.get("encoder")
    name = encoder.get("name") if isinstance(encoder, Mapping) else None
    names = recipe_names(raw)
    found = kind in RECIPES and bool(names) and isinstance(name, str) and name in specs.encoders()
    whole = merge(merge(read_recipe(str(name), names, str(kind)) if found else {}, _release(raw, names, origin)), raw)
    try:
        config = RunConfig.model_validate(whole)
    except ValidationError as error:
        raise UserError(explain(error, whole, origin, RunConfig, found or kind == "none")) from None
    faults = [
        f"{origin.at(location)}: '{'.'.join(map(str, location))}' is {show(text)}: variables are replaced in "
        f"{' and '.join('.'.join(at) for at in _REPLACED)} alone; write the value itself"
        for location, text in walk_texts(raw)
        if _VARIABLE.search(text) and location not in _REPLACED
    ]
    if faults:
        raise UserError("\n".join(faults))
    return config


_REPLACED = (("data", "path"), (METHOD, "texts"))
"""Keys in which ``$NAME`` is replaced by the variable's value."""
_VARIABLE = re.compile(r"\$\{?\w")


def override(
    raw: Raw, texts: Sequence[str], path_of: Callable[[str, str], str]
) -> tuple[dict[Location, str], list[str]]:
    """Put ``a.b=c`` texts into ``raw``.

    Args:
        raw: changed in place.
        texts: the overrides.
        path_of: takes a text's dotted path and the text's name; returns the path in ``raw`` or raises UserError.

    Returns:
        Which text gave which key, and what is wrong with the texts that were left out.
    """
    given: dict[Location, str] = {}
    faults: list[str] = []
    for text in texts:
        try:
            key, value = parse_override(text)
            path = path_of(key, f"--set {text}")
            put(raw, path, value)
        except UserError as error:
            faults.append(str(error))
        else:
            given[(*path.split("."),)] = f"--set {text}"
    return given, faults


def set_words(overrides: Sequence[str]) -> list[str]:
    """Return overrides as the words of a command line that gives them."""
    return [word for text in overrides for word in ("--set", text)]


def read_run_file(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read, merge and check a run file.

    Args:
        path: the YAML file.
        overrides: ``a.b=c`` texts, each replacing one key.

    Raises:
        UserError: with a line for each fault.
    """
    raw, origin = read_located(path)
    check_kind(raw, path, "a run file", overrides)
    return resolve_with(raw, origin, overrides)


def resolve_with(raw: Raw, where: str | Origin, overrides: Sequence[str]) -> RunConfig:
    """Put ``a.b=c`` texts into ``raw`` (changed in place) and check the whole; raises as ``read_run_file``."""
    origin = where if isinstance(where, Origin) else Origin(where)
    meet_plugins(raw)
    given, faults = override(raw, overrides, _run_path)
    try:
        config = resolve(raw, replace(origin, overrides=given))
    except UserError as error:
        faults.append(str(error))
    else:
        not_read = unread(config)
        in_vain = {text: ".".join(at) for at, text in given.items() if ".".join(at) in not_read}
        faults += [f"{text}: {not_read[key]}; leave it out" for text, key in in_vain.items()]
    if faults:
        raise UserError("\n".join(faults))
    return config


def meet_plugins(raw: Mapping[str, Any]) -> None:
    """Look up what names of a dataset, an encoder and a method lead to, so that a plug-in's options are known keys.

    Raises:
        UserError: an import path leads to no plug-in.
    """
    known: tuple[tuple[str, str, Callable[[], specs.Known[Any]]], ...] = (
        ("data", "dataset", specs.datasets),
        ("encoder", "name", specs.encoders),
        ("method", "name", specs.methods),
    )
    for section, key, find in known:
        given = raw.get(section)
        name = given.get(key) if isinstance(given, Mapping) else None
        if isinstance(name, str):
            find().get(name)


def _run_path(key: str, where: str) -> str:
    check_path(key, where)
    return key


def validate_fragment(model: type[BaseModel] | TypeAdapter[Any], raw: Any, where: str | Origin) -> Any:
    """Check ``raw`` against any model, with this module's error texts."""
    try:
        return model.validate_python(raw) if isinstance(model, TypeAdapter) else model.model_validate(raw)
    except ValidationError as error:
        root = model if not isinstance(model, TypeAdapter) else RunConfig
        origin = where if isinstance(where, Origin) else Origin(where)
        raise UserError(explain(error, raw, origin, root)) from None
