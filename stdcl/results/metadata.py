"""Facts in the metadata of a Parquet file: texts by name, under a prefix of their own."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa


def with_facts(table: pa.Table, prefix: str, facts: Mapping[str, str]) -> pa.Table:
    """Return the table with these facts as its only metadata."""
    return table.replace_schema_metadata({f"{prefix}{name}": value for name, value in facts.items()})


def facts_of(schema: pa.Schema, prefix: str) -> dict[str, str]:
    """Return the facts under a prefix, without it; bytes that are no UTF-8 become replacement characters."""
    metadata: Mapping[bytes, bytes] = schema.metadata or {}
    texts = ((name.decode(errors="replace"), value.decode(errors="replace")) for name, value in metadata.items())
    return {name.removeprefix(prefix): value for name, value in texts if name.startswith(prefix)}
