"""CTR-GCN equals the reference: golden numbers, initialisation, parameter counts."""

from __future__ import annotations

import pytest

from stdcl.encoders.ctrgcn import CTRGCN
from tests.encoders import golden


@pytest.mark.parametrize("dataset", ["nwucla", "ntu60"])
def test_golden(dataset: str) -> None:
    content = golden.load("ctrgcn", dataset)
    model = CTRGCN(golden.LAYOUTS[dataset])
    golden.fill(model, content)
    assert sum(p.numel() for p in model.parameters()) == content["n_trainable"]
    golden.compare(model, content, model.blocks, lambda y: y.permute(0, 3, 2, 1))
