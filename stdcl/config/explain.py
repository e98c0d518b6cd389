"""What is wrong with a configuration, in words: file, line, key, value, rule, nearest right spelling."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from stdcl.config.keys import fields_of, models_at, suggest
from stdcl.config.section import Clashes
from stdcl.config.yaml_text import Location, show
from stdcl.errors import nearest


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

    def of_cell(self, parameters: Sequence[str], arm: str = "") -> Origin:
        """Return, for a sweep file's origin, that of a trial: keys of ``base``, the cell, the arm, the resources."""
        named: dict[Location, Location] = {
            (table, key): (*key.split("."),) for key in parameters for table in ("grid", "space")
        }
        if arm:
            places = {*self.lines, *self.overrides}
            named |= {at: (*at[2].split("."),) for at in places if len(at) == 3 and at[:2] == ("arms", arm)}

        def inner(places: Mapping[Location, Any]) -> dict[Location, Any]:
            own = {at: place for at, place in places.items() if at[0] == "resources"}
            base = {at[1:]: place for at, place in places.items() if at[0] == "base" and len(at) > 1}
            cell = {path: places[at] for at, path in named.items() if at in places}
            return {**own, **base, **cell}

        return Origin(self.file, inner(self.lines), inner(self.overrides))


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
    first = [next(iter(m.model_fields.values())).annotation for m in models_at(model, location)]
    return [str(tag) for annotation in first for tag in get_args(annotation)]


def _is_union_tag(part: Any) -> bool:
    return isinstance(part, str) and (
        part.startswith(("constrained-", "literal[", "function-", "list[", "dict[", "[key]")) or part in _TYPE_TAGS
    )


_TYPE_TAGS = {"int", "float", "str", "bool", "none", "choices"}


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


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
    "greater_than": lambda limits: f"it must be above {_number(limits['gt'])}",
    "greater_than_equal": lambda limits: f"it must be at least {_number(limits['ge'])}",
    "less_than": lambda limits: f"it must be below {_number(limits['lt'])}",
    "less_than_equal": lambda limits: f"it must be at most {_number(limits['le'])}",
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
    faults = [(_real_location(raw, fault["loc"]), fault) for fault in error.errors(include_url=False)]
    for location, fault in faults:
        if fault["type"] in _CONTAINERS and _said_within(location, fault, raw, faults):
            continue
        if fault["type"] == "missing" and not recipe and location[0] == "training":
            missing.append(f"{origin.at(location)}: {_fault(fault, raw, location, model)}")
            continue
        if fault["type"] == "value_error" and isinstance(fault["ctx"]["error"], Clashes):
            for key, said in fault["ctx"]["error"].clashes:
                lines.append(f"{origin.at((*location, *key.split('.')))}: {said}")
            continue
        lines.append(f"{origin.at(location)}: {_fault(fault, raw, location, model)}")
    return "\n".join(dict.fromkeys(lines or missing)) or f"{origin.file}: {error}"


_CONTAINERS = ("list_type", "tuple_type", "dict_type")


def _said_within(location: Location, fault: Any, raw: Any, faults: Sequence[tuple[Location, Any]]) -> bool:
    """Whether a value is a container of another kind that is also allowed here, with a fault of its own."""
    value = _value_at(raw, location)
    return isinstance(value, Mapping | list) and any(
        other is not fault and place[: len(location)] == location for place, other in faults
    )


def _fault(fault: Any, raw: Any, location: Location, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in location)
    value = _value_at(raw, location)
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{key}' (value {show(value)}){_unknown(raw, location, model)}"
    if fault["type"] == "missing":
        return f"'{key}' is missing; it must be given"
    if fault["type"] == "not_one_of":
        return f"'{key}' {_not_among(value, str(fault['ctx']['known']).split(', '))}"
    if fault["type"] == "unknown_choice":
        return f"'{key}.name' {_not_among(value.get('name'), str(fault['ctx']['known']).split(', '))}"
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        tag = str(fault["ctx"]["discriminator"]).strip("'")
        got = value.get(tag) if isinstance(value, Mapping) else None
        return f"'{key}.{tag}' {_not_among(got, _tags(model, location))}"
    if fault["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(fault["ctx"]["expected"]))
        return f"'{key}' is {show(value)}{_near(value, allowed)}; allowed: {fault['ctx']['expected']}"
    if fault["type"] == "value_error":
        return f"{key + ': ' if key else ''}{fault['ctx']['error']!s}"
    if fault["loc"][-1:] == ("[key]",):
        key, value = f"{key}: a key", fault["input"]
    else:
        key = f"'{key}'"
    rule = _RULES.get(fault["type"])
    said = rule(fault.get("ctx", {})) if rule else fault["msg"][0].lower() + fault["msg"][1:]
    return f"{key} is {show(value)}; {said}{_spelling(fault['type'], value)}"


def _not_among(value: Any, allowed: Sequence[str]) -> str:
    what = f"is {show(value)}{_near(value, allowed)}" if value is not None else "is missing"
    return f"{what}; allowed: {', '.join(allowed)}"


def _near(value: Any, allowed: Sequence[str]) -> str:
    return nearest(str(value)[:100].lower(), allowed)


def _spelling(kind: str, value: Any) -> str:
    """What to type where a value has another type than it looks like."""
    if kind == "string_type" and (value is None or isinstance(value, bool | int | float)):
        return "; put it in quotes if it is meant as a text"
    if kind == "bool_type" and isinstance(value, str) and value.lower() in _SAID_OTHERWISE:
        return f"; write {_SAID_OTHERWISE[value.lower()]} (in YAML 1.2 {value} is a text)"
    if kind in ("int_type", "float_type") and isinstance(value, str) and _is_number(value):
        return "; without quotes, colons and underscores it is one"
    return ""


_SAID_OTHERWISE = {"yes": "true", "on": "true", "no": "false", "off": "false", "true": "true", "false": "false"}


def _is_number(text: str) -> bool:
    try:
        float(text.strip().replace(":", "").replace("_", ""))
    except ValueError:
        return False
    return True


def _unknown(raw: Any, location: Location, model: type[BaseModel]) -> str:
    """What helps with an unknown key: the nearest spelling, or who has such a key."""
    *section, name = location
    models = models_at(model, section)
    chosen = _value_at(raw, section)
    if len(models) > 1 and isinstance(chosen, Mapping):  # a union: only the chosen member's keys
        tag = next(iter(models[0].model_fields))
        mine = [m for m in models if chosen.get(tag) in get_args(m.model_fields[tag].annotation)]
        owners = [str(get_args(m.model_fields[tag].annotation)[0]) for m in models if name in m.model_fields]
        if owners:
            return f"; it is a key of {tag}: {', '.join(owners)}, not of {tag}: {chosen.get(tag)}"
        models = mine
    return suggest([str(part) for part in section], str(name), fields_of(models), model)
