"""JSON Schema (draft 2020-12) of run and sweep files, for editors; made of the classes that check the files.

A schema knows keys, types, choices and limits. What keys mean together is checked by the commands alone.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel

from stdcl.config.arms import ARM, AXES
from stdcl.config.checkpoints import CHECKPOINTS
from stdcl.config.contrast import CONTRAST, ContrastConfig, ReadingsConfig
from stdcl.config.model import DataConfig, RunConfig, TrainingConfig
from stdcl.config.section import Section
from stdcl.config.sweep import SweepConfig

Kind = Literal["run", "sweep"]
Json = dict[str, Any]
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FILLED = (RunConfig, DataConfig, TrainingConfig)
"""Sections whose required keys a recipe or the command can fill."""
_DEFS = "$defs"


def json_schema(kind: Kind) -> Json:
    """Return the schema of run files or of sweep files."""
    run = _run()
    return {"$schema": _DIALECT, **(run if kind == "run" else _sweep(run))}


def _run() -> Json:
    schema = RunConfig.model_json_schema()
    definitions = schema[_DEFS]
    _describe(definitions | {RunConfig.__name__: schema})
    for model in _FILLED:
        (schema if model is RunConfig else definitions[model.__name__]).pop("required", None)
    # As release 0.1 wrote them: contrast.slots for contrast.readings.slots.
    contrast, readings = (definitions[model.__name__]["properties"] for model in (ContrastConfig, ReadingsConfig))
    contrast |= {key: value for key, value in readings.items() if key not in contrast}
    schema["title"] = "A run file of stdcl"
    return schema


def _sweep(run: Json) -> Json:
    schema = SweepConfig.model_json_schema()
    definitions = run.pop(_DEFS) | schema.pop(_DEFS)
    properties = schema["properties"]
    _describe(definitions | {SweepConfig.__name__: schema})
    varied = dict(_dotted(run, definitions))
    plugins = {"^(encoder|method)\\.": True}
    values = {"patternProperties": plugins, "additionalProperties": False, "type": "object"}
    several = {key: {"anyOf": [each, {"type": "array", "items": each}]} for key, each in varied.items()}
    parameter = properties["space"]["additionalProperties"]
    properties["base"] |= {
        "properties": {key: value for key, value in run["properties"].items() if key not in ("resources", CHECKPOINTS)},
        "additionalProperties": False,
    }
    properties["grid"] |= {**values, "properties": {k: {"type": "array", "items": v} for k, v in varied.items()}}
    properties["cells"]["items"] = {**values, "properties": varied}
    properties["exclude"]["items"] = {**values, "properties": {**several, ARM: {}}}
    properties["arms"]["additionalProperties"] = {**values, "properties": varied}
    properties["space"] |= {
        **values,
        "properties": dict.fromkeys(varied, parameter),
        "patternProperties": dict.fromkeys(plugins, parameter),
    }
    properties["compare"] = {"anyOf": [properties["compare"], {"type": ["string", "object"]}]}
    properties["table"] = {"anyOf": [properties["table"], {"type": "integer"}]}
    properties["extends"] = {
        "type": "string",
        "description": "A sweep file beside this one, whose keys hold where this file gives none.",
    }
    schema |= {_DEFS: definitions, "title": "A sweep file of stdcl", "required": ["name", "question"]}
    return schema


def _dotted(run: Json, definitions: Json) -> Iterator[tuple[str, Json]]:
    """Yield the dotted keys that a sweep can vary, and the short names of axes, with what their values are."""
    found: dict[str, list[Json]] = {}

    def walk(schema: Json, prefix: str) -> None:
        for name, value in _properties(schema, definitions):
            if any(True for _ in _properties(value, definitions)):
                walk(value, f"{prefix}{name}.")
            elif value not in (known := found.setdefault(f"{prefix}{name}", [])):
                known.append(value)

    for section in ("data", "encoder", CONTRAST, "method", "training"):
        walk(run["properties"][section], f"{section}.")
    for key, values in found.items():
        yield key, values[0] if len(values) == 1 else {"anyOf": values}
    for short, dotted in AXES.items():
        yield short, {"anyOf": found[dotted]}


def _properties(schema: Json, definitions: Json) -> Iterator[tuple[str, Json]]:
    """Yield the keys of a section, of each that it can be."""
    if "$ref" in schema:
        yield from _properties(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    yield from schema.get("properties", {}).items()
    for inner in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _properties(inner, definitions)
    for chosen in schema.get("allOf", ()):
        yield from _properties(chosen.get("then", chosen), definitions)


def _describe(schemas: Mapping[str, Json]) -> None:
    """Let each key say what the documentation says of it."""
    for model in _subclasses(Section):
        properties = schemas.get(model.__name__, {}).get("properties", {})
        for key, text in (_meanings(model) if properties else {}).items():
            if key in properties:
                properties[key] = {**properties[key], "description": text}


def _subclasses(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in model.__subclasses__():
        yield each
        yield from _subclasses(each)


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """What stands below each field of a class, those of its bases included."""
    out: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if not (issubclass(each, Section) and each is not Section):
            continue
        try:
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        except (OSError, TypeError):  # made at run time
            continue
        assert isinstance(node, ast.ClassDef)
        for item, following in zip(node.body, node.body[1:], strict=False):
            said = following.value if isinstance(following, ast.Expr) else None
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and isinstance(said, ast.Constant):
                out[item.target.id] = " ".join(str(said.value).split())
    return out
