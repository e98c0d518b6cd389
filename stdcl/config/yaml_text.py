"""YAML as this project reads and writes it: the core schema of YAML 1.2, with merge keys.

PyYAML follows YAML 1.1, where 010 is eight, 1:30 is ninety, ``no`` is false and 2024-01-01 is a date. In YAML 1.2 they
are ten and three texts.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator
from typing import Any

import yaml

from stdcl.errors import UserError

Location = tuple[Any, ...]
"""Keys and list indices that lead to a value."""

_LARGEST = 100_000
"""Values in one text beyond which aliases may not multiply them further."""
_LARGEST_GROWTH = 10
"""How often, on average, such a text may repeat a value."""
_LONGEST = 80
"""Characters of a value in a message."""
_LONGEST_NUMBER = 1000
"""Characters of a number."""

_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_PREFIX = "tag:yaml.org,2002:"
_SCHEMA = (  # the first that fits
    ("null", _NULL, ["~", "n", "N", ""]),
    ("bool", _BOOL, list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+0123456789.")),
    ("merge", re.compile(r"^<<$"), ["<"]),
)
_TAGS = {f"{_PREFIX}{name}" for name in ("null", "bool", "int", "float", "merge", "str", "seq", "map")}


class _Loader(yaml.SafeLoader):
    """Constructs plain values of the core schema alone."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        node = super().compose_node(parent, index)
        if node is not None and node.tag not in _TAGS:
            raise _error(f"the tag '{node.tag.replace(_PREFIX, '!!')}' is not supported", node)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error("a list or a section cannot be a key", key)
            if (key.tag, key.value) in seen:
                raise _error(f"the key '{key.value}' is given twice", key)
            seen.add((key.tag, key.value))
        return node

    def construct_checked(self, node: yaml.ScalarNode) -> Any:
        """Return the value of a null, true or false, or number."""
        kind, text = node.tag.removeprefix(_PREFIX), node.value
        pattern = {"null": _NULL, "bool": _BOOL, "int": _INT, "float": _FLOAT}[kind]
        if not pattern.match(text):  # an explicit tag: !!int abc
            raise _error(f"'{text[:_LONGEST]}' is not of the type {kind}", node)
        if len(text) > _LONGEST_NUMBER:
            raise _error(f"a number of {len(text)} characters", node)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text, 10)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _error(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in _SCHEMA:
    _Loader.add_implicit_resolver(f"{_PREFIX}{_name}", _pattern, _first)
    if _name != "merge":
        _Loader.add_constructor(f"{_PREFIX}{_name}", _Loader.construct_checked)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = not any(pattern.match(text) for _, pattern, _ in _SCHEMA)
    return dumper.represent_scalar(f"{_PREFIX}str", text, style=None if plain else "'")


_Dumper.add_representer(str, _represent_text)


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML text; ``where`` names its origin in errors.

    Raises:
        UserError: in one line, with the place.
    """
    return _parsed(text, where)[0]


def parse_located(text: str, where: str) -> tuple[Any, dict[Location, int]]:
    """Parse YAML text; return the value, and the line (from 1) of each key and list entry.

    Raises:
        UserError: as ``parse_yaml``.
    """
    value, node = _parsed(text, where)
    return value, _lines(node)


def _parsed(text: str, where: str) -> tuple[Any, yaml.Node | None]:
    """The value and what it was made of: the reader is by far the slowest part of a long file."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            value = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {_problem(error, text)}") from error
    except RecursionError as error:
        raise UserError(f"{where}: not valid YAML: nested too deeply") from error
    _check_size(value, where)
    return value, node


def _problem(error: yaml.YAMLError, text: str) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    said = " ".join(part for part in (error.problem, error.context) if part)
    mark = error.problem_mark or error.context_mark
    if mark is None or "\n" not in text.rstrip("\n"):
        return said
    return f"{said} (line {mark.line + 1}, column {mark.column + 1})"


def _check_size(value: Any, where: str) -> None:
    """Raise for a value that contains itself, or is far larger than its text because aliases repeat its parts."""
    sizes: dict[int, int] = {}  # of each list and section, with what is in it
    above: set[int] = set()
    written = 0

    def size(part: Any) -> int:
        nonlocal written
        if not isinstance(part, dict | list):
            return 1
        if id(part) in above:
            raise UserError(f"{where}: not valid YAML here: an alias (*) inside what it stands for")
        if id(part) not in sizes:
            above.add(id(part))
            written += len(part)
            sizes[id(part)] = 1 + sum(map(size, part.values() if isinstance(part, dict) else part))
            above.discard(id(part))
        return sizes[id(part)]

    if size(value) > max(_LARGEST, _LARGEST_GROWTH * written):
        raise UserError(f"{where}: more than {_LARGEST:,} values; aliases (*) repeat their parts too often")


def _lines(root: yaml.Node | None) -> dict[Location, int]:
    """The line of each key and list entry of a tree from which a value was made.

    That has put what a section merges (<<) in front of its own keys, which are stronger and come later.
    """
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
                walk(value, (*location, index))

    walk(root, ())
    return out


def dump_yaml(value: Any) -> str:
    """Return plain values as YAML that every version of it reads as the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxdict, self.maxtuple = 3, 6, 4, 6
        self.maxstring = self.maxother = self.maxlong = _LONGEST

    def repr1(self, x: Any, level: int) -> str:
        if x is None or isinstance(x, bool):
            return {None: "null", True: "true", False: "false"}[x]
        return super().repr1(x, level)


def show(value: Any) -> str:
    """Return a value for a message: as YAML has it, shortened."""
    text = _Short().repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def walk_texts(value: Any, location: Location = ()) -> Iterator[tuple[Location, str]]:
    """Yield every text among plain values, with its place."""
    if isinstance(value, str):
        yield location, value
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from walk_texts(inner, (*location, key))
