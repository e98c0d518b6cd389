"""From a YAML file (and ``--set`` overrides) to a checked configuration.

Order of precedence, weakest first: defaults of the model, recipe, file, overrides. Whatever is wrong is reported
at once, each with file, key, value, rule and the nearest right spelling.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from stdcl import specs
from stdcl.config.model import RunConfig
from stdcl.config.section import ChosenByName, Clashes
from stdcl.errors import UserError, nearest

Raw = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as in PyYAML's safe loader, but 1e-4 is a number and a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "a list or a section cannot be a key", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = copy.deepcopy(yaml.SafeLoader.yaml_implicit_resolvers)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$|^[-+]?\.\d+[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML text; ``where`` names its origin in errors."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        said = str(error).replace('in "<unicode string>", ', "in ")
        raise UserError(f"{where}: not valid YAML: {said}") from error


Location = tuple[Any, ...]


@dataclass(frozen=True)
class Origin:
    """Where each key of a configuration was written, for errors.

    Attributes:
        file: the file, or whatever else holds the keys.
        lines: the line (from 1) of each key.
        overrides: the ``--set`` text that gave a key.
    """

    file: str
    lines: Mapping[Location, int] = field(default_factory=dict)
    overrides: Mapping[Location, str] = field(default_factory=dict)

    def at(self, location: Location) -> str:
        """Return what stands before a message about the key at ``location``."""
        for length in range(len(location), 0, -1):
            part = location[:length]
            if part in self.overrides:
                return self.overrides[part]
            if part in self.lines:
                return f"{self.file}:{self.lines[part]}"
        return self.file

    def of_cell(self, parameters: Sequence[str]) -> Origin:
        """Return, for a sweep file's origin, that of a trial: keys of ``base``, those of the cell, the resources."""
        named = {(table, key): (*key.split("."),) for key in parameters for table in ("grid", "space")}

        def inner(places: Mapping[Location, Any]) -> dict[Location, Any]:
            own = {at: place for at, place in places.items() if at[0] == "resources"}
            base = {at[1:]: place for at, place in places.items() if at[0] == "base" and len(at) > 1}
            cell = {path: places[at] for at, path in named.items() if at in places}
            return {**own, **base, **cell}

        return Origin(self.file, inner(self.lines), inner(self.overrides))


def locate(text: str) -> dict[Location, int]:
    """Return the line (from 1) of each key and list entry of a valid YAML text."""
    out: dict[Location, int] = {}

    def walk(node: yaml.Node | None, location: Location) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                at = (*location, key.value)
                out[at] = key.start_mark.line + 1
                walk(value, at)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                out[(*location, index)] = value.start_mark.line + 1

    walk(yaml.compose(text, Loader=_Loader), ())
    return out


def read_mapping(path: Path) -> Raw:
    """Read a YAML file that must hold a mapping."""
    return read_located(path)[0]


def read_located(path: Path) -> tuple[Raw, Origin]:
    """Read a YAML file that must hold a mapping; return it and where its keys stand."""
    if path.is_dir():
        raise UserError(f"{path}: a folder; a YAML file is expected")
    if not path.is_file():
        neighbours = [str(p) for p in sorted(path.parent.glob("*.yaml"))] if path.parent.is_dir() else []
        raise UserError(f"{path}: no such file{nearest(str(path), neighbours)}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise UserError(f"{path}: a mapping of keys to values is expected, found {_describe(value)}")
    return value, Origin(str(path), locate(text))


def _describe(value: Any) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


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
    """Split ``a.b=c`` into its dotted path and its YAML value."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip() or any(not part for part in path.strip().split(".")):
        raise UserError(f"--set {text}: expected a.b=value, for example --set contrast.temperature=0.5")
    return path.strip(), parse_yaml(value, f"--set {text}")


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_of(part)]


def _models_in(info: FieldInfo) -> list[type[BaseModel]]:
    """The models that a field's section can be."""
    for mark in info.metadata:
        if isinstance(mark, ChosenByName):
            return list(mark.models().values())
    return _models_of(info.annotation)


def _fields(models: Sequence[type[BaseModel]]) -> dict[str, list[FieldInfo]]:
    out: dict[str, list[FieldInfo]] = {}
    for model in models:
        for name, info in model.model_fields.items():
            out.setdefault(name, []).append(info)
    return out


def check_path(path: str, where: str, model: type[BaseModel] = RunConfig) -> None:
    """Raise unless the dotted ``path`` is a key of the configuration."""
    models: list[type[BaseModel]] = [model]
    walked: list[str] = []
    for name in path.split("."):
        fields = _fields(models)
        if name not in fields:
            raise UserError(f"{where}: unknown key '{path}'{_suggest(walked, name, fields, model)}")
        walked.append(name)
        models = [m for info in fields[name] for m in _models_in(info)]


def all_paths(model: type[BaseModel] = RunConfig) -> Iterator[str]:
    """Yield every dotted path of a configuration."""
    for name, info in model.model_fields.items():
        yield name
        for inner in _models_in(info):
            yield from (f"{name}.{rest}" for rest in all_paths(inner))


def _suggest(walked: Sequence[str], name: str, fields: Mapping[str, Any], model: type[BaseModel]) -> str:
    prefix = "".join(f"{part}." for part in walked)
    if not fields:
        return f"; '{prefix[:-1]}' is a value, not a section"
    hint = nearest(name, fields)
    if not hint:
        # The right key in the wrong section is as common as a typing error.
        homes = sorted({path for path in all_paths(model) if path.split(".")[-1] == name} - {prefix + name})
        hint = f" (did you mean '{homes[0]}'?)" if homes else ""
    return f"{hint}; allowed in '{prefix[:-1] or 'the file'}': {', '.join(sorted(fields))}"


def _value_at(raw: Any, location: Sequence[Any]) -> Any:
    for part in location:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _real_location(raw: Any, location: Sequence[Any]) -> tuple[Any, ...]:
    """Drop the parts that pydantic adds for union members (they are not keys of the file)."""
    out: list[Any] = []
    at = raw
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if (isinstance(at, Mapping) and part in at) or (
            isinstance(at, (list, tuple)) and isinstance(part, int) and part < len(at)
        ):
            out.append(part)
            at = at[part]
        elif last and isinstance(at, Mapping) and not _is_union_tag(part):
            out.append(part)
    return tuple(out)


def _models_at(model: type[BaseModel], location: Sequence[Any]) -> list[type[BaseModel]]:
    """The models (the members of a union) that the section at ``location`` can be."""
    models: list[type[BaseModel]] = [model]
    for part in location:
        inner = [m for info in _fields(models).get(str(part), []) for m in _models_in(info)]
        models = inner or models  # a free key of a mapping keeps its members
    return models


def _tags(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """The names that the discriminated union at ``location`` knows."""
    first = [next(iter(m.model_fields.values())).annotation for m in _models_at(model, location)]
    return [str(tag) for annotation in first for tag in get_args(annotation)]


def _is_union_tag(part: Any) -> bool:
    return isinstance(part, str) and (part.startswith(("constrained-", "literal[", "function-")) or part in _TYPE_TAGS)


_TYPE_TAGS = {"int", "float", "str", "bool", "none", "choices"}


_RULES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "int_type": lambda limits: "a whole number is expected",
    "float_type": lambda limits: "a number is expected",
    "bool_type": lambda limits: "true or false is expected",
    "string_type": lambda limits: "a text is expected",
    "list_type": lambda limits: "a list is expected, for example [1, 2]",
    "tuple_type": lambda limits: "a list is expected, for example [1, 2]",
    "dict_type": lambda limits: "a section of keys and values is expected",
    "model_type": lambda limits: "a section of keys and values is expected",
    "model_attributes_type": lambda limits: "a section of keys and values is expected",
    "greater_than": lambda limits: f"it must be above {limits['gt']:g}",
    "greater_than_equal": lambda limits: f"it must be at least {limits['ge']:g}",
    "less_than": lambda limits: f"it must be below {limits['lt']:g}",
    "less_than_equal": lambda limits: f"it must be at most {limits['le']:g}",
    "finite_number": lambda limits: "it must be a finite number",
    "too_short": lambda limits: f"it needs at least {limits['min_length']} value(s)",
    "string_too_short": lambda limits: "it must not be empty",
    "invalid_key": lambda limits: "a key must be a text",
}
"""Rules in words of a YAML file, by pydantic's name of the fault."""


def explain(error: ValidationError, raw: Any, origin: Origin, model: type[BaseModel], recipe: bool = True) -> str:
    """Turn a validation error into one line a fault: file and line, key, value, rule, nearest spelling.

    Args:
        error: what pydantic found.
        raw: what was checked.
        origin: where its keys stand.
        model: the whole that it was checked against.
        recipe: whether a recipe was found; if not, the keys that it would have given are called missing only if
            nothing else is wrong.
    """
    lines: list[str] = []
    missing: list[str] = []
    for fault in error.errors(include_url=False):
        location = _real_location(raw, fault["loc"])
        if fault["type"] == "missing" and not recipe and location[0] == "training":
            missing.append(f"{origin.at(location)}: {_fault(fault, raw, location, model)}")
            continue
        if fault["type"] == "value_error" and isinstance(fault["ctx"]["error"], Clashes):
            for key, said in fault["ctx"]["error"].clashes:
                lines.append(f"{origin.at((*location, *key.split('.')))}: {said}")
            continue
        lines.append(f"{origin.at(location)}: {_fault(fault, raw, location, model)}")
    return "\n".join(dict.fromkeys(lines or missing)) or f"{origin.file}: {error}"


def _fault(fault: Any, raw: Any, location: Location, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in location)
    value = _value_at(raw, location)
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{key}' (value {_show(value)}){_unknown(raw, location, model)}"
    if fault["type"] == "missing":
        return f"'{key}' is missing; it must be given"
    if fault["type"] == "not_one_of":
        known = str(fault["ctx"]["known"]).split(", ")
        return f"'{key}' is {_show(value)}{nearest(str(value), known)}; allowed: {', '.join(known)}"
    if fault["type"] == "unknown_choice":
        known, got = str(fault["ctx"]["known"]).split(", "), value.get("name")
        what = f"is {_show(got)}{nearest(str(got), known)}" if got is not None else "is missing"
        return f"'{key}.name' {what}; allowed: {', '.join(known)}"
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        tag = str(fault["ctx"]["discriminator"]).strip("'")
        got = value.get(tag) if isinstance(value, Mapping) else None
        tags = _tags(model, location)
        what = f"is {_show(got)}{nearest(str(got), tags)}" if got is not None else "is missing"
        return f"'{key}.{tag}' {what}; allowed: {', '.join(tags)}"
    if fault["type"] == "literal_error":
        allowed_values = re.findall(r"'([^']*)'", str(fault["ctx"]["expected"]))
        hint = nearest(str(value), allowed_values)
        return f"'{key}' is {_show(value)}{hint}; allowed: {fault['ctx']['expected']}"
    if fault["type"] == "value_error":
        return f"{key + ': ' if key else ''}{fault['ctx']['error']!s}"
    rule = _RULES.get(fault["type"])
    said = rule(fault.get("ctx", {})) if rule else fault["msg"][0].lower() + fault["msg"][1:]
    return f"'{key}' is {_show(value)}; {said}"


def _unknown(raw: Any, location: Location, model: type[BaseModel]) -> str:
    """What helps with an unknown key: the nearest spelling, or who has such a key."""
    *section, name = location
    models = _models_at(model, section)
    chosen = _value_at(raw, section)
    if len(models) > 1 and isinstance(chosen, Mapping):  # a union: only the chosen member's keys
        tag = next(iter(models[0].model_fields))
        mine = [m for m in models if chosen.get(tag) in get_args(m.model_fields[tag].annotation)]
        owners = [str(get_args(m.model_fields[tag].annotation)[0]) for m in models if name in m.model_fields]
        if owners:
            return f"; it is a key of {tag}: {', '.join(owners)}, not of {tag}: {chosen.get(tag)}"
        models = mine
    return _suggest([str(part) for part in section], str(name), _fields(models), model)


def _show(value: Any) -> str:
    """Return a value as YAML has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


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
    raise UserError(
        f"there is no '{kind}' recipe for encoder {encoder} on {' or '.join(names)}; set recipe: none and give every "
        "key of 'training'"
    )


def resolve(raw: Raw, where: str | Origin) -> RunConfig:
    """Put the recipe under ``raw`` and check the whole.

    Raises:
        UserError: with a line for each fault.
    """
    origin = where if isinstance(where, Origin) else Origin(where)
    kind = raw.get("recipe", "full")
    encoder = raw.get("encoder")
    name = encoder.get("name") if isinstance(encoder, Mapping) else None
    names = recipe_names(raw)
    found = kind in ("full", "lite") and bool(names) and isinstance(name, str) and name in specs.encoders()
    whole = merge(read_recipe(str(name), names, str(kind)), raw) if found else raw
    try:
        return RunConfig.model_validate(whole)
    except ValidationError as error:
        raise UserError(explain(error, whole, origin, RunConfig, found or kind == "none")) from None


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


def load_run(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read, merge and check a run file.

    Args:
        path: the YAML file.
        overrides: ``a.b=c`` texts, each replacing one key.

    Raises:
        UserError: with a line for each fault.
    """
    raw, origin = read_located(path)
    return resolve_with(raw, origin, overrides)


def resolve_with(raw: Raw, where: str | Origin, overrides: Sequence[str]) -> RunConfig:
    """Put ``a.b=c`` texts into ``raw`` (changed in place) and check the whole; raises as ``load_run``."""
    origin = where if isinstance(where, Origin) else Origin(where)
    given, faults = override(raw, overrides, _run_path)
    try:
        config = resolve(raw, replace(origin, overrides=given))
    except UserError as error:
        faults.append(str(error))
    if faults:
        raise UserError("\n".join(faults))
    return config


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
