"""The encoder that docs/encoders.md shows keeps the contract, and its record makes it a choice."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from stdcl import specs
from stdcl.encoders.base import Encoder, Layout
from stdcl.encoders.build import build_encoder
from stdcl.skeleton import NW_UCLA
from tests.encoders.contract import EncoderContract

PAGE = Path(__file__).parents[2] / "docs" / "encoders.md"
NETWORK, RECORD, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def module(name: str, code: str) -> ModuleType:
    made = ModuleType(name)
    exec(compile(code, str(PAGE), "exec", dont_inherit=True), made.__dict__)
    return made


class TestContract(EncoderContract):
    def build(self, layout: Layout) -> Encoder:
        encoder: Encoder = module("network", NETWORK).MeanPose(layout, width=128)
        return encoder


def test_the_record_makes_it_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    record = module("record", RECORD).SPECS[0]
    monkeypatch.setitem(sys.modules, record.build.partition(":")[0], module("network", NETWORK))
    known = {**specs.encoders(), record.name: record}
    monkeypatch.setattr(specs, "encoders", lambda: known)
    options = record.options.model_validate({"name": "mean_pose", "width": 8})
    layout = Layout(num_joints=20, num_persons=1, num_frames=16, num_classes=10, skeleton=NW_UCLA)
    assert build_encoder(options, layout).feature_shape() == (1, 8, 16, 20)
