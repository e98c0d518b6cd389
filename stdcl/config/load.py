"""From a YAML file (and ``--set`` overrides) to a checked configuration.

Order of precedence, weakest first: defaults of the model, recipe, file, overrides. Whatever is wrong is reported
at once, each with file, key, value, rule and the nearest right spelling.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from stdcl.config.model import PROTOCOLS, RunConfig
from stdcl.errors import UserError, nearest

Raw = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as in PyYAML's safe loader, but 1e-4 is a number and a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
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
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {error}") from error


def read_mapping(path: Path) -> Raw:
    """Read a YAML file that must hold a mapping."""
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
    return value


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
        models = [m for info in fields[name] for m in _models_of(info.annotation)]


def all_paths(model: type[BaseModel] = RunConfig) -> Iterator[str]:
    """Yield every dotted path of a configuration."""
    for name, info in model.model_fields.items():
        yield name
        for inner in _models_of(info.annotation):
            yield from (f"{name}.{rest}" for rest in all_paths(inner))


def _suggest(walked: Sequence[str], name: str, fields: Mapping[str, Any], model: type[BaseModel]) -> str:
    prefix = "".join(f"{part}." for part in walked)
    hint = nearest(name, fields)
    if not hint:
        # The right key in the wrong section is as common as a typing error.
        homes = sorted({path for path in all_paths(model) if path.split(".")[-1] == name})
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


def _tags(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """The names that the discriminated union at ``location`` knows."""
    models: list[type[BaseModel]] = [model]
    for part in location:
        inner = [m for info in _fields(models).get(str(part), []) for m in _models_of(info.annotation)]
        models = inner or models  # a free key of a mapping keeps its members
    first = [next(iter(m.model_fields.values())).annotation for m in models]
    return [str(tag) for annotation in first for tag in get_args(annotation)]


def _is_union_tag(part: Any) -> bool:
    return isinstance(part, str) and (part.startswith(("constrained-", "literal[", "function-")) or part in _TYPE_TAGS)


_TYPE_TAGS = {"int", "float", "str", "bool", "none", "hcn", "agcn", "ctrgcn", "hyperformer", "infogcn", "choices"}


def explain(error: ValidationError, raw: Any, where: str, model: type[BaseModel]) -> str:
    """Turn a validation error into one line a fault: file, key, value, rule, nearest spelling."""
    lines: list[str] = []
    for fault in error.errors(include_url=False):
        location = _real_location(raw, fault["loc"])
        key = ".".join(str(part) for part in location)
        value = _value_at(raw, location)
        if fault["type"] == "extra_forbidden":
            models: list[type[BaseModel]] = [model]
            for part in location[:-1]:
                models = [m for info in _fields(models).get(str(part), []) for m in _models_of(info.annotation)]
            chosen = _value_at(raw, location[:-1])
            if len(models) > 1 and isinstance(chosen, Mapping):  # a union: only the chosen member's keys
                models = [m for m in models if chosen.get("name") in get_args(m.model_fields["name"].annotation)]
            hint = _suggest([str(p) for p in location[:-1]], str(location[-1]), _fields(models), model)
            lines.append(f"{where}: unknown key '{key}' (value {value!r}){hint}")
        elif fault["type"] == "missing":
            lines.append(f"{where}: '{key}' is missing; it must be given")
        elif fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
            tag = str(fault["ctx"]["discriminator"]).strip("'")
            got = value.get(tag) if isinstance(value, Mapping) else None
            tags = _tags(model, location)
            what = f"is {got!r}{nearest(str(got), tags)}" if got is not None else "is missing"
            lines.append(f"{where}: '{key}.{tag}' {what}; allowed: {', '.join(tags)}")
        elif fault["type"] == "literal_error":
            allowed_values = re.findall(r"'([^']*)'", str(fault["ctx"]["expected"]))
            hint = nearest(str(value), allowed_values)
            lines.append(f"{where}: '{key}' is {value!r}{hint}; allowed: {fault['ctx']['expected']}")
        elif fault["type"] == "value_error":
            lines.append(f"{where}: {key + ': ' if key else ''}{fault['ctx']['error']!s}")
        else:
            rule = fault["msg"][0].lower() + fault["msg"][1:]
            lines.append(f"{where}: '{key}' is {value!r}; {rule}")
    unique = list(dict.fromkeys(lines))
    return "\n".join(unique)


def benchmark_of(raw: Mapping[str, Any]) -> str | None:
    """Return the recipe's benchmark name (``nw-ucla``, ``ntu60-xsub``, ...) for a raw configuration, if it has one."""
    data = raw.get("data")
    if not isinstance(data, Mapping):
        return None
    dataset = data.get("dataset")
    if dataset not in PROTOCOLS:
        # A custom dataset takes the NTU recipe: the one made for larger, multi-person data.
        return "ntu60-xsub" if dataset == "custom" else None
    protocol = data.get("protocol", "default")
    if protocol == "default":
        protocol = PROTOCOLS[dataset][0]
    return dataset if dataset == "nw-ucla" else f"{dataset}-{str(protocol).replace('-', '')}"


def read_recipe(encoder: str, benchmark: str, kind: str) -> Raw:
    """Return a shipped recipe's keys: ``recipes/<encoder>/<benchmark>.<kind>.yaml``, or ``ntu.<kind>.yaml``."""
    folder = resources.files("stdcl").joinpath("recipes", encoder)
    names = [f"{benchmark}.{kind}.yaml"] + ([f"ntu.{kind}.yaml"] if benchmark.startswith("ntu") else [])
    for name in names:
        file = folder.joinpath(name)
        if file.is_file():
            recipe = parse_yaml(file.read_text(encoding="utf-8"), f"recipe {encoder}/{name}")
            return {key: value for key, value in recipe.items() if key != "source"}
    raise UserError(f"there is no '{kind}' recipe for {encoder} on {benchmark}; set recipe: none and give every key")


def resolve(raw: Raw, where: str) -> RunConfig:
    """Put the recipe under ``raw`` and check the whole.

    Raises:
        UserError: with a line for each fault.
    """
    kind = raw.get("recipe", "full")
    encoder = raw.get("encoder")
    name = encoder.get("name") if isinstance(encoder, Mapping) else None
    benchmark = benchmark_of(raw)
    whole = raw
    if (
        kind in ("full", "lite")
        and benchmark is not None
        and name in ("hcn", "agcn", "ctrgcn", "hyperformer", "infogcn")
    ):
        whole = merge(read_recipe(name, benchmark, kind), raw)
    try:
        return RunConfig.model_validate(whole)
    except ValidationError as error:
        raise UserError(explain(error, whole, where, RunConfig)) from None


def load_run(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read, merge and check a run file.

    Args:
        path: the YAML file.
        overrides: ``a.b=c`` texts, each replacing one key.

    Raises:
        UserError: with a line for each fault.
    """
    raw = read_mapping(path)
    for text in overrides:
        key, value = parse_override(text)
        check_path(key, f"--set {text}")
        put(raw, key, value)
    return resolve(raw, str(path))


def validate_fragment(model: type[BaseModel] | TypeAdapter[Any], raw: Any, where: str) -> Any:
    """Check ``raw`` against any model, with this module's error texts."""
    try:
        return model.validate_python(raw) if isinstance(model, TypeAdapter) else model.model_validate(raw)
    except ValidationError as error:
        root = model if not isinstance(model, TypeAdapter) else RunConfig
        raise UserError(explain(error, raw, where, root)) from None
