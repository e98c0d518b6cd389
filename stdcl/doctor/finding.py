"""One thing that was looked at."""

from __future__ import annotations

import textwrap
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

    def render(self, width: int) -> str:
        """Return lines of at most ``width``, but for words that are longer, such as paths."""
        mark = f"[{self.state:^4}] "
        return textwrap.fill(
            f"{mark}{self.what}: {self.text}",
            width,
            subsequent_indent=" " * len(mark),
            break_long_words=False,
            break_on_hyphens=False,
        )
