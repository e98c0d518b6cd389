from __future__ import annotations

import torch

from stdcl.config.contrast import ContrastConfig
from stdcl.methods.stdcl.feasibility import check_feasible


def test_one_slot_a_clip_of_nw_ucla_is_refused_with_numbers() -> None:
    """Trap 13: 96 to 124 clips a class against 128 positives."""
    labels = torch.repeat_interleave(torch.arange(10), torch.tensor([96, 124, 100, 102, 101, 103, 99, 97, 98, 100]))
    (problem,) = check_feasible(ContrastConfig(slots="clip"), labels)
    for part in ("128 positive(s)", "10 of 10 classes", "96 to 124", "at most 95", "clamp", "slots: item"):
        assert part in problem
    assert check_feasible(ContrastConfig(slots="clip", shortage="clamp"), labels) == []
    assert check_feasible(ContrastConfig(), labels.repeat(5)) == []


def test_the_own_slot_counts() -> None:
    labels = torch.arange(20) % 2
    few = {"hard_negatives": 2, "random_negatives": 2, "hard_positives": 10}
    assert len(check_feasible(ContrastConfig(**few), labels)) == 1
    assert check_feasible(ContrastConfig(**few, exclude_own_slot=False), labels) == []


def test_negatives() -> None:
    labels = torch.tensor([0] * 300 + [1] * 200)
    (problem,) = check_feasible(ContrastConfig(), labels)
    assert "512 negatives" in problem
    assert "at least 200" in problem
    assert check_feasible(ContrastConfig(strategy="none"), labels) == []
    (problem,) = check_feasible(ContrastConfig(shortage="clamp"), torch.zeros(9))
    assert "no negatives" in problem
