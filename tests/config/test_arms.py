"""Arms, axes and exclusions of a sweep file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stdcl.config.arms import BASELINE, Arm, present_name, references_of, setting, stated_arm
from stdcl.config.sweep import Sweep, load_sweep
from stdcl.errors import UserError

ARMS: dict[str, Any] = {
    "name": "methods",
    "question": "Which method?",
    "base": {
        "recipe": "lite",
        "data": {"dataset": "nw-ucla", "path": "store"},
        "encoder": {"name": "ctrgcn"},
    },
    "arms": {
        "plain": {"method.name": "none"},
        "ours": {"contrast.temperature": 0.5},
        "rival": {"method.name": "frhead"},
    },
    "seeds": [1, 2],
}


def load(folder: Path, *overrides: str, without: tuple[str, ...] = (), **changes: Any) -> Sweep:
    content = {key: value for key, value in {**ARMS, **changes}.items() if key not in without}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return load_sweep(path, overrides)


def first_seed(sweep: Sweep) -> list[tuple[str, dict[str, Any]]]:
    return [(trial.arm, trial.parameters) for trial in sweep.trials() if trial.seed == 1]


def test_stated_arms_are_trained_with_every_seed_and_name_their_trials(tmp_path: Path) -> None:
    sweep = load(tmp_path)
    assert first_seed(sweep) == [("plain", {}), ("ours", {}), ("rival", {})]
    assert [t.config.arm for t in sweep.trials()[:3]] == ["none", "spatial+temporal", "frhead"]
    assert sweep.trials()[1].config.contrast.temperature == 0.5
    assert len(sweep.trials()) == 6
    assert [stated_arm(trial.key) for trial in sweep.trials()[:3]] == ["plain", "ours", "rival"]


def test_an_arm_is_the_training_that_a_grid_or_cells_describe(tmp_path: Path) -> None:
    stated = {trial.fingerprint for trial in load(tmp_path).trials()}
    cells = [{"method.name": "stdcl"}, {"method.name": "frhead"}]
    base = {**ARMS["base"], "contrast": {"temperature": 0.5}}
    derived = load(tmp_path, without=("arms",), cells=cells, baseline=True, base=base)
    assert {trial.fingerprint for trial in derived.trials()} == stated
    assert [arm for arm, _ in first_seed(derived)] == [BASELINE, "stdcl", "frhead"]


@pytest.mark.parametrize(
    ("changes", "reference"),
    [
        ({}, "plain"),
        ({"reference": "rival"}, "rival"),
        ({"arms": {"a": {}, "b": {"method.name": "frhead"}}}, "a"),
        ({"arms": {"a": {}, "b": {"contrast.strategy": "none"}}}, "b"),
    ],
)
def test_the_reference_is_the_named_arm_else_cross_entropy_else_the_first(
    tmp_path: Path, changes: dict[str, Any], reference: str
) -> None:
    assert load(tmp_path, **changes).reference == reference


def test_arms_multiply_with_the_axes_and_are_trained_once_where_they_read_nothing_of_it(tmp_path: Path) -> None:
    sweep = load(tmp_path, grid={"stream": ["joint", "bone"], "contrast.hard_positives": [64, 128]})
    cells = first_seed(sweep)
    assert cells.count(("plain", {"data.stream": "joint"})) == 1
    assert [arm for arm, _ in cells].count("plain") == 2
    assert [arm for arm, _ in cells].count("rival") == 2
    assert [arm for arm, _ in cells].count("ours") == 4
    assert sweep.parameters == ("data.stream", "contrast.hard_positives")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reference": "plane"}, r"'reference' is 'plane' \(did you mean 'plain'\?\); arms are plain, ours, rival"),
        ({"arms": {"a": {}, "b": {}}}, "the arms 'a' and 'b' are the same configuration"),
        ({"arms": {"a": {}, "b": {"contrast.temperature": 0.8}}}, "the arms 'a' and 'b' are the same configuration"),
        (
            {"arms": {"a": {"data.stream": "bone"}}, "grid": {"stream": ["joint", "bone"]}},
            "the arm 'a' sets 'data.stream', which the cells vary",
        ),
        (
            {"arms": {"a": {}, "b": {"method.name": "none", "contrast.temperature": 0.5}}},
            "the arm 'b': 'contrast.temperature' is read by STD-CL alone",
        ),
        (
            {"arms": {"a": {}, "b": {"contrast.weight_global": 2.0}}},
            "are the same configuration .*'contrast.weight_global' is",
        ),
        ({"arms": {"a": {}, "b": {"contrast.temprature": 2.0}}}, "did you mean 'temperature'"),
        ({"arms": {"a": {}, "b": {"contrast": {"temperature": 2.0}}}}, "'contrast' is a section; vary its keys"),
        ({"arms": {"a": {}, "b": {"training.seed": 2}}}, "seeds stand under 'seeds'"),
        ({"arms": {"grid": {}}}, "give another name"),
        ({"arms": {"a b": {}}}, "at most 40 letters"),
        ({"baseline": True}, "state it under 'arms', as in baseline: {method.name: none}"),
        ({"arms": {}, "grid": {"stream": ["bone"]}, "reference": "a"}, "'reference' names one of 'arms'"),
        ({"base": {**ARMS["base"], "contrast": {"temperature": 0.9}}}, "no trial would read 'contrast.temperature'"),
        ({"arms": {"a": {}, "b": {"contrast.temperature": -1}}}, "'contrast.temperature' is -1; it must be above 0"),
    ],
)
def test_wrong_arms_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(tmp_path, **changes)


def test_a_fault_of_an_arm_is_said_with_its_line_and_its_arm(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, arms={"a": {}, "b": {"contrast.temperature": -1}})
    line = next(n for n, text in enumerate((tmp_path / "sweep.yaml").read_text().splitlines(), 1) if "-1" in text)
    assert f"sweep.yaml:{line}: " in str(caught.value)
    assert "(in arm=b)" in str(caught.value)


def test_arms_can_be_given_on_the_command_line(tmp_path: Path) -> None:
    sweep = load(tmp_path, "arms={small: {training.batch_size: 8}, large: {training.batch_size: 32}}", "seeds=[1]")
    assert [(t.arm, t.config.training.batch_size) for t in sweep.trials()] == [("small", 8), ("large", 32)]


# ---- axes ------------------------------------------------------------------------------------------------------------


def test_short_names_of_axes_are_their_dotted_keys(tmp_path: Path) -> None:
    grid = {"encoder": ["ctrgcn", "hcn"], "stream": ["joint", "bone"]}
    short = load(tmp_path, grid=grid)
    long = load(tmp_path, grid={"encoder.name": grid["encoder"], "data.stream": grid["stream"]})
    assert [trial.key for trial in short.trials()] == [trial.key for trial in long.trials()]


def test_a_wrong_value_of_an_axis_is_said_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sweep.yaml:\d+: 'data.stream' is 'jiont' \(did you mean 'joint'\?\)"):
        load(tmp_path, grid={"stream": ["joint", "jiont"]})


SEVERAL = {"base": {"recipe": "lite", "encoder": {"name": "ctrgcn"}}, "grid": {"dataset": ["nw-ucla", "ntu60"]}}


def test_the_data_of_several_datasets_are_named_after_them(tmp_path: Path) -> None:
    paths = {trial.config.data.dataset: trial.config.data.path for trial in load(tmp_path, **SEVERAL).trials()}
    assert paths == {"nw-ucla": "nw-ucla", "ntu60": "ntu60"}
    sweep = load(tmp_path, **SEVERAL, paths={"ntu60": "/data/ntu"})
    paths = {trial.config.data.dataset: trial.config.data.path for trial in sweep.trials()}
    assert paths == {"nw-ucla": "nw-ucla", "ntu60": "/data/ntu"}
    assert sweep.datasets == ("nw-ucla", "ntu60")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": ARMS["base"]}, "'base.data.path' is one path, but the dataset is varied"),
        ({"paths": {"ntu6": "x"}}, r"'paths.ntu6' is the path of no dataset that the sweep varies \(did you mean"),
    ],
)
def test_one_path_for_several_datasets_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(tmp_path, **{**SEVERAL, **changes})


# ---- exclusions ------------------------------------------------------------------------------------------------------

PROTOCOLS = {**SEVERAL, "grid": {"dataset": ["ntu60", "ntu120"], "protocol": ["x-sub", "x-view", "x-set"]}}
IMPOSSIBLE = [{"dataset": "ntu60", "protocol": "x-set"}, {"dataset": "ntu120", "protocol": "x-view"}]


def test_rules_take_cells_out_of_the_product(tmp_path: Path) -> None:
    sweep = load(tmp_path, **PROTOCOLS, exclude=[*IMPOSSIBLE, {"arm": ["ours", "rival"], "protocol": "x-set"}])
    found = {(arm, *cell.values()) for arm, cell in first_seed(sweep)}
    pairs = {("ntu60", "x-sub"), ("ntu60", "x-view"), ("ntu120", "x-sub")}
    assert found == {(arm, *pair) for arm in ARMS["arms"] for pair in pairs} | {("plain", "ntu120", "x-set")}


def test_rules_hold_without_stated_arms_and_the_baseline_follows(tmp_path: Path) -> None:
    changes = {key: value for key, value in PROTOCOLS.items() if key != "arms"}
    sweep = load(tmp_path, without=("arms",), **changes, exclude=IMPOSSIBLE, baseline=True)
    assert [arm for arm, _ in first_seed(sweep)] == [BASELINE] * 4 + ["stdcl"] * 4


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"dataset": "ntu61"}, r"exclude, rule 1: 'data.dataset' has no value 'ntu61' \(did you mean 'ntu60'\?\)"),
        ({"stream": "joint"}, "'data.stream' is not varied; varied: data.dataset, data.protocol, arm"),
        ({"arm": "theirs"}, "'arm' has no value 'theirs'"),
        ({"seed": 1}, "every cell is trained with the same seeds"),
        ({}, "it names no key, and so every cell"),
        ({"protocol": ["x-sub", "x-view", "x-set"]}, "every cell is taken out"),
    ],
)
def test_wrong_rules_are_refused(tmp_path: Path, rule: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(tmp_path, **PROTOCOLS, exclude=[rule])


def test_a_rule_beside_cells_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of 'cells', leave them out"):
        load(tmp_path, cells=[{"stream": "joint"}], exclude=[{"stream": "joint"}])


# ---- what is comparable ----------------------------------------------------------------------------------------------


def test_cells_are_comparable_that_differ_in_what_is_trained_with_alone() -> None:
    here = {"encoder.name": "hcn", "data.stream": "joint"}
    assert setting({**here, "contrast.temperature": 0.5, "encoder.hook": "mid"}) == setting(here)
    assert setting({**here, "method.name": "gap"}) == setting({"data.stream": "joint", "encoder.name": "hcn"})
    for key, value in (("data.stream", "bone"), ("training.batch_size", 8), ("data.protocol", "x-sub")):
        assert setting({**here, key: value}) != setting(here)


def test_an_arm_reads_what_belongs_to_its_method() -> None:
    cell = {"data.stream": "joint", "contrast.temperature": 0.5, "method.weight": 1.0, "encoder.hook": "mid"}
    assert Arm("a", {}, "").own(cell) == {"data.stream": "joint"}
    assert set(Arm("a", {}, "stdcl").own(cell)) == {"data.stream", "contrast.temperature", "encoder.hook"}
    assert set(Arm("a", {}, "frhead").own(cell)) == {"data.stream", "method.weight", "encoder.hook"}


@pytest.mark.parametrize(
    ("arm", "parameters", "strategy", "name"),
    [
        ("grid", {"contrast.temperature": 0.5}, "", "stdcl"),
        ("grid", {"contrast.strategy": "none"}, "", "baseline"),
        ("grid", {"method.name": "gap"}, "", "gap"),
        ("grid", {}, "none", "baseline"),
        ("grid", {}, "frhead", "frhead"),
        ("grid", {}, "spatial", "stdcl"),
        ("baseline", {}, "none", "baseline"),
        ("ours", {"contrast.strategy": "none"}, "none", "ours"),
    ],
)
def test_arms_of_older_folders_get_the_name_of_what_was_trained_with(
    arm: str, parameters: dict[str, Any], strategy: str, name: str
) -> None:
    assert present_name(arm, parameters, strategy) == name


def test_a_reference_has_the_values_of_what_is_compared_with_it() -> None:
    low, high = {"contrast.temperature": 0.1}, {"contrast.temperature": 0.8}
    cells = [("a", low), ("a", high), ("b", low), ("b", high), ("plain", {})]
    found = references_of(cells, "a")
    assert found.of == (None, None, 0, 1, None)
    assert found.unclear == (4,), "it has no temperature to choose by"
    # A reference that reads no temperature is one cell for all of them; so is one that was trained at one alone.
    assert references_of(cells, "plain").of == (4, 4, 4, 4, None)
    assert references_of([("a", low), ("b", low), ("b", high)], "a").of == (None, 0, 0)


def test_a_reference_is_of_the_same_stream() -> None:
    cells = [("a", {"data.stream": "joint"}), ("b", {"data.stream": "joint"}), ("b", {"data.stream": "bone"})]
    found = references_of(cells, "a")
    assert found.of == (None, 0, None)
    assert found.unclear == ()
