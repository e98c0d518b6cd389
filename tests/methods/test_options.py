"""Options that belong together, and what the comparison methods refuse."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from stdcl.config import RunConfig, fingerprint, to_yaml
from stdcl.config.load import merge, resolve
from stdcl.config.yaml_text import parse_yaml
from stdcl.errors import UserError
from stdcl.methods.base import FeatureShapes
from stdcl.methods.frhead.method import FRHead, taps_of
from stdcl.methods.frhead.options import FRHeadOptions
from stdcl.methods.gap.options import GAPOptions
from stdcl.methods.skeletongcl.method import SkeletonGCL
from stdcl.methods.skeletongcl.options import SkeletonGCLOptions
from tests.methods.ranks import SHAPES, make_task


def test_the_penalty_moves_with_the_temperature() -> None:
    assert FRHeadOptions(name="frhead").penalty == FRHeadOptions(name="frhead").temperature == 0.125
    assert FRHeadOptions(name="frhead", temperature=0.5).penalty == 0.5
    assert FRHeadOptions(name="frhead", temperature=0.5, penalty=0.125).penalty == 0.125


def test_depths_and_their_weights_go_together() -> None:
    assert taps_of(FRHeadOptions(name="frhead")) == ("block1", "block5", "block8", "block10")
    with pytest.raises(ValidationError, match="depth_weights has 4 values, but depths has 2"):
        FRHeadOptions(name="frhead", depths=(1, 2))
    with pytest.raises(ValidationError, match="must increase"):
        FRHeadOptions(name="frhead", depths=(5, 1), depth_weights=(1.0, 1.0))


def test_frhead_says_what_does_not_fit() -> None:
    two = {"depths": (1, 5), "depth_weights": (1.0, 1.0)}
    with pytest.raises(UserError, match=r"method\.prototypes is 4, but the data have 5 classes"):
        FRHead(FRHeadOptions.model_validate({"name": "frhead", **two, "prototypes": 4}), make_task(), SHAPES)
    with pytest.raises(UserError, match="block1 has 12 frames and 20 joints; it must be at least 20"):
        FRHead(FRHeadOptions.model_validate({"name": "frhead", **two, "embedding_dim": 16}), make_task(), SHAPES)


def test_start_epoch_holds_the_terms_back() -> None:
    two = {"name": "frhead", "depths": (1, 5), "depth_weights": (0.5, 1.0), "start_epoch": 2, "embedding_dim": 24}
    method = FRHead(FRHeadOptions.model_validate(two), make_task(), SHAPES)
    assert method.weights(1) == {"block1": 0.0, "block5": 0.0}
    assert method.weights(2) == pytest.approx({"block1": 0.05, "block5": 0.1})


def test_skeletongcl_with_one_slot_a_clip_uses_what_exists() -> None:
    assert SkeletonGCLOptions(name="skeletongcl", slots="clip").shortage == "clamp"
    with pytest.raises(ValidationError, match="the loss needs negatives"):
        SkeletonGCLOptions(name="skeletongcl", hard_negatives=0, random_negatives=0)
    with pytest.raises(UserError, match="hard_positives"):
        SkeletonGCL(SkeletonGCLOptions(name="skeletongcl"), make_task(), SHAPES)
    shapes = FeatureShapes(SHAPES.feature_map, SHAPES.pooled, {"graph": (3, 20, 20)})
    options = SkeletonGCLOptions(name="skeletongcl", hard_positives=2, hard_negatives=4, random_negatives=4)
    assert SkeletonGCL(options, make_task(), shapes).head.project.in_features == 3 * 20 * 20


def run(method: dict[str, Any], **sections: dict[str, Any]) -> RunConfig:
    """Resolve a run on CTR-GCN and NW-UCLA; ``sections`` are put over it."""
    base = {"data": {"dataset": "nw-ucla", "path": "store"}, "encoder": {"name": "ctrgcn"}, "method": method}
    return resolve(merge(base, sections), "run.yaml")


def test_fair_leaves_the_recipe_and_release_brings_its_own() -> None:
    plain = resolve({"data": {"dataset": "ntu60", "path": "s"}, "encoder": {"name": "ctrgcn"}}, "run.yaml")
    for name in ("skeletongcl", "frhead", "gap"):
        fair = run({"name": name}, data={"dataset": "ntu60"})
        assert (fair.training, fair.data) == (plain.training, plain.data.model_copy(update={"path": "store"}))
    released = run({"name": "frhead", "preset": "release"}, data={"dataset": "ntu60"})
    assert released.training.epochs == 80
    assert isinstance(released.method, FRHeadOptions)
    assert (released.method.version, released.method.prototypes) == ("v0", 120)
    ntu120 = run({"name": "frhead", "preset": "release"}, data={"dataset": "ntu120", "protocol": "x-set"})
    assert isinstance(ntu120.method, FRHeadOptions)
    assert (ntu120.training.epochs, ntu120.method.version, ntu120.method.prototypes) == (70, "v1", 0)
    gap = run({"name": "gap", "preset": "release"})
    assert isinstance(gap.method, GAPOptions)
    assert (gap.training.batch_size, gap.training.learning_rate, gap.method.weight) == (64, 0.2, 1.0)
    assert (gap.data.stream, gap.data.orientation) == ("relative-6", "children")
    # The file is stronger than the preset.
    assert run({"name": "gap", "preset": "release"}, training={"epochs": 120}).training.epochs == 120


def test_gap_follows_the_dataset_and_the_stream() -> None:
    weights = {name: run({"name": "gap"}, data={"dataset": name}).method for name in ("nw-ucla", "ntu60")}
    assert {name: getattr(method, "weight", None) for name, method in weights.items()} == {"nw-ucla": 1.0, "ntu60": 0.8}
    for preset, parts in (("fair", "joint"), ("release", "released-bone")):
        method = run({"name": "gap", "preset": preset}, data={"dataset": "ntu60", "stream": "relative-1"}).method
        assert getattr(method, "parts", None) == parts


@pytest.mark.parametrize(
    ("encoder", "data", "temperature"),
    [
        ("ctrgcn", {"dataset": "ntu60", "stream": "bone"}, 0.5),
        ("ctrgcn", {"dataset": "ntu120", "stream": "bone-motion"}, 1.0),
        ("agcn", {"dataset": "ntu60", "protocol": "x-view", "stream": "joint-motion"}, 1.0),
        ("agcn", {"dataset": "nw-ucla"}, 0.8),
    ],
)
def test_released_temperatures(encoder: str, data: dict[str, str], temperature: float) -> None:
    method = run({"name": "skeletongcl", "preset": "release"}, data=data, encoder={"name": encoder}).method
    assert isinstance(method, SkeletonGCLOptions)
    assert (method.temperature, method.projection, method.exclude_own_slot) == (temperature, "frozen", False)
    fair = run({"name": "skeletongcl"}, data=data, encoder={"name": encoder}).method
    assert isinstance(fair, SkeletonGCLOptions)
    assert (fair.temperature, fair.projection, fair.exclude_own_slot) == (0.8, "trained", True)


def test_a_saved_configuration_says_everything() -> None:
    for method in ({"name": "gap", "preset": "release"}, {"name": "skeletongcl"}, {"name": "frhead"}):
        config = run(method)
        assert resolve(parse_yaml(to_yaml(config), "saved"), "saved") == config


def test_the_fingerprint_is_of_what_is_trained() -> None:
    plain = resolve({"data": {"dataset": "nw-ucla", "path": "s"}, "encoder": {"name": "ctrgcn"}}, "run.yaml")
    without = resolve(merge(yaml_of(plain), {"contrast": {"strategy": "none"}}), "run.yaml")
    assert fingerprint(run({"name": "stdcl"})) == fingerprint(plain)
    assert fingerprint(run({"name": "none"})) == fingerprint(without)
    assert run({"name": "none"}).method_name == ""
    assert run({"name": "stdcl"}).method_name == "stdcl"
    one = run({"name": "skeletongcl"})
    assert fingerprint(one) == fingerprint(run({"name": "skeletongcl", "exchange": "allgather"}))
    assert fingerprint(one) != fingerprint(run({"name": "skeletongcl", "temperature": 0.5}))
    assert len({fingerprint(run({"name": name})) for name in ("stdcl", "none", "skeletongcl", "frhead", "gap")}) == 5


def yaml_of(config: RunConfig) -> dict[str, Any]:
    return dict(parse_yaml(to_yaml(config), "saved"))


@pytest.mark.parametrize(
    ("method", "sections", "said"),
    [
        (
            {"name": "gapp"},
            {},
            r"'method.name' is 'gapp' \(did you mean 'gap'\?\); allowed: frhead, gap, protogcn, skeletongcl",
        ),
        ({"name": "frhead", "temprature": 1.0}, {}, r"unknown key 'method.temprature' .*did you mean 'temperature'"),
        ({"name": "gap", "start_epoch": 65}, {}, "method.start_epoch is 65, but training.epochs is 65"),
        ({"name": "gap"}, {"contrast": {"temperature": 0.5}}, "contrast is STD-CL's section, but method.name is 'gap'"),
        ({"name": "gap", "preset": "release"}, {"recipe": "lite"}, "goes with the recipes 'full' and 'none'"),
        (
            {"name": "frhead", "preset": "release"},
            {"data": {"dataset": "custom"}},
            "FR-Head released nothing for custom or ntu",
        ),
    ],
)
def test_what_does_not_go_together_is_said(method: dict[str, Any], sections: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        run(method, **sections)
