"""The keys of a configuration: which dotted paths there are, and what is near a wrong one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stdcl.config.contrast import ReadingsConfig, long_key
from stdcl.config.model import RunConfig
from stdcl.config.section import ChosenByName
from stdcl.errors import UserError, nearest


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


def fields_of(models: Sequence[type[BaseModel]]) -> dict[str, list[FieldInfo]]:
    """Return the fields by name that a section of one of ``models`` can have."""
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
        fields = fields_of(models)
        if name not in fields:
            raise UserError(f"{where}: unknown key '{path}'{suggest(walked, name, fields, model)}")
        walked.append(name)
        models = [m for info in fields[name] for m in _models_in(info)]


def is_section(path: str) -> bool:
    """Whether the dotted ``path``, a key of the configuration, is a section of keys instead of a value."""
    *section, name = path.split(".")
    return any(_models_in(info) for info in fields_of(models_at(RunConfig, section))[name])


def all_paths(model: type[BaseModel] = RunConfig) -> Iterator[str]:
    """Yield every dotted path of a configuration."""
    for name, info in model.model_fields.items():
        yield name
        for inner in _models_in(info):
            yield from (f"{name}.{rest}" for rest in all_paths(inner))


def suggest(walked: Sequence[str], name: str, fields: Mapping[str, Any], model: type[BaseModel]) -> str:
    """Return what helps with an unknown key ``name`` in the section ``walked``: the nearest spelling, or all."""
    prefix = "".join(f"{part}." for part in walked)
    if not fields:
        return f"; '{prefix[:-1]}' is a value, not a section"
    short = [key for key in ReadingsConfig.model_fields if long_key(prefix + key) != prefix + key]
    hint = "" if name in short else nearest(name, [*fields, *short])
    if not hint:
        # The right key in the wrong section is as common as a typing error.
        homes = sorted({path for path in all_paths(model) if path.split(".")[-1] == name} - {prefix + name})
        hint = f" (did you mean '{homes[0]}'?)" if homes else ""
    return f"{hint}; allowed in '{prefix[:-1] or 'the file'}': {', '.join(sorted(fields))}"


def models_at(model: type[BaseModel], location: Sequence[Any]) -> list[type[BaseModel]]:
    """Return the models (the members of a union) that the section at ``location`` can be."""
    models: list[type[BaseModel]] = [model]
    for part in location:
        inner = [m for info in fields_of(models).get(str(part), []) for m in _models_in(info)]
        models = inner or models  # a free key of a mapping keeps its members
    return models
