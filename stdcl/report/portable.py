"""A run's files as others may have them: without the folders of this machine. A damaged one stays as it lies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stdcl.config.model import METHOD
from stdcl.config.yaml_text import dump_yaml, parse_yaml
from stdcl.errors import UserError
from stdcl.results.layout import place_below

_MORE = "more"
_FOLDERS = ("taken_from", "init_from")
"""Facts of a result that are run folders."""


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
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return content
    placed = [_placed(each, storage) for each in facts]
    if placed == facts:
        return content
    new = pa.array([json.dumps(each, ensure_ascii=False) for each in placed], pa.string())
    out = pa.BufferOutputStream()
    changed = table.set_column(table.column_names.index(_MORE), _MORE, new)
    pq.write_table(changed, out, write_page_checksum=True)
    return bytes(out.getvalue())


def _placed(values: Any, storage: Path) -> Any:
    if not isinstance(values, Mapping):
        return values
    return {
        name: place_below(value, storage) if name in _FOLDERS and isinstance(value, str) else value
        for name, value in values.items()
    }
