"""Which questions a sweep's table asks, and by what its answers are judged: named before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import model_validator

from stdcl.config.section import Section

Scalar = str | int | float | bool


class CompareConfig(Section):
    """A family of questions, written as ``to baseline``, ``{to value: 8}``, ``trend`` or ``{trend: log}``."""

    kind: Literal["to baseline", "to value", "trend", "nothing"]
    """to baseline: every cell with the one without contrast; to value: every value of the key with one of them; trend:
    whether accuracy rises or falls over ordered values."""
    value: Scalar | None = None
    """Of ``to value``: the reference, one of the grid's values."""
    scale: Literal["rank", "log", "linear"] = "rank"
    """Of ``trend``: how values are placed on a line."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            return {"kind": raw}
        if isinstance(raw, Mapping) and "kind" not in raw and len(raw) == 1:
            ((kind, value),) = raw.items()
            return {"kind": kind, "scale" if kind == "trend" else "value": value}
        return raw

    @model_validator(mode="after")
    def _fits(self) -> CompareConfig:
        if (self.kind == "to value") != (self.value is not None):
            raise ValueError("'to value' needs a value of the grid, as in compare: {to value: 8}")
        return self
