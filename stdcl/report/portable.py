"""A run's files as others may have them: without the folders of this machine. A damaged one stays as it lies."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stdcl.config.model import METHOD
from stdcl.config.yaml_text import dump_yaml, parse_yaml
from stdcl.errors import UserError
from stdcl.results.layout import place_below

_COMMAND, _MORE = "command", "more"
_FOLDERS = ("taken_from", "init_from")
"""Facts of a result that are run folders."""
_RUNS = ("run", "warm_start")
"""Keys of a sweep's file that are folders of runs and sweeps; others are data and texts."""
_BEFORE = r"(?<![\w.:/~$}<-])"
_WHOLE = re.compile(_BEFORE + r"/[^\s'\"{}\[\],;=]+")
"""A whole path within other text: no part of an address, of a relative path or of one below a variable."""


def folders_named(command: str, storage: Path) -> dict[str, str]:
    """Return the whole paths that a command names -> what others may read: the place below the storage, or the name."""
    try:
        words = shlex.split(command)
    except ValueError:
        return {}
    found: set[str] = set()
    for word in words:
        value = word if word.startswith("/") else word.partition("=")[2] or word
        found |= {value} if value.startswith("/") else set(_WHOLE.findall(value))
    return {path: place_below(path, storage) for path in found if Path(path).name}


def without_folders(content: bytes, named: Mapping[str, str]) -> bytes:
    """Return a text, or a page, with what ``folders_named`` has found replaced."""
    for whole in sorted(named, key=len, reverse=True):
        for form in (str, escape):
            # Nothing that merely contains it: `/p` is a part of `</p>` and of `a/path`.
            pattern = f"{_BEFORE}{re.escape(form(whole))}(?![\\w-])".encode()
            content = re.sub(pattern, partial(_fixed, form(named[whole]).encode()), content)
    return content


def _fixed(text: bytes, _: re.Match[bytes]) -> bytes:
    return text


def portable_config(content: bytes, storage: Path) -> bytes:
    """Return a configuration; of data and texts that stood at a whole path the last part stays, of runs the place."""
    try:
        config = parse_yaml(content.decode(), "")
    except (UserError, UnicodeDecodeError):
        return content
    changed = False
    for section, key in (("data", "path"), (METHOD, "texts"), ("init_from", "run")):
        values = config.get(section) if isinstance(config, dict) else None
        if isinstance(values, dict) and Path(str(values.get(key, ""))).is_absolute():
            values[key] = place_below(values[key], storage) if section == "init_from" else Path(values[key]).name
            changed = True
    return dump_yaml(config).encode() if changed else content


def portable_sweep(content: bytes, storage: Path) -> bytes:
    """Return a sweep's file: the same of every whole path in it."""
    try:
        sweep = parse_yaml(content.decode(), "")
    except (UserError, UnicodeDecodeError):
        return content
    placed = _without_whole(sweep, "", storage)
    return content if placed == sweep else dump_yaml(placed).encode()


def portable_plan(content: bytes, storage: Path) -> bytes:
    """Return a plan: the same of every whole path in it."""
    try:
        plan = json.loads(content)
    except ValueError:
        return content
    placed = _without_whole(plan, "", storage)
    return content if placed == plan else (json.dumps(placed, indent=2, ensure_ascii=False) + "\n").encode()


def portable_added(content: bytes, storage: Path) -> bytes:
    """Return what was added to a plan, a line each: the same. A last line that is being written stays as it is."""
    *lines, last = content.split(b"\n")
    try:
        trials = [json.loads(line) for line in lines]
    except ValueError:
        return content
    placed = [_without_whole(trial, "", storage) for trial in trials]
    if placed == trials:
        return content
    return b"".join(json.dumps(trial, ensure_ascii=False).encode() + b"\n" for trial in placed) + last


def _without_whole(value: Any, key: str, storage: Path) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_whole(each, str(name), storage) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_whole(each, key, storage) for each in value]
    if not isinstance(value, str) or not Path(value).is_absolute():
        return value
    return place_below(value, storage) if key.rpartition(".")[2] in _RUNS else Path(value).name


def portable_result(content: bytes, storage: Path) -> bytes:
    """Return a run's result."""
    try:
        values = json.loads(content)
    except ValueError:
        return content
    placed = _placed(values, storage)
    return content if placed == values else (json.dumps(placed, indent=2) + "\n").encode()


def portable_rows(content: bytes, storage: Path) -> bytes:
    """Return a file of the results store."""
    try:
        table = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read(use_threads=False)
        texts = table.column(_MORE).to_pylist()
        facts = [json.loads(text or "{}") for text in texts]
        typed: list[str | None] = table.column(_COMMAND).to_pylist()
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return content
    placed = [_placed(each, storage) for each in facts]
    commands = [text and without_folders(text.encode(), folders_named(text, storage)).decode() for text in typed]
    if (placed, commands) == (facts, typed):
        return content
    out = pa.BufferOutputStream()
    for name, texts in ((_MORE, [json.dumps(each, ensure_ascii=False) for each in placed]), (_COMMAND, commands)):
        table = table.set_column(table.column_names.index(name), name, pa.array(texts, pa.string()))
    pq.write_table(table, out, write_page_checksum=True)
    return bytes(out.getvalue())


def _placed(values: Any, storage: Path) -> Any:
    if not isinstance(values, Mapping):
        return values
    return {
        name: place_below(value, storage) if name in _FOLDERS and isinstance(value, str) else value
        for name, value in values.items()
    }
