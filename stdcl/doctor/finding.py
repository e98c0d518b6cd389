"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``ok``, ``note`` (works, but know this), or ``bad`` (will not work)."""

    what: str
    state: Literal["ok", "note", "bad"]
    text: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def render(self) -> str:
        return f"[{self.state:^4}] {self.what}: {self.text}"
