"""Options that belong together, and what the comparison methods refuse."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from stdcl.errors import UserError
from stdcl.methods.base import FeatureShapes
from stdcl.methods.frhead.method import FRHead, taps_of
from stdcl.methods.frhead.options import FRHeadOptions
from stdcl.methods.skeletongcl.method import SkeletonGCL
from stdcl.methods.skeletongcl.options import SkeletonGCLOptions
from tests.methods.ranks import SHAPES, make_task


def test_the_penalty_moves_with_the_temperature() -> None:
    assert FRHeadOptions().penalty == FRHeadOptions().temperature == 0.125
    assert FRHeadOptions(temperature=0.5).penalty == 0.5
    assert FRHeadOptions(temperature=0.5, penalty=0.125).penalty == 0.125


def test_depths_and_their_weights_go_together() -> None:
    assert taps_of(FRHeadOptions()) == ("block1", "block5", "block8", "block10")
    with pytest.raises(ValidationError, match="depth_weights has 4 values, but depths has 2"):
        FRHeadOptions(depths=(1, 2))
    with pytest.raises(ValidationError, match="must increase"):
        FRHeadOptions(depths=(5, 1), depth_weights=(1.0, 1.0))


def test_frhead_says_what_does_not_fit() -> None:
    two = {"depths": (1, 5), "depth_weights": (1.0, 1.0)}
    with pytest.raises(UserError, match=r"method\.prototypes is 4, but the data have 5 classes"):
        FRHead(FRHeadOptions.model_validate({**two, "prototypes": 4}), make_task(), SHAPES)
    with pytest.raises(UserError, match="block1 has 12 frames and 20 joints; it must be at least 20"):
        FRHead(FRHeadOptions.model_validate({**two, "embedding_dim": 16}), make_task(), SHAPES)


def test_start_epoch_holds_the_terms_back() -> None:
    two = {"depths": (1, 5), "depth_weights": (0.5, 1.0), "start_epoch": 2, "embedding_dim": 24}
    method = FRHead(FRHeadOptions.model_validate(two), make_task(), SHAPES)
    assert method.weights(1) == {"block1": 0.0, "block5": 0.0}
    assert method.weights(2) == pytest.approx({"block1": 0.05, "block5": 0.1})


def test_skeletongcl_with_one_slot_a_clip_uses_what_exists() -> None:
    assert SkeletonGCLOptions(slots="clip").shortage == "clamp"
    with pytest.raises(ValidationError, match="the loss needs negatives"):
        SkeletonGCLOptions(hard_negatives=0, random_negatives=0)
    with pytest.raises(UserError, match="hard_positives"):
        SkeletonGCL(SkeletonGCLOptions(), make_task(), SHAPES)
    shapes = FeatureShapes(SHAPES.feature_map, SHAPES.pooled, {"graph": (3, 20, 20)})
    options = SkeletonGCLOptions(hard_positives=2, hard_negatives=4, random_negatives=4)
    assert SkeletonGCL(options, make_task(), shapes).head.project.in_features == 3 * 20 * 20
