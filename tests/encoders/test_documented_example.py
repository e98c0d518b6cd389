"""The encoder that docs/encoders.md shows keeps the contract."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from stdcl.encoders.base import Encoder, Layout
from tests.encoders.contract import EncoderContract

PAGE = Path(__file__).parents[2] / "docs" / "encoders.md"


class TestContract(EncoderContract):
    def build(self, layout: Layout) -> Encoder:
        code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
        scope: dict[str, Any] = {}
        exec(compile(code, str(PAGE), "exec"), scope)
        encoder: Encoder = scope["MeanPose"](layout)
        return encoder
