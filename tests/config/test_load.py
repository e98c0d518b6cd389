"""Run files: what is accepted, and how each kind of mistake is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from stdcl import specs
from stdcl.config import fingerprint, read_run_file, to_yaml
from stdcl.config.keys import all_paths, check_path, fields_of, models_at
from stdcl.config.load import read_recipe, resolve
from stdcl.config.model import RunConfig
from stdcl.config.section import Auto
from stdcl.config.yaml_text import parse_yaml
from stdcl.errors import UserError

GOOD = """
recipe: lite
data: {dataset: nw-ucla, path: store}
encoder: {name: ctrgcn}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        read_run_file(write(folder, text), overrides)
    return str(caught.value)


def test_settled_values_are_written_out(tmp_path: Path) -> None:
    config = read_run_file(write(tmp_path, GOOD))
    assert config.data.protocol == "cross-view"
    assert config.data.frames == 26
    assert config.data.convention == "plain"
    assert config.training.batch_size == 16


def test_a_saved_configuration_loads_to_the_same(tmp_path: Path) -> None:
    config = read_run_file(write(tmp_path, GOOD), ["contrast.temperature=0.5", "training.learning_rate=1e-2"])
    again = read_run_file(write(tmp_path, to_yaml(config)))
    assert again == config
    assert fingerprint(again) == fingerprint(config)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("contrast: {temprature: 0.5}", ["'contrast.temprature'", "0.5", "did you mean 'temperature'"]),
        ("contrast: {temperature: cold}", ["'contrast.temperature'", "'cold'", "number"]),
        ("contrast: {temperature: 0}", ["'contrast.temperature'", "above 0"]),
        ("contrast: {strategy: spatial+temporl}", ["did you mean 'spatial+temporal'"]),
        ("training: {epochs: 2.5}", ["'training.epochs'", "2.5", "whole number"]),
        ("training: {epochs: true}", ["'training.epochs'", "true", "whole number"]),
        ("contrast: {embedding_dim: 100000000}", ["'contrast.embedding_dim' is 100000000", "at most 16384"]),
        ("training: {warmup_epochs: 99}", ["warmup_epochs (99)"]),
        ("learning_rate: 0.1", ["unknown key 'learning_rate'", "training.learning_rate"]),
        ("resources: {workers: 2, gpus_per_worker: 0.5}", ["gpus_per_worker", "allowed are 0 and 1"]),
        ("resources: {workers: 99}", ["training.batch_size (16)", "resources.workers (99)"]),
        ("contrast: {hard_negatives: 0, random_negatives: 0}", ["needs negatives"]),
        ("contrast: {start_epoch: 500}", ["start_epoch is 500", "never run"]),
        ("recipe: ful", ["'recipe' is 'ful'", "did you mean 'full'"]),
    ],
)
def test_mistakes_are_answered_with_file_key_value_and_rule(tmp_path: Path, change: str, expected: list[str]) -> None:
    said = refusal(tmp_path, GOOD.replace("recipe: lite\n", "") + change if "recipe" in change else GOOD + change)
    assert "run.yaml" in said
    for part in expected:
        assert part in said


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD + "contrast: {temprature: 1, embedding_dim: -3}\ntraining: {epochs: x}")
    assert len(said.splitlines()) == 3


def test_encoder_options_belong_to_their_encoder(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD.replace("name: ctrgcn", "name: ctrgcn, hook: mid"))
    assert "encoder.hook" in said
    said = refusal(tmp_path, GOOD.replace("ctrgcn", "ctr-gcn"))
    assert "did you mean 'ctrgcn'" in said


def test_protocols_belong_to_their_dataset(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD, "data.protocol=x-sub")
    assert "nw-ucla does not have" in said
    assert "cross-view" in said


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    assert "is given twice" in refusal(tmp_path, GOOD + "data: {dataset: ntu60, path: x}")


@pytest.mark.parametrize("text", ["contrast.temperature", "=3", ".a=3", "a..b=3"])
def test_malformed_overrides_are_refused(tmp_path: Path, text: str) -> None:
    assert "a.b=value" in refusal(tmp_path, GOOD, text)


def test_misspelt_overrides_are_refused(tmp_path: Path) -> None:
    assert "did you mean 'temperature'" in refusal(tmp_path, GOOD, "contrast.temprature=1")


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(UserError, match="did you mean"):
        read_run_file(tmp_path / "rum.yaml")


def test_yaml_numbers_with_exponents_are_numbers() -> None:
    assert parse_yaml("[1e-4, 1E3, -2.5e-3, .5e1]", "here") == [1e-4, 1000.0, -0.0025, 5.0]


def test_yaml_cannot_construct_objects() -> None:
    with pytest.raises(UserError, match="not valid YAML"):
        parse_yaml("!!python/object/apply:os.getcwd []", "here")


def test_fingerprint_ignores_what_cannot_change_a_result(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    base = fingerprint(read_run_file(path))
    for same in (
        "data.path=elsewhere",
        "resources.workers=4",
        "tracking.wandb=disabled",
        "contrast.exchange=allgather",
    ):
        assert fingerprint(read_run_file(path, [same])) == base
    for other in ("training.seed=2", "contrast.temperature=0.5", "data.stream=bone", "training.batch_norm=local"):
        assert fingerprint(read_run_file(path, [other])) != base


def test_fingerprint_of_local_batch_norm_knows_the_workers(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    local = [["training.batch_norm=local", f"resources.workers={n}"] for n in (1, 2)]
    assert fingerprint(read_run_file(path, local[0])) != fingerprint(read_run_file(path, local[1]))


def test_fingerprint_without_contrast_ignores_contrast_options(tmp_path: Path) -> None:
    plain = [
        read_run_file(write(tmp_path, GOOD + f"contrast: {{strategy: none, temperature: {t}}}")) for t in (0.5, 1.0)
    ]
    assert fingerprint(plain[0]) == fingerprint(plain[1])


def test_every_recipe_resolves() -> None:
    for encoder in specs.encoders():
        for dataset, protocol in ((name, p) for name, spec in specs.datasets().items() for p in spec.protocols):
            for kind in ("full", "lite"):
                raw = {
                    "recipe": kind,
                    "data": {"dataset": dataset, "path": "x", "protocol": protocol},
                    "encoder": {"name": encoder},
                }
                assert resolve(raw, "test").training.epochs > 0


def test_unknown_recipe_is_refused() -> None:
    with pytest.raises(UserError, match="no 'tiny' recipe"):
        read_recipe("ctrgcn", ("nw-ucla",), "tiny")


def test_a_recipe_that_an_encoder_lacks_is_refused_with_those_it_has(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD.replace("recipe: lite", "recipe: ablation").replace("ctrgcn", "infogcn"))
    assert "no 'ablation' recipe for encoder infogcn on nw-ucla; set recipe: lite or full, or recipe: none" in said


def test_every_listed_path_is_a_path() -> None:
    for path in all_paths():
        check_path(path, "test")


def test_a_fault_names_the_line_of_its_key_or_the_override_that_gave_it(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD + "contrast:\n  temperature: -1\n  embedding_dim: 0\n").splitlines()
    line = GOOD.count("\n") + 2
    assert [text.partition(": ")[0].rpartition("run.yaml")[2] for text in said] == [f":{line}", f":{line + 1}"]
    said = refusal(tmp_path, GOOD, "contrast.temperature=-1", "contrast.temprature=1", "training.epochs.x=1")
    assert "--set contrast.temperature=-1: 'contrast.temperature' is -1; it must be above 0" in said
    assert "did you mean 'temperature'" in said
    assert "'training.epochs' is a value, not a section" in said


def test_all_impossible_combinations_are_said_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD + "resources: {workers: 99}\ncontrast: {start_epoch: 500}\n")
    for part in ("resources.workers (99)", "start_epoch is 500"):
        assert part in said
    assert len(said.splitlines()) == 2


def test_a_key_of_another_encoder_is_said_to_be_that(tmp_path: Path) -> None:
    assert "it is a key of name: hcn, not of name: ctrgcn" in refusal(tmp_path, GOOD, "encoder.hook=mid")


def test_without_a_recipe_found_its_keys_are_not_called_missing(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD.replace("ctrgcn", "ctr-gcn"))
    assert "did you mean 'ctrgcn'" in said
    assert "missing" not in said


@pytest.mark.parametrize("text", ["? [1, 2]\n: 3\n", "&a [*a]: 1\n", "{" * 3000])
def test_strange_yaml_is_an_error_of_the_user(tmp_path: Path, text: str) -> None:
    assert "not valid YAML" in refusal(tmp_path, text)


def test_one_slot_a_clip_means_using_what_exists(tmp_path: Path) -> None:
    config = read_run_file(write(tmp_path, GOOD), ["contrast.slots=clip"])
    assert config.contrast.readings.shortage == "clamp"
    assert read_run_file(write(tmp_path, to_yaml(config))) == config
    asked = read_run_file(write(tmp_path, GOOD), ["contrast.slots=clip", "contrast.shortage=skip"])
    assert asked.contrast.readings.shortage == "skip"


def test_the_weights_of_the_release_are_a_preset(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    printed, release = read_run_file(file), read_run_file(file, ["contrast.weights=release"])
    assert (printed.contrast.weight_spatial, printed.contrast.weight_temporal) == (1.0, 1.0)
    assert (release.contrast.weight_spatial, release.contrast.weight_temporal) == (0.5, 0.5)
    assert read_run_file(file, ["contrast.weights=release", "contrast.weight_spatial=2"]).contrast.weight_spatial == 2.0
    # The numbers are the configuration; the preset is only a name for them.
    assert fingerprint(release) == fingerprint(
        read_run_file(file, ["contrast.weight_spatial=0.5", "contrast.weight_temporal=0.5"])
    )


def test_an_override_that_nothing_reads_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD, "contrast.strategy=spatial", "contrast.weight_temporal=2", "training.decay=0.5")
    assert said.splitlines() == [
        "--set contrast.weight_temporal=2: 'contrast.weight_temporal' is the weight of a loss that is not there; "
        "contrast.strategy is 'spatial'; leave it out",
        "--set training.decay=0.5: 'training.decay' is not read by the schedule 'cosine', which falls to zero; "
        "leave it out",
    ]
    with_method = refusal(tmp_path, GOOD, "method.name=none", "contrast.temperature=2")
    assert "is read by STD-CL alone; cross-entropy alone is trained" in with_method


@pytest.mark.parametrize(
    ("decides", "unread"),
    [
        ("contrast: {strategy: spatial, weight_temporal: %s}", (1.0, 2.0)),
        ("contrast: {strategy: global, channel_reduction: %s}", (8, 4)),
        ("training: {schedule: cosine, decay: %s}", (0.1, 0.5)),
        ("training: {optimizer: adam, momentum: %s}", (0.9, 0.5)),
        ("encoder: {name: hcn, hook: %s}\ncontrast: {strategy: none}", ("final", "mid")),
        ("data: {dataset: nw-ucla, path: store, orientation: %s}", ("parent", "children")),
        ("data: {dataset: nw-ucla, path: store, augment: false, rotation: %s}", ("true", "false")),
    ],
)
def test_what_nothing_reads_does_not_change_the_fingerprint(
    tmp_path: Path, decides: str, unread: tuple[str, str]
) -> None:
    kept = [line for line in GOOD.splitlines() if line and line.split(":")[0] not in decides]
    texts = ["\n".join([*kept, decides % value]) for value in unread]
    one, other = (read_run_file(write(tmp_path, text)) for text in texts)
    assert one != other
    assert fingerprint(one) == fingerprint(other)


def test_sizes_that_no_machine_holds_are_refused_before_any_allocation(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD, "data.frames=100000", "contrast.embedding_dim=100000000")
    assert said.splitlines() == [
        "--set data.frames=100000: 'data.frames' is 100000; it must be at most 10000",
        "--set contrast.embedding_dim=100000000: 'contrast.embedding_dim' is 100000000; it must be at most 16384",
    ]


def test_the_types_of_a_resolved_run_hold_no_auto() -> None:
    holding = set[str]()
    for path in all_paths():
        *section, name = path.split(".")
        for info in fields_of(models_at(RunConfig, section))[name]:
            if "auto" in (info.default, *get_args(info.annotation)):
                holding.add(path)
    # Decided where the training starts, since it depends on an account there.
    assert holding == {"tracking.wandb"}


@pytest.mark.parametrize("encoder", list(specs.encoders()))
def test_auto_is_what_is_left_out(encoder: str) -> None:
    raw: dict[str, Any] = {"data": {"dataset": "nw-ucla", "path": "x", "stream": "bone"}, "encoder": {"name": encoder}}
    config = resolve(raw, "test")
    marked = [("data", name) for name in ("frames", "convention")]
    options = type(config.encoder).model_fields
    marked += [("encoder", name) for name in options if any(isinstance(m, Auto) for m in options[name].metadata)]
    asked = {section: {**raw[section], **{key: "auto" for at, key in marked if at == section}} for section in raw}
    assert resolve({**raw, **asked}, "test") == config
    assert "auto" not in [getattr(getattr(config, section), key) for section, key in marked]
