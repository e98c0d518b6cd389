"""Sweep files: trials, their names, and refusals."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stdcl.config.arms import BASELINE
from stdcl.config.shipped import find_sweep
from stdcl.config.sweep import load_sweep
from stdcl.errors import UserError

ROOT = Path(__file__).resolve().parents[2]

GRID = """
name: tau
question: Which temperature?
base:
  recipe: lite
  data: {dataset: nw-ucla, path: store}
  encoder: {name: ctrgcn}
baseline: true
grid:
  contrast.temperature: [0.5, 0.8]
seeds: [1, 2]
"""

SEARCH = """
name: search
question: Which settings?
base:
  recipe: lite
  data: {dataset: nw-ucla, path: store}
  encoder: {name: ctrgcn}
search: optuna
space:
  contrast.temperature: {type: float, low: 0.3, high: 1.5, log: true}
  contrast.channel_reduction: {type: choices, values: [4, 8, 16]}
optuna: {trials: 4}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_sweep(write(folder, text), overrides)
    return str(caught.value)


def test_a_grid_lists_every_cell_for_every_seed(tmp_path: Path) -> None:
    trials = load_sweep(write(tmp_path, GRID)).trials()
    assert [(t.arm, t.parameters, t.seed) for t in trials if t.seed == 1] == [
        (BASELINE, {}, 1),
        ("stdcl", {"contrast.temperature": 0.5}, 1),
        ("stdcl", {"contrast.temperature": 0.8}, 1),
    ]
    assert len(trials) == 6
    assert len({t.key for t in trials}) == 6
    assert trials[0].config.contrast.strategy == "none"


def test_names_come_from_content_not_from_order(tmp_path: Path) -> None:
    before = {t.key for t in load_sweep(write(tmp_path, GRID)).trials()}
    more = GRID.replace("[0.5, 0.8]", "[1.0, 0.8, 0.5]").replace("[1, 2]", "[3, 2, 1]")
    after = {t.key for t in load_sweep(write(tmp_path, more)).trials()}
    assert before < after


def test_a_baseline_is_trained_once_for_each_value_that_concerns_it(tmp_path: Path) -> None:
    text = GRID.replace("grid:\n", "grid:\n  encoder.name: [ctrgcn, hcn]\n")
    trials = load_sweep(write(tmp_path, text), ["seeds=[1]"]).trials()
    baselines = [t.parameters for t in trials if t.arm == BASELINE]
    assert baselines == [{"encoder.name": "ctrgcn"}, {"encoder.name": "hcn"}]
    assert len(trials) == 2 + 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GRID.replace("contrast.temperature:", "contrast.temprature:"), "did you mean 'temperature'"),
        (GRID.replace("0.8]", "-1]"), "contrast.temperature=-1"),
        (GRID.replace("[0.5, 0.8]", "[0.5, 0.5]"), "repeats a value"),
        (GRID.replace("[0.5, 0.8]", "[]"), "has no values"),
        (GRID.replace("question:", "qustion:"), "did you mean 'question'"),
        (GRID.replace("seeds: [1, 2]", "seeds: [1, 1]"), "repeat"),
        (GRID.replace("name: tau", "name: a/b"), "'name' is 'a/b'"),
        (GRID.replace("contrast.temperature: [0.5, 0.8]", "training.seed: [1]"), "seeds stand under 'seeds'"),
        (GRID.replace("  encoder: {name: ctrgcn}\n", "  encoder: {name: ctrgcn}\n  resources: {}\n"), "at the top"),
        (GRID + "space: {}\noptuna: {}", "belong to search: optuna"),
        (SEARCH.replace("low: 0.3", "low: 3"), "must be below"),
        (SEARCH.replace("type: choices", "type: choice"), "did you mean 'choices'"),
        (SEARCH.replace("values: [4, 8, 16]", "values: [4, 0]"), "contrast.channel_reduction=0"),
        (SEARCH.replace("path: store", "path: store, evaluate_on: test"), "may not see the test set"),
    ],
)
def test_mistakes_are_refused_before_anything_starts(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(tmp_path, text)


def test_trials_that_run_alone(tmp_path: Path) -> None:
    config = load_sweep(write(tmp_path, GRID + "alone: true\n")).config
    assert [config.at_once(room) for room in (0, 1, 8)] == [0, 1, 1]
    config = load_sweep(write(tmp_path, GRID), ["max_concurrent_trials=3"]).config
    assert [config.at_once(room) for room in (1, 8)] == [1, 3]
    said = refusal(tmp_path, GRID + "alone: true\nmax_concurrent_trials: 2\n")
    assert "alone: true runs one trial at a time, but max_concurrent_trials is 2" in said


def test_a_search_never_sees_the_test_set(tmp_path: Path) -> None:
    sweep = load_sweep(write(tmp_path, SEARCH))
    trial = sweep.make_trial("stdcl", {"contrast.temperature": 0.7, "contrast.channel_reduction": 4}, 1)
    assert trial.config.data.evaluate_on == "validation"
    assert sweep.trials() == []


def test_overrides_reach_the_sweep_and_the_run(tmp_path: Path) -> None:
    sweep = load_sweep(write(tmp_path, GRID), ["seeds=[5]", "training.epochs=7", "resources.workers=4", "recipe=full"])
    trial = sweep.trials()[0]
    assert (trial.seed, trial.config.training.epochs, trial.config.resources.workers) == (5, 7, 4)
    assert trial.config.recipe == "full"


@pytest.mark.parametrize("override", ["sedes=[1]", "resources.worker=2", "base.training.epoch=3", "grid.a=1"])
def test_misspelt_overrides_are_refused(tmp_path: Path, override: str) -> None:
    assert override in refusal(tmp_path, GRID, override)


@pytest.mark.parametrize("file", sorted((ROOT / "sweeps").rglob("*.yaml")), ids=lambda p: p.name)
def test_shipped_sweeps_are_valid(file: Path) -> None:
    load_sweep(file)


def test_every_bad_cell_and_every_bad_key_is_said_at_once(tmp_path: Path) -> None:
    text = GRID.replace("[0.5, 0.8]", "[-1, 0, 0.8]") + "  # end\n"
    said = refusal(tmp_path, text).splitlines()
    line = text[: text.index("contrast.temperature")].count("\n") + 1
    assert [part.partition(": ")[0].rpartition("sweep.yaml")[2] for part in said] == [f":{line}", f":{line}"]
    assert "is -1" in said[0]
    assert "is 0" in said[1]
    unknown = refusal(tmp_path, SEARCH.replace("temperature", "temprature").replace("channel_reduction", "chanel"))
    assert len(unknown.splitlines()) == 2


def test_a_fault_of_the_base_is_said_once_with_its_line(tmp_path: Path) -> None:
    said = refusal(tmp_path, GRID.replace("path: store", "path: store, repeet: 2"))
    assert len(said.splitlines()) == 1
    assert "sweep.yaml:6: unknown key 'data.repeet'" in said
    assert "did you mean 'repeat'" in said


def test_a_typo_inside_a_range_gets_the_nearest_spelling(tmp_path: Path) -> None:
    said = refusal(tmp_path, SEARCH.replace("high: 1.5", "hihg: 1.5"))
    assert "did you mean 'high'" in said


def test_a_grid_over_slots_needs_no_second_key(tmp_path: Path) -> None:
    text = GRID.replace("contrast.temperature: [0.5, 0.8]", "contrast.slots: [item, clip]")
    shortages = {
        t.config.contrast.readings.shortage for t in load_sweep(write(tmp_path, text)).trials() if t.arm == "stdcl"
    }
    assert shortages == {"skip", "clamp"}


CELLS = """
name: methods
question: Which method?
base:
  recipe: lite
  data: {dataset: nw-ucla, path: store}
  encoder: {name: ctrgcn}
  contrast: {temperature: 0.5}
baseline: true
cells:
  - {encoder.name: ctrgcn, method.name: frhead}
  - {encoder.name: ctrgcn, method.name: stdcl}
  - {encoder.name: hyperformer, method.name: stdcl}
seeds: [1, 2]
"""


def test_cells_are_listed_one_by_one(tmp_path: Path) -> None:
    trials = load_sweep(write(tmp_path, CELLS)).trials()
    first = [(t.arm, t.config.encoder.name, t.config.arm) for t in trials if t.seed == 1]
    assert first == [
        (BASELINE, "ctrgcn", "none"),
        (BASELINE, "hyperformer", "none"),
        ("frhead", "ctrgcn", "frhead"),
        ("stdcl", "ctrgcn", "spatial+temporal"),
        ("stdcl", "hyperformer", "spatial+temporal"),
    ]
    # The base's contrast is STD-CL's: another method does not read it, and refuses it in a run.
    by_arm = {t.config.arm: t.config.contrast.temperature for t in trials if t.seed == 1}
    assert by_arm == {"none": 0.8, "frhead": 0.8, "spatial+temporal": 0.5}
    assert trials[2].key.startswith("encoder=ctrgcn,method=frhead,seed=1,")


def test_a_grid_over_methods(tmp_path: Path) -> None:
    text = GRID.replace("baseline: true\n", "").replace(
        "contrast.temperature: [0.5, 0.8]", "method.name: [none, stdcl, gap]"
    )
    trials = load_sweep(write(tmp_path, text)).trials()
    assert [t.config.arm for t in trials if t.seed == 1] == ["none", "spatial+temporal", "gap"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("method.name: frhead}", "data.stream: bone}", "each of 'cells' must give a value for the same keys"),
        ("cells:", "grid: {training.batch_size: [16]}\ncells:", "'grid' and 'cells' both list cells"),
        ("encoder.name: hyperformer, method.name: stdcl", "encoder.name: ctrgcn, method.name: stdcl", "are the same"),
        ("method.name", "method.nam", r"sweep.yaml:11: 'cells': unknown key 'method.nam'"),
        ("method.name: frhead", "method.name: fr-head", r"'method.name' is 'fr-head' \(did you mean 'frhead'\?\)"),
    ],
)
def test_wrong_cells_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert re.search(said, refusal(tmp_path, CELLS.replace(old, new)))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("contrast.temperature=99", r"--set 'grid=\{\"contrast.temperature\": \[99\]\}'"),
        ("base.contrast.temperature=0.5", r"no trial would read 'contrast.temperature': it is varied under 'grid'"),
        ("training.seed=7", r"no trial would read 'training.seed'.*--set 'seeds=\[7\]'"),
        ("contrast.weight_global=2", "the weight of a loss that is not there; contrast.strategy is 'spatial"),
        ("training.decay=0.5", "not read by the schedule 'cosine'"),
        ("data.orientation=children", "relative streams alone"),
        ("data.validation_fraction=0.4", "evaluate_on: validation alone"),
    ],
)
def test_a_key_that_no_trial_reads_is_refused(tmp_path: Path, override: str, said: str) -> None:
    found = refusal(tmp_path, GRID, override)
    assert found.startswith(f"--set {override}: ")
    assert re.search(said, found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            GRID.replace("recipe: lite\n", "recipe: lite\n  training: {seed: 3}\n"),
            "sweep.yaml:6: no trial would read 'tra",
        ),
        (GRID.replace("baseline", "  contrast: {temperature: 9}\nbaseline"), "it is varied under 'grid'"),
        (SEARCH.replace("search:", "  contrast: {temperature: 9}\nsearch:"), "it is varied under 'space'"),
        (GRID.replace("contrast.temperature: [0.5, 0.8]", "contrast.weight_global: [1, 2]"), "that is not there"),
        (
            GRID.replace("contrast.temperature: [0.5, 0.8]", "training.decay: [0.1, 0.2]"),
            "'training.decay' is not read by the schedule",
        ),
    ],
)
def test_what_no_trial_reads_is_refused_in_a_file(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_a_base_may_repeat_a_value_that_is_trained(tmp_path: Path) -> None:
    text = GRID.replace("baseline", "  contrast: {temperature: 0.8}\nbaseline")
    assert len(load_sweep(write(tmp_path, text)).trials()) == 6


def test_a_saved_sweep_of_an_earlier_version_is_read_with_keys_in_vain(tmp_path: Path) -> None:
    text = GRID.replace("recipe: lite\n", "recipe: lite\n  training: {seed: 3}\n")
    assert len(load_sweep(write(tmp_path, text), saved=True).trials()) == 6


@pytest.mark.parametrize(
    "grid",
    [
        "training: [{learning_rate: 0.01}, {learning_rate: 0.02}]",
        "training: [{learning_rate: 0.01}]\n  training.learning_rate: [0.1]",
        "data: [{path: elsewhere}]",
        "training: [{seed: 4}]",
        "data.synthetic: [null, {seed: 4}]",
        "encoder: [{name: hcn}]",
    ],
)
def test_a_section_is_no_value_of_a_grid(tmp_path: Path, grid: str) -> None:
    text = GRID.replace("contrast.temperature: [0.5, 0.8]", grid)
    assert "is a section; vary its keys, as in " in refusal(tmp_path, text)
    key = grid.split(": ")[0]
    cells = text[: text.index("grid:")] + f"cells:\n  - {{{key}: {{seed: 4}}}}\n"
    assert f"'cells': '{key}' is a section" in refusal(tmp_path, cells)


def test_the_order_of_a_grid_does_not_decide_what_is_trained(tmp_path: Path) -> None:
    text = GRID.replace("contrast.temperature: [0.5, 0.8]", "encoder.dropout: [0.1]\n  encoder.name: [hcn]")
    text = text.replace("  encoder: {name: ctrgcn}\n", "")
    (trial,) = load_sweep(write(tmp_path, text), ["seeds=[1]", "baseline=false"]).trials()
    assert trial.config.encoder.model_dump()["dropout"] == 0.1


def test_a_search_cannot_draw_what_it_is_judged_on(tmp_path: Path) -> None:
    text = SEARCH.replace(
        "contrast.temperature: {", "data.evaluate_on: {type: choices, values: [test]}\n  contrast.temperature: {"
    )
    assert "may not see the test set" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("name=train", "that of the folder of single runs"),
        ("seeds=[9223372036854775808]", "must be below 9223372036854775808"),
        ("seeds=[18446744073709551617]", "must be below 9223372036854775808"),
    ],
)
def test_a_reserved_name_and_seeds_that_would_equal_others_are_refused(change: str, said: str) -> None:
    file = find_sweep("ablation_tau")
    with pytest.raises(UserError, match=said):
        load_sweep(file, [change])
    load_sweep(file, ["seeds=[9223372036854775807]", "name=training"])


@pytest.mark.parametrize(("written", "read"), [("2", "2"), ("4a", "4a"), ("temperature", "temperature"), ("'3'", "3")])
def test_a_table_is_named_with_or_without_quotes(tmp_path: Path, written: str, read: str) -> None:
    assert load_sweep(write(tmp_path, f"{GRID}table: {written}\n")).config.table == read


@pytest.mark.parametrize("written", ["a/b", "../x", "''", "true", "[1]"])
def test_a_table_names_files_so_it_is_a_plain_word(tmp_path: Path, written: str) -> None:
    assert "'table'" in refusal(tmp_path, f"{GRID}table: {written}\n")


def test_cells_that_differ_in_what_the_baseline_does_not_read_share_it(tmp_path: Path) -> None:
    text = GRID.replace("ctrgcn", "hcn").replace("contrast.temperature: [0.5, 0.8]", "encoder.hook: [final, mid]")
    trials = load_sweep(write(tmp_path, text), ["seeds=[1]"]).trials()
    assert [(t.arm, t.parameters) for t in trials] == [
        (BASELINE, {}),
        ("stdcl", {"encoder.hook": "final"}),
        ("stdcl", {"encoder.hook": "mid"}),
    ]


def test_a_sweep_extends_another_by_one_level(tmp_path: Path) -> None:
    write(tmp_path, GRID)
    child = tmp_path / "child.yaml"
    text = "extends: sweep.yaml\nname: own\nquestion: Which r?\nbase: {data: {stream: bone}}\n"
    text += "cells:\n  - {contrast.channel_reduction: 4}\n"
    child.write_text(text)
    sweep = load_sweep(child)
    assert (sweep.config.name, sweep.parameters, sweep.config.seeds) == ("own", ("contrast.channel_reduction",), [1, 2])
    assert {t.config.data.stream for t in sweep.trials()} == {"bone"}
    for change, said in (
        (("name: own\n", ""), "needs a 'name' and a 'question' of its own"),
        (("extends: sweep.yaml", "extends: child.yaml"), "one level is allowed"),
        (("extends: sweep.yaml", "extends: sweeep.yaml"), "did you mean"),
        (("extends: sweep.yaml", "extends: [1]"), "child.yaml:1: 'extends' is [1]"),
    ):
        child.write_text(text.replace(*change))
        with pytest.raises(UserError, match=re.escape(said)):
            load_sweep(child)
        child.write_text(text)


def test_names_of_shipped_sweeps_are_their_own() -> None:
    names = [load_sweep(file).config.name for file in (ROOT / "sweeps").rglob("*.yaml")]
    assert len(set(names)) == len(names)
