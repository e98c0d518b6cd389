from __future__ import annotations

import pytest
import torch

from stdcl.config.contrast import ContrastConfig
from stdcl.methods.stdcl.feasibility import feasibility
from stdcl.methods.stdcl.module import STDCLLoss


def test_one_slot_a_clip_of_nw_ucla_is_refused_with_numbers() -> None:
    """Trap 13: 96 to 124 clips a class against 128 positives."""
    labels = torch.repeat_interleave(torch.arange(10), torch.tensor([96, 124, 100, 102, 101, 103, 99, 97, 98, 100]))
    (problem,) = feasibility(ContrastConfig(slots="clip"), labels).problems
    for part in ("128 positive(s)", "10 of 10 classes", "96 to 124", "at most 123", "clamp", "slots: item"):
        assert part in problem
    assert feasibility(ContrastConfig(slots="clip", shortage="clamp"), labels).problems == ()
    assert feasibility(ContrastConfig(), labels.repeat(5)).problems == ()


def test_the_own_slot_counts() -> None:
    labels = torch.arange(20) % 2
    few = {"hard_negatives": 2, "random_negatives": 2, "hard_positives": 10}
    assert len(feasibility(ContrastConfig(**few), labels).problems) == 1
    assert feasibility(ContrastConfig(**few, exclude_own_slot=False), labels).problems == ()


def test_negatives() -> None:
    labels = torch.tensor([0] * 300 + [1] * 200)
    found = feasibility(ContrastConfig(), labels)
    assert found.problems[0].startswith("contrast.hard_negatives, contrast.random_negatives: an anchor needs 512")
    assert "300 negatives" in found.problems[0]
    assert feasibility(ContrastConfig(strategy="none"), labels).problems == ()
    (problem,) = feasibility(ContrastConfig(shortage="clamp"), torch.zeros(9)).problems
    assert "no negatives" in problem


@pytest.mark.parametrize("slots", ["item", "clip"])
@pytest.mark.parametrize(("shortage", "left_out"), [("skip", 4), ("clamp", 1)])
def test_a_long_tail_trains_without_the_anchors_that_lack_candidates(shortage: str, left_out: int, slots: str) -> None:
    """Classes of 12, 12, 3 and 1 slots; eight positives are asked for."""
    labels = torch.tensor([0] * 12 + [1] * 12 + [2] * 3 + [3])
    options = ContrastConfig.model_validate(
        {
            "slots": slots,
            "shortage": shortage,
            "hard_positives": 8,
            "hard_negatives": 4,
            "random_negatives": 4,
            "channel_reduction": 2,
        }
    )
    found = feasibility(options, labels)
    assert found.problems == ()
    (remark,) = found.remarks
    assert f"the {left_out} slots of {2 if shortage == 'skip' else 1} of 4 classes" in remark
    torch.manual_seed(0)
    loss = STDCLLoss((6, 4, 5), labels, batch_size=28, axes="NCTV", options=options)
    features = torch.randn(28, 6, 4, 5, requires_grad=True)
    total = sum(loss(features, torch.arange(28)).values(), torch.zeros(()))
    assert torch.isfinite(total)
    total.backward()
    assert features.grad is not None
    untouched = features.grad.flatten(1).eq(0).all(dim=1)
    assert int(untouched.sum()) == left_out
    assert untouched[-left_out:].all()


def test_classes_of_one_slot_each_have_no_positives() -> None:
    (problem,) = feasibility(ContrastConfig(shortage="clamp"), torch.arange(600)).problems
    assert "raise data.repeat" in problem
