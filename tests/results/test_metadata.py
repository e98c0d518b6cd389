from __future__ import annotations

import pyarrow as pa

from stdcl.results.metadata import facts_of, with_facts


def test_facts_come_back_and_others_are_not_ours() -> None:
    table = with_facts(pa.table({"x": [1]}), "mine.", {"name": "Umlaut ü", "empty": ""})
    assert table.schema.metadata == {b"mine.name": "Umlaut ü".encode(), b"mine.empty": b""}
    assert facts_of(table.schema, "mine.") == {"name": "Umlaut ü", "empty": ""}
    assert facts_of(table.schema, "other.") == {}
    assert facts_of(pa.schema([]), "mine.") == {}
    odd = table.replace_schema_metadata({b"mine.name": b"\xff", b"\xfe": b"x"})
    assert facts_of(odd.schema, "mine.") == {"name": "�"}
